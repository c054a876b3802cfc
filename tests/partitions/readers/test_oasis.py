"""OASIS-3 in both of its layouts; field strengths from the catalogue or the files beside."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from miniature_scans import check, write_scan

from fedi2i.errors import DataError
from partitions.readers.oasis import UNKNOWN_SITE, find_oasis, import_oasis

CATALOGUE = """Label,Subject,M/F,Age,Scanner,Scans
OAS30001_MR_d0129,OAS30001,F,65.1,3.0T,T1w(2)
OAS30001_MR_d0757,OAS30001,F,66.8,3.0T,T1w
OAS30001_MR_d2430,OAS30001,F,71.4,1.5T,T1w
OAS30002_MR_d0371,OAS30002,M,n/a,1.5T,T1w
"""


def write_session(root: Path, person: str, day: str, strength: float | None = None) -> None:
    for number, kind in enumerate(("run-01_T1w", "acq-TSE_T2w"), start=1):
        folder = root / f"{person}_MR_{day}" / f"anat{number}" / "NIFTI"
        scan = write_scan(folder / f"sub-{person}_ses-{day}_{kind}.nii.gz")
        if strength:
            beside = scan.with_name(scan.name.replace(".nii.gz", ".json"))
            beside.write_text(json.dumps({"MagneticFieldStrength": strength}))


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    root = tmp_path / "scans"
    for day, strength in (("d0129", 2.89), ("d0757", 3.0), ("d2430", 1.494)):
        write_session(root, "OAS30001", day, strength)
    write_session(root, "OAS30002", "d0371", 1.5)
    write_session(root, "OAS30003", "d0000")
    name = "sub-OAS30001_ses-d0129_run-02_T1w.nii.gz"
    write_scan(root / "OAS30001_MR_d0129/anat3/NIFTI" / name)
    write_scan(root / "OAS30002_AV45_d2340/pet1/sub-OAS30002_ses-d2340_pet.nii.gz")
    return root


def test_field_strengths_become_sites_and_a_person_belongs_to_one(
    archive: Path, tmp_path: Path
) -> None:
    manifests = import_oasis(archive, tmp_path / "out", seed=1)
    assert {m.site: [r.subject for r in m.subjects] for m in manifests} == {
        "1_5T": ["OAS30002_MR_d0371"],
        "3T": ["OAS30001_MR_d0129", "OAS30001_MR_d0757"],
        UNKNOWN_SITE: ["OAS30003_MR_d0000"],
    }
    assert len({r.split for r in manifests[1].subjects}) == 1
    check(tmp_path / "out")


def test_the_catalogue_gives_age_sex_and_scanner(archive: Path, tmp_path: Path) -> None:
    table = tmp_path / "catalogue.csv"
    table.write_text(CATALOGUE)
    found = find_oasis(archive, table)
    first = found.scans[0]
    assert (first.subject, first.patient, first.site) == ("OAS30001_MR_d0129", "OAS30001", "3T")
    assert first.metadata == {"field_strength": 3.0, "age": 65.1, "sex": "F"}
    said = "\n".join(found.problems)
    assert "1 further runs of a sequence are left out" in said
    assert "1 sessions are in no row of catalogue.csv: OAS30003_MR_d0000" in said
    assert "belongs to one site: OAS30001_MR_d2430" in said


def test_the_bids_tree_of_the_archive_is_the_same_data_set(tmp_path: Path) -> None:
    for kind in ("T1w", "T2w"):
        name = f"sub-OAS30001_ses-d0129_{kind}.nii.gz"
        write_scan(tmp_path / "sub-OAS30001/ses-d0129/anat" / name)
    (scan,) = find_oasis(tmp_path).scans
    assert (scan.subject, set(scan.files)) == ("OAS30001_MR_d0129", {"t1", "t2"})


@pytest.mark.parametrize("strength", ["NaN", "Infinity", "[3]", '{"T": 3}', '""', "[" * 9999])
def test_a_field_strength_that_is_no_finite_number_is_unknown(
    tmp_path: Path, strength: str
) -> None:
    write_session(tmp_path, "OAS30001", "d0129", 3.0)
    for path in tmp_path.rglob("*.json"):
        path.write_text(f'{{"MagneticFieldStrength": {strength}}}')
    (scan,) = find_oasis(tmp_path).scans
    assert (scan.site, scan.metadata) == (UNKNOWN_SITE, {})


def test_another_table_is_refused(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="no column 'Label'"):
        find_oasis(archive, tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("Label,Age\nOAS30001_MR_d0129,old\n")
    with pytest.raises(DataError, match="row 2: age 'old' is not a number"):
        find_oasis(archive, tmp_path / "t.csv")
