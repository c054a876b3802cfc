"""The review and its bibliography name the same works, and claim no more than was checked."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lightning_modules.strategies.catalogue import STRATEGIES

DOCS = Path(__file__).resolve().parents[1] / "docs"
_ENTRY = re.compile(
    r"@(article|inproceedings|misc)\{([a-z]+\d{4}[a-z]+),\n((?:  [a-z]+ = \{.+\},\n)+)\}"
)
_FIELD = re.compile(r"  ([a-z]+) = \{(.+)\},")
_KEY = re.compile(r"`([a-z]+\d{4}[a-z]+)`")
_MARK = re.compile(r"(?:P|R|I|T1|C|U)\b")
_IDENTIFIERS = {
    "doi": re.compile(r"10\.\d{4,9}/\S+"),
    "eprint": re.compile(r"\d{4}\.\d{4,5}"),
    "url": re.compile(r"https://\S+"),
}


def _bibliography() -> dict[str, dict[str, str]]:
    """The entries by key; every line of the file has to be read as part of one or as a comment."""
    text = (DOCS / "literature.bib").read_text(encoding="utf-8")
    left = re.sub(r"^%.*\n", "", _ENTRY.sub("", text), flags=re.MULTILINE)
    assert left.strip() == "", left.strip()[:200]
    found = [(entry[2], _FIELD.findall(entry[3])) for entry in _ENTRY.finditer(text)]
    assert len({key for key, _ in found}) == len(found), "a key stands twice"
    for key, fields in found:
        assert len({name for name, _ in fields}) == len(fields), f"{key}: a field stands twice"
        assert all(_closes(value) for _, value in fields), f"{key}: a brace is open"
    return {key: dict(fields) for key, fields in found}


def _closes(value: str) -> bool:
    depths = [value[:end].count("{") - value[:end].count("}") for end in range(len(value) + 1)]
    return min(depths) == 0 and depths[-1] == 0


def _page() -> str:
    return (DOCS / "literature.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def entries() -> dict[str, dict[str, str]]:
    return _bibliography()


def test_every_work_that_the_page_cites_stands_in_the_bibliography_and_the_other_way_round(
    entries: dict[str, dict[str, str]],
) -> None:
    assert set(_KEY.findall(_page())) == set(entries)


def test_every_entry_says_whose_or_what_it_is_when_and_where_it_is_found(
    entries: dict[str, dict[str, str]],
) -> None:
    for key, fields in entries.items():
        assert "author" in fields or "title" in fields, key
        assert re.fullmatch(r"(19|20)\d\d", fields["year"]), key
        assert fields["year"] in key, key
        known = set(fields) & set(_IDENTIFIERS)
        assert known or "no identifier known" in fields.get("note", ""), key
        for name in known:
            assert _IDENTIFIERS[name].fullmatch(fields[name]), (key, fields[name])


def test_no_two_works_have_one_identifier(entries: dict[str, dict[str, str]]) -> None:
    for name in _IDENTIFIERS:
        values = [fields[name] for fields in entries.values() if name in fields]
        assert len(set(values)) == len(values), name


def test_the_paper_of_every_strategy_stands_in_the_bibliography_with_the_record_s_link(
    entries: dict[str, dict[str, str]],
) -> None:
    for strategy in STRATEGIES.values():
        fields = entries[strategy.paper.bibtex]
        scheme, _, identifier = strategy.paper.link.partition(":")
        assert fields["eprint" if scheme == "arXiv" else "doi"] == identifier
        assert strategy.paper.text.startswith(fields["author"].split(" and ")[0])
        assert strategy.paper.text.endswith(fields["year"])


def test_the_table_says_of_every_work_how_it_was_checked_as_its_entry_does(
    entries: dict[str, dict[str, str]],
) -> None:
    rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in _page().splitlines()
        if line.startswith("| ") and line.count(" | ") == 8
    ]
    marks = {_KEY.findall(row[0])[0]: row[7] for row in rows if _KEY.search(row[0])}
    without_row = {key for key in entries if key not in marks}
    assert all(entries[key]["checked"] == "U" for key in without_row)
    for key, mark in marks.items():
        assert _MARK.match(mark), (key, mark)
        assert mark == entries[key]["checked"], key


def test_works_that_were_not_verified_are_named_in_one_place(
    entries: dict[str, dict[str, str]],
) -> None:
    (place,) = [part for part in _page().split("\n\n") if part.startswith("**Not verified.**")]
    for key in (key for key, fields in entries.items() if fields["checked"] == "U"):
        assert _page().count(f"`{key}`") == place.count(f"`{key}`") == 1, key
