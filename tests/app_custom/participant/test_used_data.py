"""A site writes down which job used which patients, in a form that names nobody."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from app_custom.participant.used_data import KEY, RECORD, Use, UsedData
from fedi2i.errors import DataError

JANE = "Doe_Jane_1950"


def prepared(*train: str) -> Any:
    """Prepared data with these patients to train on; Jane to validate on."""
    subjects = {
        "train": [
            SimpleNamespace(subject=f"{name}-s1", metadata={"patient_id": name}) for name in train
        ],
        "val": [SimpleNamespace(subject=JANE, metadata={})],
        "test": [],
    }
    return SimpleNamespace(split=lambda name: SimpleNamespace(subjects=subjects[name]))


def use(job: str) -> Use:
    return Use(job, f"run-{job}", "lead", "tiny", "0123", pictures=False, accounted=False)


def test_a_job_is_written_once_however_often_its_process_begins_anew(tmp_path: Path) -> None:
    for _ in range(3):
        UsedData(tmp_path / "north").note(use("1"), prepared("a", "b"))
    UsedData(tmp_path / "north").note(use("2"), prepared("a"))
    record = UsedData(tmp_path / "north")
    assert [(found.job, splits) for found, splits in record.of("a")] == [
        ("1", ("train",)),
        ("2", ("train",)),
    ]
    assert [found.job for found, _ in record.of("b")] == ["1"]
    assert [splits for _, splits in record.of(JANE)] == [("val",), ("val",)]
    assert record.of("c") == ()


def test_the_record_names_nobody_and_the_account_alone_may_read_it(tmp_path: Path) -> None:
    UsedData(tmp_path).note(use("1"), prepared("Doe_Max"))
    text = (tmp_path / RECORD).read_text()
    assert "Doe" not in text and "1950" not in text
    assert {(tmp_path / name).stat().st_mode & 0o777 for name in (RECORD, KEY)} == {0o600}
    UsedData(tmp_path / "other").note(use("1"), prepared("Doe_Max"))
    digests = [
        line.split('"train": ')[1] for line in (text, (tmp_path / "other" / RECORD).read_text())
    ]
    assert digests[0].split("]")[0] != digests[1].split("]")[0]  # each site has a key of its own


def test_a_line_that_a_crash_has_torn_is_written_over(tmp_path: Path) -> None:
    UsedData(tmp_path).note(use("1"), prepared("a"))
    with (tmp_path / RECORD).open("ab") as stream:
        stream.write(b'{"job": "2", "ru')
    assert len(UsedData(tmp_path).of("a")) == 1
    UsedData(tmp_path).note(use("3"), prepared("a"))
    assert [found.job for found, _ in UsedData(tmp_path).of("a")] == ["1", "3"]


def test_a_damaged_record_or_a_lost_key_stops_the_site_and_says_so(tmp_path: Path) -> None:
    UsedData(tmp_path).note(use("1"), prepared("a"))
    record, whole = tmp_path / RECORD, (tmp_path / RECORD).read_text()
    record.write_text("{}\n" + whole)
    for ask in (
        lambda: UsedData(tmp_path).of("a"),
        lambda: UsedData(tmp_path).note(use("2"), prepared("a")),
    ):
        with pytest.raises(DataError, match="line 1 is damaged; put a copy back"):
            ask()
    record.write_text(whole)
    (tmp_path / KEY).unlink()
    with pytest.raises(DataError, match=f"its key {KEY} cannot be read"):
        UsedData(tmp_path).note(use("2"), prepared("a"))
    assert record.read_text() == whole


def test_a_site_that_cannot_write_its_record_does_not_train(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="cannot be written"):
        UsedData(tmp_path / "file").note(use("1"), prepared("a"))
