"""A drawn reader study, and what readers might have answered."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from readable_run import prepare, write

from report.readers.folders import FILLED, SHEET_FILE
from report.readers.key import Key, read_key
from report.readers.sheets import Judgement


@pytest.fixture(scope="session")
def read_run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run, shared: nothing may be changed in it."""
    return write(tmp_path_factory.mktemp("reader_study") / "run")


@pytest.fixture(scope="session")
def drawn(read_run_folder: Path) -> Path:
    """A study of it, shared."""
    out = read_run_folder.parent / "drawn"
    assert prepare(read_run_folder, out, "--repeated", "0.25") == 0
    return out


@pytest.fixture
def study(drawn: Path, tmp_path: Path) -> Path:
    """A copy of the study that may be changed."""
    return Path(shutil.copytree(drawn, tmp_path / "study"))


Answering = Callable[[Judgement], str]


@pytest.fixture
def fill(study: Path) -> Callable[..., Path]:
    """Fill a reader's sheet by a rule that knows the key, and hand it in."""
    key: Key = read_key(study)

    def filled(reader: str, answering: Answering, name: str = "") -> Path:
        with (study / reader / SHEET_FILE).open(encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        for row, item in zip(rows, key.sheets[reader], strict=True):
            assert row["item"] == item.number
            row["answer"] = answering(Judgement(reader, item, None, None))
        path = study / FILLED / (name or f"{reader}.csv")
        with path.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return path

    return filled
