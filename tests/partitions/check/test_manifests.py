"""No patient and no scan may be both trained on and tested on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fedi2i.errors import DataError
from partitions.__main__ import main
from partitions.check.manifests import check_partition
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


def test_a_scan_that_two_patients_share_is_named_with_both() -> None:
    leaking = site_of(record("a", "train", scan="x.nii"), record("b", "test", scan="./x.nii"))
    with pytest.raises(DataError, match=r"x\.nii: is the same file as .*'b'.*'test'.*'a'.*'train'"):
        check_partition([leaking])


def test_a_scan_that_two_sites_share_is_named_with_both() -> None:
    north = site_of(record("a", "train", scan="x.nii"))
    east = site_of(record("b", "test", scan="../north/x.nii", site="east"), name="east")
    with pytest.raises(DataError, match=r"x\.nii.*site 'east'.*site 'north'"):
        check_partition([north, east])


def test_several_scans_in_one_split_and_the_same_number_at_two_sites_are_no_leak() -> None:
    north = site_of(record("a1", "train", "7"), record("a2", "train", "7"), record("t", "test"))
    east = site_of(record("a1", "test", "7", site="east"), name="east")
    assert check_partition([north, east]) == []


def test_two_scans_of_one_patient_in_one_split_may_share_a_file() -> None:
    shared = site_of(
        record("a1", "test", "a", scan="x.nii"), record("a2", "test", "a", scan="x.nii")
    )
    assert check_partition([shared]) == []


@pytest.mark.parametrize(
    "names",
    [
        ("BraTS-GLI-00000-000", "BraTS-GLI-00000-001"),
        ("sub-01_ses-1", "sub-01_ses-2"),
        ("OAS30001_MR_d0757", "OAS30001_MR_d2430"),
        ("P1_v1", "P1_v2", "P2_v1", "P2_v2"),
    ],
)
def test_names_that_look_like_sessions_of_one_patient_are_named(names: tuple[str, ...]) -> None:
    found = check_partition([site_of(*(record(name, "test") for name in names))])
    assert {finding.rule for finding in found} == {"sessions"}
    assert names[0] in found[0].sentence
    assert names[1] in found[0].sentence
    patients = site_of(*(record(name, "test", name[:2]) for name in names))
    assert check_partition([patients]) == []


@pytest.mark.parametrize(
    "names",
    [
        ("north-001", "north-002"),
        ("site1-001", "site1-002"),
        ("BraTS-GLI-00000-000", "BraTS-GLI-00001-000"),
        ("sub-01", "sub-02"),
        tuple(f"{year}-{number:03d}" for year in (2024, 2025) for number in range(20)),
    ],
)
def test_names_that_only_count_are_no_sessions(names: tuple[str, ...]) -> None:
    assert check_partition([site_of(*(record(name, "test") for name in names))]) == []


def test_subjects_that_a_former_site_counted_are_no_sessions_after_a_division() -> None:
    names = ("s0-0001", "s0-0002", "s1-0001", "s1-0002", "s1_s1-0003", "s1_s1-0004")
    divided = site_of(
        *(
            SubjectRecord(name, "north", "test", {}, metadata={"origin_site": name[:2]})
            for name in names
        )
    )
    assert check_partition([divided]) == []


def test_a_site_without_test_patients_and_personal_metadata_are_worth_a_warning() -> None:
    named = SubjectRecord("a", "north", "train", {"t1": "a.nii"}, metadata={"PatientName": "x"})
    rules = [finding.rule for finding in check_partition([site_of(named)])]
    assert sorted(rules) == ["nobody-to-test", "personal-metadata"]


@pytest.mark.parametrize("subjects", [["a"], [None], [3]])
def test_subjects_that_are_no_records_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], subjects: list[object]
) -> None:
    content = {"version": 1, "dataset": "x", "site": "x", "computed": False, "split_seed": None}
    (tmp_path / "manifest.json").write_text(json.dumps({**content, "subjects": subjects}))
    assert main(["check", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "manifest.json" in line
