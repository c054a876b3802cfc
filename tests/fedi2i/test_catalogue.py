from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from fedi2i.catalogue import members


def _package(root: Path, name: str, files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = root / name
    folder.mkdir()
    for file, text in {"__init__": "", **files}.items():
        (folder / f"{file}.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(root)


def test_every_file_but_the_infrastructure_is_a_member_in_alphabetical_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"pear": "FRUIT = 2", "apple": "FRUIT = 1", "interface": "", "catalogue": ""}
    _package(tmp_path, "some_fruits", files, monkeypatch)
    found = members(importlib.import_module("some_fruits"), "FRUIT")
    assert list(found.items()) == [("apple", 1), ("pear", 2)]


def test_a_file_that_offers_nothing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _package(tmp_path, "odd_fruits", {"stone": ""}, monkeypatch)
    with pytest.raises(AttributeError, match=r"odd_fruits\.stone.*FRUIT"):
        members(importlib.import_module("odd_fruits"), "FRUIT")
