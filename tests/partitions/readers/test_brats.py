"""BraTS and FeTS in all their names, with incomplete cases, several times and tables of sites."""

from __future__ import annotations

from pathlib import Path

import pandas
import pytest
from miniature_scans import check_and_prepare, settings_of, write_scan

from fedi2i.errors import DataError
from partitions.__main__ import main
from partitions.readers.brats import SEQUENCES, find_brats, import_brats, read_sites, recognise

OLD = (*SEQUENCES, "seg")
NEW = ("t1n", "t1c", "t2w", "t2f", "seg")
SITE_NO = "Site No (represents the originating institution)"


def write_case(folder: Path, name: str, sequences: tuple[str, ...], joint: str = "-") -> None:
    for sequence in sequences:
        path = folder / name / f"{name}{joint}{sequence}.nii.gz"
        write_scan(path, label=sequence == "seg")


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """Two hospitals; a patient with two times, a case without T2, one without segmentation."""
    folder = tmp_path / "Übung 1" / "ASNR-MICCAI-BraTS2023-GLI-Challenge-TrainingData"
    for name in ("BraTS-GLI-00000-000", "BraTS-GLI-00000-001", "BraTS-GLI-00002-000"):
        write_case(folder, name, NEW)
    write_case(folder, "BraTS-GLI-00646-001", ("t1n", "t1c", "t2f", "seg"))
    write_case(folder, "BraTS-GLI-00003-000", NEW[:4])
    (folder / "again").symlink_to(folder, target_is_directory=True)
    return folder


def mapping(path: Path) -> Path:
    """A mapping as it is published: numbers, empty cells, columns of other years."""
    names = ["BraTS-GLI-00000-000", "BraTS-GLI-00002-000", "BraTS-GLI-00003-000", None]
    table = pandas.DataFrame(
        {
            "BraTS2023": names,
            "BraTS2021": ["BraTS2021_00000", "BraTS2021_00002", None, "BraTS2021_00009"],
            "Cohort Name (if publicly available)": ["UPENN-GBM", None, None, None],
            SITE_NO: [1, 18, 18, 4],
        }
    )
    if path.suffix == ".xlsx":
        table.to_excel(path, index=False)
    else:
        table.to_csv(path, index=False, sep=";")
    return path


def test_a_case_is_a_subject_and_two_times_are_one_patient(release: Path, tmp_path: Path) -> None:
    (manifest,) = import_brats(release, tmp_path / "out", seed=1)
    first, second, *_ = manifest.subjects
    assert (first.subject, first.patient) == ("BraTS-GLI-00000-000", "BraTS-GLI-00000")
    assert (second.patient, second.split) == (first.patient, first.split)
    assert set(first.files) == set(SEQUENCES)
    assert first.metadata["lesion_values"] == "labels"
    check_and_prepare(tmp_path / "out", *settings_of("brats"), "size=[24,24]")


def test_incomplete_cases_are_named_and_come_with_what_they_have(release: Path) -> None:
    found = find_brats(release)
    by_name = {scan.subject: scan for scan in found.scans}
    assert "BraTS-GLI-00646-001: no t2" in found.problems
    assert set(by_name["BraTS-GLI-00646-001"].files) == {"t1", "t1ce", "flair"}
    assert by_name["BraTS-GLI-00003-000"].lesion_mask is None
    assert any("no segmentation" in said and "00003" in said for said in found.problems)
    assert "all cases are one site; see --sites" in found.problems[-1]
    assert len(found.problems) == 3


@pytest.mark.parametrize("name", ["BraTS2023_2017_GLI_Mapping.xlsx", "BraTS21-17_Mapping.csv"])
def test_a_mapping_gives_patients_their_hospital_at_every_time(
    release: Path, tmp_path: Path, name: str
) -> None:
    found = find_brats(release, mapping(tmp_path / name))
    assert found.patients_by_site() == {"site01": 1, "site18": 2}
    assert sum(scan.site == "site01" for scan in found.scans) == 2
    (said,) = [problem for problem in found.problems if "in no row" in problem]
    assert "1 cases" in said and "BraTS-GLI-00646-001" in said


def test_a_partition_of_fets_forms_sites(tmp_path: Path) -> None:
    folder = tmp_path / "MICCAI_FeTS2022_TrainingData"
    for number in range(3):
        write_case(folder, f"FeTS2022_0000{number}", OLD, "_")
    rows = "".join(f"{1 + number % 2},FeTS2022_0000{number}\n" for number in range(3))
    (folder / "partitioning_1.csv").write_text(f"Partition_ID,Subject_ID\n{rows}")
    recognised = recognise(folder)
    assert recognised is not None
    assert recognised.found.patients_by_site() == {"site01": 2, "site02": 1}
    assert recognised.arguments[-1] == str(folder / "partitioning_1.csv")


@pytest.mark.parametrize(
    ("case", "site"),
    [
        ("BraTS2021_00000", "brats"),
        ("BraTS20_Training_001", "brats"),
        ("Brats18_CBICA_AOD_1", "CBICA"),
        ("BraTS19_TCIA01_131_1", "TCIA01"),
    ],
)
def test_names_of_earlier_years_are_known(tmp_path: Path, case: str, site: str) -> None:
    write_case(tmp_path / "HGG", case, OLD, "_")
    (scan,) = find_brats(tmp_path).scans
    assert (scan.subject, scan.site) == (case, site)
    assert set(scan.files) == set(SEQUENCES)
    assert scan.metadata["grade"] == "HGG"


def test_a_case_that_lies_in_two_folders_is_taken_once_and_named(release: Path) -> None:
    write_case(release.parent / "copy", "BraTS-GLI-00002-000", NEW)
    found = find_brats(release.parent)
    assert len(found.scans) == 5
    assert any("BraTS-GLI-00002-000: 5 files are there twice" in said for said in found.problems)


def test_a_table_of_something_else_and_one_with_two_sites_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="neither a mapping of BraTS"):
        read_sites(path)
    path.write_text("Partition_ID,Subject_ID\n1,FeTS2022_00000\n2,FeTS2022_00000\n")
    with pytest.raises(DataError, match="row 3: 'FeTS2022_00000' is at site02, but at site01"):
        read_sites(path)


def test_a_workbook_that_is_damaged_is_one_sentence(
    release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = mapping(tmp_path / "m.xlsx")
    path.write_bytes(path.read_bytes()[:900])
    command = [
        "brats",
        "--source",
        str(release),
        "--sites",
        str(path),
        "--out",
        str(tmp_path / "o"),
    ]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert "m.xlsx: is damaged or no workbook" in said and said.count("\n") == 1
    assert not (tmp_path / "o").exists()


def test_a_cell_that_stands_for_no_value_is_neither_case_nor_site(tmp_path: Path) -> None:
    """The published mappings have such cells where a case was not part of an earlier year."""
    path = tmp_path / "BraTS21-17_Mapping.csv"
    path.write_text(
        f"BraTS2021,BraTS2020,{SITE_NO}\nBraTS2021_00000,N/A,1\nBraTS2021_00002,N/A,18\n"
        "BraTS2021_00003,NA,NA\nBraTS2021_00004,nan,\n"
    )
    assert read_sites(path) == {"BraTS2021_00000": "site01", "BraTS2021_00002": "site18"}
