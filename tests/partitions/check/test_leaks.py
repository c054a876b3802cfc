"""No patient and no scan may be both trained on and tested on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fedi2i.errors import DataError
from partitions.__main__ import main
from partitions.check.leaks import check_partition
from partitions.manifest import SiteManifest, SubjectRecord


def record(
    subject: str, split: str, patient: str | None = None, scan: str = "", site: str = "north"
) -> SubjectRecord:
    metadata = {"patient_id": patient} if patient else {}
    return SubjectRecord(subject, site, split, {"t1": scan or f"{subject}.nii"}, metadata=metadata)


def site_of(*records: SubjectRecord, name: str = "north") -> SiteManifest:
    return SiteManifest("tiny", name, records, Path("/data") / name)


def test_a_patient_with_scans_in_two_splits_is_named_with_both() -> None:
    leaking = site_of(record("a1", "train", "a"), record("b", "val"), record("a2", "test", "a"))
    with pytest.raises(DataError, match=r"patient 'a' .*'train' \(subject 'a1'.*'test'.*'a2'"):
        check_partition([leaking])


def test_a_scan_that_two_subjects_share_over_splits_is_named() -> None:
    leaking = site_of(record("a", "train", scan="x.nii"), record("b", "test", scan="./x.nii"))
    with pytest.raises(DataError, match=r"scan '/data/north/x\.nii' is in split 'train'"):
        check_partition([leaking])


def test_a_scan_that_two_sites_share_over_splits_is_named() -> None:
    north = site_of(record("a", "train", scan="x.nii"))
    east = site_of(record("b", "test", scan="../north/x.nii", site="east"), name="east")
    with pytest.raises(DataError, match=r"x\.nii' .*site 'north'\).*site 'east'\)"):
        check_partition([north, east])


def test_several_scans_in_one_split_and_the_same_number_at_two_sites_are_no_leak() -> None:
    north = site_of(record("a1", "train", "7"), record("a2", "train", "7"))
    east = site_of(record("b1", "test", "7", site="east"), name="east")
    check_partition([north, east])


@pytest.mark.parametrize("subjects", [["a"], [None], [3]])
def test_subjects_that_are_no_records_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], subjects: list[object]
) -> None:
    content = {"version": 1, "dataset": "x", "site": "x", "computed": False, "split_seed": None}
    (tmp_path / "manifest.json").write_text(json.dumps({**content, "subjects": subjects}))
    assert main(["check", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "manifest.json" in line
