"""The page that asks, in a real browser: keys answer, and what it saves can be scored."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from report.readers.folders import FILLED, FORM_FILE, SHEET_FILE
from report.readers.key import read_key
from report.readers.sheets import read_sheets

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
# Goes through the page as a reader would: with keys, back once, one item left out.
SESSION = """
<script>
const errors = [];
addEventListener("error", event => errors.push(event.message));
const type = key => dispatchEvent(new KeyboardEvent("keydown", {key}));
type("r");
part("begin").click();
type("r"); type("x"); type("T"); type("Backspace"); type("r"); type(" ");
while (!part("asking").hidden) {
  const pictures = [...document.images];
  if (pictures.some(one => !one.src.startsWith("data:image/png"))) errors.push("a picture");
  type(data.items[at].task === "turing" ? "t" : at % 2 ? "ArrowLeft" : "ArrowDown");
}
const kept = JSON.parse(localStorage.getItem(place) || "{}");
const told = document.createElement("pre");
told.id = "told";
told.textContent = [errors.join("; "), part("summary").textContent,
  Object.keys(kept).length, sheet()].join("\\n");
document.body.append(told);
</script>
</body>
"""


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium of the distribution is not installed")
def test_a_browser_fills_the_sheet_by_keys(study: Path, tmp_path: Path) -> None:
    page = (study / "reader-2" / FORM_FILE).read_text("utf-8")
    path = tmp_path / "session.html"
    path.write_text(page.replace("</body>", SESSION), "utf-8")
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path / 'user'}",
    ]
    shown = subprocess.run(
        [str(CHROMIUM), *options, "--dump-dom", path.as_uri()],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    ).stdout
    told = re.search(r'<pre id="told">(.*?)</pre>', shown, re.DOTALL)
    assert told
    errors, summary, kept, text = html.unescape(told[1]).split("\n", 3)
    assert errors == ""
    assert summary == "49 of 50 items are answered, 1 are open."
    assert kept == "49"
    (study / FILLED / "reader-2.csv").write_text(text, "utf-8")
    key = read_key(study)
    (given,) = read_sheets(study, key).judgements.values()
    answers = [one.answer for one in given]
    assert answers[:4] == ["real", "real", None, "translated"]
    expected = ["left" if place % 2 else "equal" for place in range(20, 50)]
    assert answers[4:] == ["translated"] * 16 + expected
    assert all(one.seconds is not None for one in given if one.answer)
    empty = (study / "reader-2" / SHEET_FILE).read_text("utf-8").splitlines()
    assert [line.split(",")[:4] for line in text.splitlines()] == [
        line.split(",")[:4] for line in empty
    ]
