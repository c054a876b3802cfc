"""How every reader ends: splits drawn by patient, everything checked, one manifest per site."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fedi2i.errors import DataError, UserError
from partitions.manifest import SubjectRecord, read_manifest
from partitions.site_folders import (
    TO_BE_DRAWN,
    find_site_folders,
    find_withdrawn,
    write_site_folders,
)


def found(subject: str, site: str = "north", split: str = TO_BE_DRAWN) -> SubjectRecord:
    files = {"t1": f"{subject}/t1.nii.gz", "t2": f"{subject}/t2.nii.gz"}
    return SubjectRecord(subject, site, split, files)


def test_sites_and_subjects_are_written_in_the_order_of_their_names(tmp_path: Path) -> None:
    records = [found("b", "south"), found("d"), found("c"), found("a")]
    manifests = write_site_folders(tmp_path, "tiny", records, seed=3)
    assert [m.site for m in manifests] == ["north", "south"]
    assert [record.subject for record in manifests[0].subjects] == ["a", "c", "d"]
    folders = find_site_folders(tmp_path)
    assert folders == (tmp_path / "north", tmp_path / "south")
    assert tuple(read_manifest(folder) for folder in folders) == manifests


def test_splits_are_drawn_within_each_site_and_the_seed_is_recorded(tmp_path: Path) -> None:
    records = [found(f"{site}{n}", site) for site in ("north", "south") for n in range(3)]
    for manifest in write_site_folders(tmp_path, "tiny", records, seed=3):
        assert {record.split for record in manifest.subjects} == {"train", "val", "test"}
        assert manifest.split_seed == 3


def test_the_scans_of_one_patient_stay_together(tmp_path: Path) -> None:
    records = [
        replace(found(f"P{patient}-{scan}"), metadata={"patient_id": f"P{patient}"})
        for patient in range(3)
        for scan in range(2)
    ]
    (manifest,) = write_site_folders(tmp_path, "tiny", records, seed=3)
    splits: dict[str, set[str]] = {}
    for record in manifest.subjects:
        splits.setdefault(record.patient, set()).add(record.split)
    assert sorted(splits) == ["P0", "P1", "P2"]
    assert all(len(of_patient) == 1 for of_patient in splits.values())


def test_given_splits_are_kept_and_no_seed_is_recorded(tmp_path: Path) -> None:
    records = [found("a", split="test"), found("b", split="val")]
    (manifest,) = write_site_folders(tmp_path, "tiny", records, seed=3)
    assert [record.split for record in manifest.subjects] == ["test", "val"]
    assert manifest.split_seed is None


@pytest.mark.parametrize(
    ("records", "sentence"),
    [
        ([], "data set 'tiny': no subject was found"),
        ([found("a", split="test"), found("b")], "subject 'b' has no split while others have one"),
        ([found("a", "st.mary")], "data set 'tiny': site 'st.mary' cannot be used as a name"),
        ([found("a", "north"), found("b", "North")], "differ in upper and lower case alone"),
        ([found("a", split="tset")], "unknown value 'tset'; did you mean 'test'?"),
    ],
)
def test_what_cannot_be_a_data_set_is_refused_and_no_manifest_is_written(
    tmp_path: Path, records: list[SubjectRecord], sentence: str
) -> None:
    with pytest.raises(UserError) as caught:
        write_site_folders(tmp_path, "tiny", records, seed=3)
    assert sentence in str(caught.value)
    assert not list(tmp_path.rglob("manifest.json"))


def test_a_folder_without_site_folders_says_how_to_bring_scans_in(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="bring the scans in with 'fedi2i data' first"):
        find_site_folders(tmp_path)


def test_one_number_at_two_sites_is_two_subjects(tmp_path: Path) -> None:
    manifests = write_site_folders(tmp_path, "tiny", [found("1"), found("1", "south")], seed=3)
    assert [record.subject for manifest in manifests for record in manifest.subjects] == ["1", "1"]


def test_a_site_that_left_the_data_set_is_named_and_not_counted_until_it_comes_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    both = [found("a"), found("b", "south")]
    write_site_folders(tmp_path, "tiny", both, seed=3)
    write_site_folders(tmp_path / "of-another", "other", [found("c", "east")], seed=3)
    caplog.clear()
    write_site_folders(tmp_path, "tiny", both[:1], seed=3)
    assert "site 'south' is not among these scans any more" in caplog.text
    assert find_site_folders(tmp_path) == (tmp_path / "north", tmp_path / "of-another" / "east")
    assert find_withdrawn(tmp_path) == (tmp_path / "south",)
    write_site_folders(tmp_path, "tiny", both, seed=3)
    assert tmp_path / "south" in find_site_folders(tmp_path)
    assert find_withdrawn(tmp_path) == ()


def test_a_site_of_another_data_set_stays(tmp_path: Path) -> None:
    write_site_folders(tmp_path, "other", [found("b", "south")], seed=3)
    write_site_folders(tmp_path, "tiny", [found("a")], seed=3)
    assert find_site_folders(tmp_path) == (tmp_path / "north", tmp_path / "south")
