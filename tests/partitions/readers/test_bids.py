"""A BIDS tree with sessions, runs, a table with gaps, derivatives, and names that do not match."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest
from miniature_scans import check, write_scan

from fedi2i.errors import ConfigError, DataError
from partitions.readers.bids import find_bids, import_bids, recognise

TABLE = """participant_id\tage\tsex\tsite\thandedness
sub-01\t34\tF\tnorth\tR
02\tn/a\tn/a\tnorth\tn/a
sub-03\t89+\tM\tsouth wing\tR
sub-04\t1,5\tM\tn/a\tR
sub-99\t50\tM\tnorth\tR
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "Klinik für Neuro 2"
    for subject in ("sub-01", "sub-02", "sub-03", "sub-04"):
        for suffix in ("T1w", "FLAIR"):
            write_scan(root / subject / "anat" / f"{subject}_{suffix}.nii.gz")
    for session in ("ses-a", "ses-b"):
        for suffix in ("T1w", "FLAIR"):
            name = f"sub-05_{session}_{suffix}.nii.gz"
            write_scan(root / "sub-05" / session / "anat" / name)
    write_scan(root / "sub-01/anat/sub-01_run-2_T1w.nii.gz")
    write_scan(root / "sub-01/anat/sub-01_part-phase_T1w.nii.gz")
    write_scan(root / "sub-01/dwi/sub-01_dwi.nii.gz")
    write_scan(root / "sub-06/func/sub-06_task-rest_bold.nii.gz")
    write_scan(root / "derivatives/sub-01/anat/sub-01_T1w.nii.gz")
    beside = {"Manufacturer": "Siemens", "MagneticFieldStrength": 3, "PatientName": "N N"}
    (root / "sub-01/anat/sub-01_T1w.json").write_text(json.dumps(beside))
    (root / "sub-02/anat/sub-02_T1w.json").write_text("{broken")
    (root / "participants.tsv").write_text(TABLE)
    (root / "sub-03/anat/loop").symlink_to(root, target_is_directory=True)
    return root


def test_sessions_are_subjects_of_one_patient_and_the_check_is_content(
    tree: Path, tmp_path: Path
) -> None:
    manifests = import_bids(tree, tmp_path / "out", 1, "clinic")
    names = {m.site: [(r.subject, r.patient) for r in m.subjects] for m in manifests}
    assert names == {
        "clinic": [
            ("sub-04", "sub-04"),
            ("sub-05_ses-a", "sub-05"),
            ("sub-05_ses-b", "sub-05"),
        ],
        "north": [("sub-01", "sub-01"), ("sub-02", "sub-02")],
        "south_wing": [("sub-03", "sub-03")],
    }
    check(tmp_path / "out")


def test_the_table_of_participants_is_read_with_its_gaps(tree: Path) -> None:
    known = {scan.subject: scan.metadata for scan in find_bids(tree, "x").scans}
    assert known["sub-01"] == {
        "manufacturer": "Siemens",
        "field_strength": 3,
        "age": 34.0,
        "sex": "F",
    }
    assert known["sub-02"] == {}
    assert known["sub-03"] == {"age": "90+", "sex": "M"}
    assert known["sub-04"]["age"] == 1.5


def test_derivatives_other_kinds_and_further_runs_are_left_out(tree: Path) -> None:
    found = find_bids(tree, "x")
    paths = [path for scan in found.scans for path in scan.files.values()]
    assert not [path for path in paths if "derivatives" in path.parts or "dwi" in path.parts]
    said = "\n".join(found.problems)
    assert "sub-01: sub-01_T1w.nii.gz is taken of 2 t1 scans" in said
    assert "sub-06: no anatomical scan" in said
    assert "2 persons are in no row of participants.tsv: sub-05, sub-06" in said
    assert "1 persons of participants.tsv have no folder: sub-99" in said


def test_a_t1_after_contrast_is_another_sequence(tree: Path) -> None:
    write_scan(tree / "sub-02/anat/sub-02_ce-gadolinium_T1w.nii.gz")
    (scan,) = [scan for scan in find_bids(tree, "x").scans if scan.subject == "sub-02"]
    assert set(scan.files) == {"t1", "t1gd", "flair"}


def test_letters_that_are_written_in_two_ways_are_one_name(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "sub-José")
    write_scan(tmp_path / decomposed / "anat" / f"{decomposed}_T1w.nii.gz")
    composed = unicodedata.normalize("NFC", "sub-José")
    (tmp_path / "participants.tsv").write_text(f"participant_id\tage\n{composed}\t7\n")
    (scan,) = find_bids(tmp_path, "x").scans
    assert scan.metadata["age"] == 7


def test_a_site_that_would_lead_out_of_the_folder_is_refused(tree: Path, tmp_path: Path) -> None:
    (tree / "participants.tsv").write_text("participant_id\tsite\nsub-01\t../../elsewhere\n")
    with pytest.raises(ConfigError, match=r"site '\.\./\.\./elsewhere' cannot be used as a name"):
        import_bids(tree, tmp_path / "a/b/out", 1, "clinic")
    assert not (tmp_path / "a").exists()


def test_columns_that_are_not_there_and_persons_twice_are_refused(tree: Path) -> None:
    with pytest.raises(ConfigError, match=r"--site-column centre: .* no such column"):
        find_bids(tree, "x", "centre")
    for age in ("old", "inf", "1e999"):
        (tree / "participants.tsv").write_text(f"participant_id\tage\nsub-01\t{age}\n")
        with pytest.raises(DataError, match=f"row 2: age '{age}' is not a number"):
            find_bids(tree, "x")
    (tree / "participants.tsv").write_text("participant_id\nsub-01\n01\n")
    with pytest.raises(DataError, match="row 3: 'sub-01' stands there twice"):
        find_bids(tree, "x")


def test_rows_that_name_nobody_are_a_finding_and_the_others_count(tree: Path) -> None:
    rows = "n/a\t70\tM\tnorth\tR\n\t71\tF\tnorth\tR\nN/A\t72\tF\tnorth\tR\n"
    (tree / "participants.tsv").write_text(TABLE + rows)
    found = find_bids(tree, "x")
    (said,) = [one for one in found.problems if "describe nobody" in one]
    assert said.startswith("3 rows of participants.tsv describe nobody, as their participant_id is")
    assert "(row 7, 8, 9)" in said
    assert not [one for one in found.problems if "sub-n/a" in one.lower()]
    ages = {scan.subject: scan.metadata.get("age") for scan in found.scans}
    assert (ages["sub-01"], ages["sub-05_ses-a"]) == (34.0, None)
    (tree / "participants.tsv").write_text(TABLE)
    assert not [one for one in find_bids(tree, "x").problems if "nobody" in one]


def test_the_folder_names_the_data_set(tree: Path) -> None:
    recognised = recognise(tree)
    assert recognised is not None
    assert recognised.arguments[2:] == (
        "--dataset",
        "klinik-f-r-neuro-2",
        "--out",
        "data/klinik-f-r-neuro-2",
    )
