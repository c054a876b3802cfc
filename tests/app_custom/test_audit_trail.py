from __future__ import annotations

from pathlib import Path

import pytest

import app_custom
from app_custom.audit_trail import audit, one_line


@pytest.mark.parametrize("sent", ["a\nb", "a\r\nb", "a\x1b[2Kb", "a\x85b", "a\u2028b", "a\ud800b"])
def test_whatever_a_sentence_quotes_it_is_one_line_of_printable_characters(
    trail: Path, sent: str
) -> None:
    audit("north", "update.refused", f"its key '{sent}' is no name")
    audit(f"no{sent}rth", "update.refused", "it has no name")
    first, second = trail.read_text().splitlines()
    assert first.isprintable() and second.isprintable()
    assert "[U:north][A:update.refused]its key 'a\\" in first and first.endswith("b' is no name")


def test_a_sentence_of_ordinary_words_is_written_as_it_stands() -> None:
    assert one_line("site 'Zürich' states 8 of 9 samples") == "site 'Zürich' states 8 of 9 samples"


def test_a_long_sentence_is_cut() -> None:
    assert one_line("\n" * 2000) == "\\n" * 500
    assert one_line("x" * 10, 4) == "xxxx"


def test_no_other_module_writes_into_the_trail_past_it() -> None:
    root = Path(app_custom.__file__).parent
    writing = {path.name for path in root.rglob("*.py") if ".add_event(" in path.read_text()}
    assert writing == {"audit_trail.py"}
