"""The page that asks, in a real browser: keys answer, and what it saves can be scored."""

from __future__ import annotations

from pathlib import Path

from headless_chromium import look_at, needs_chromium

from report.readers.folders import FILLED, FORM_FILE, SHEET_FILE
from report.readers.key import read_key
from report.readers.sheets import read_sheets

# Goes through the page as a reader would: with keys, back once, one item left out.
SESSION = """
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
"""


@needs_chromium
def test_a_browser_fills_the_sheet_by_keys(study: Path, tmp_path: Path) -> None:
    page = (study / "reader-2" / FORM_FILE).read_text("utf-8")
    look = look_at(page, SESSION, tmp_path / "browser")
    assert look.console == []
    errors, summary, kept, text = look.told.split("\n", 3)
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
