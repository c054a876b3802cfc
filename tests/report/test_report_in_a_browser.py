"""The pages in a real browser: nothing fails, and phone and A4 paper can be read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import six_seeds
from headless_chromium import look_at, needs_chromium

from report.figures.style import STYLE
from report.numbers.over_seeds.study import analyse_study
from report.page.studies.study import render_study
from report.run.study import read_study

PHONE, PAPER = 390.0, (210 - 2 * 12) / 25.4 * 96
"""Widths in CSS pixels: of a usual phone, and of what the margins leave of A4."""
POINT = 96 / 72
"""CSS pixels."""
# The page stands in a frame as wide as each medium, every folded part open; on paper the rules
# for print are those that hold. Afterwards the page is as it was, so that it can be printed.
LOOK = """
const widths = WIDTHS;
const whole = document.documentElement.outerHTML.replace(/<script>[^]*<\\/script>/, "");
const named = one => `${one.tagName} ${one.className} ${one.textContent.trim().slice(0, 40)}`;
const frames = Object.entries(widths).map(([name, width]) => {
  const frame = document.createElement("iframe");
  frame.style = `width: ${width}px; height: 900px; border: 0`;
  frame.srcdoc = whole;
  document.body.append(frame);
  return [name, frame];
});
function asPrinted(page) {
  for (const sheet of page.styleSheets)
    for (const rule of sheet.cssRules)
      if (rule.media) rule.media.mediaText = rule.media.mediaText === "print" ? "all" : "not all";
}
function seen([name, frame]) {
  const page = frame.contentDocument, style = one => frame.contentWindow.getComputedStyle(one);
  for (const one of page.querySelectorAll("details")) one.open = true;
  if (name === "paper") asPrinted(page);
  const all = [...page.body.querySelectorAll("*")].filter(one => one.checkVisibility());
  const scrolls = one => one && (style(one).overflowX === "auto" || scrolls(one.parentElement));
  const beyond = one => one.getBoundingClientRect().right > page.documentElement.clientWidth + 1;
  const hidden = one => style(one).overflowX !== "visible" && one.scrollWidth > one.clientWidth + 1;
  const plain = one => [...one.childNodes].some(node => node.nodeType === 3 && node.data.trim());
  return [name, {
    across: page.scrollingElement.scrollWidth,
    beyond: all.filter(one => beyond(one) && (name === "paper" || !scrolls(one))).map(named),
    hidden: all.filter(hidden).map(named),
    text: Math.min(...all.filter(plain).map(one => parseFloat(style(one).fontSize))),
    missing: [...page.images].filter(one => !one.naturalWidth).map(one => one.alt),
    pictures: page.images.length,
    drawn: Math.min(...[...page.querySelectorAll("img.plot")].map(
      one => one.getBoundingClientRect().width / one.naturalWidth)),
    viewport: page.querySelector("meta[name=viewport]")?.content ?? "",
  }];
}
addEventListener("load", () => {
  const told = document.createElement("pre");
  told.id = "told";
  told.hidden = true;
  told.textContent = JSON.stringify(Object.fromEntries(frames.map(seen)));
  for (const [, frame] of frames) frame.remove();
  document.body.append(told);
});
""".replace("WIDTHS", json.dumps({"phone": PHONE, "paper": PAPER}))


def _seen(page: str, folder: Path, *options: str) -> tuple[Mapping[str, Any], list[str]]:
    look = look_at(page, LOOK, folder, *options)
    return json.loads(look.told), look.console


def _check(page: str, folder: Path) -> None:
    pdf = folder / "page.pdf"
    seen, console = _seen(page, folder, f"--print-to-pdf={pdf}", "--no-pdf-header-footer")
    phone, paper = seen["phone"], seen["paper"]
    assert console == []
    assert phone["pictures"] == paper["pictures"] == page.count("<img ") > 3
    assert phone["missing"] == paper["missing"] == []
    assert phone["viewport"].startswith("width=device-width")
    assert phone["beyond"] == []
    assert phone["across"] == PHONE
    assert phone["text"] >= 10
    assert STYLE["font.size"] * POINT * phone["drawn"] >= 9
    assert paper["beyond"] == []
    assert paper["hidden"] == []
    assert paper["text"] >= 6 * POINT
    assert STYLE["font.size"] * paper["drawn"] >= 5
    boxes = set(re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", pdf.read_bytes()))
    (size,) = [[float(side) * 25.4 / 72 for side in box] for box in boxes]
    assert size == pytest.approx([210, 297], abs=0.2)


@needs_chromium
def test_a_comparison_s_page_is_whole_in_a_browser_and_readable_on_a_phone_and_on_paper(
    strategies_page: str, tmp_path: Path
) -> None:
    _check(strategies_page, tmp_path)


@needs_chromium
def test_a_study_s_page_is_whole_in_a_browser_and_readable_on_a_phone_and_on_paper(
    tmp_path: Path,
) -> None:
    six_seeds.write(tmp_path / "study")
    _check(render_study(analyse_study(read_study(tmp_path / "study"))), tmp_path / "browser")


@needs_chromium
def test_the_look_finds_what_it_looks_for(tmp_path: Path) -> None:
    faults = (
        '<!DOCTYPE html><html><head><link rel="icon" href="data:,">'
        "<style>@media print { p { font-size: 4pt } }</style></head><body>"
        "<p style='width: 900px'>x</p><div style='overflow-x: auto'><b style='display: block; "
        "width: 800px'>y</b></div><img alt='gone' src='none.png'><img class='plot' alt='drawn' "
        "style='width: 100px' src='data:image/svg+xml,"
        '<svg xmlns="http://www.w3.org/2000/svg" width="400" height="4"/>\'>'
        "</body></html>"
    )
    look = look_at(faults, f"console.error('planted');{LOOK}", tmp_path)
    seen, console = json.loads(look.told), look.console
    assert [line.split('"')[1] for line in console] == ["planted"]
    phone, paper = seen["phone"], seen["paper"]
    assert [one.split()[0] for one in phone["beyond"]] == ["P"]
    assert {"P", "B"} == {one.split()[0] for one in paper["beyond"]}
    assert [one.split()[0] for one in paper["hidden"]] == ["DIV"]
    assert phone["across"] > PHONE
    assert (phone["text"], paper["text"]) == (16, pytest.approx(4 * POINT))
    assert phone["missing"] == paper["missing"] == ["gone"]
    assert phone["drawn"] == pytest.approx(0.25)
    assert phone["viewport"] == ""
