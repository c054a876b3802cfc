"""IXI with three hospitals, sequences on two grids, and demographics as bad as the real ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import xlwt
from miniature_scans import SAGITTAL, check, check_and_prepare, settings_of, write_scan

from fedi2i.errors import DataError
from partitions.manifest import SubjectRecord
from partitions.readers.ixi import find_ixi, import_ixi, read_demographics, recognise

PERSONS = {
    "IXI002-Guys-0828": "Guys",
    "IXI013-HH-1212": "HH",
    "IXI014-HH-1236": "HH",
    "IXI015-HH-1258": "HH",
    "IXI035-IOP-0873": "IOP",
    "IXI219-Guys-0894": "Guys",
}
HEADER = ("IXI_ID", "SEX_ID (1=m, 2=f)", "HEIGHT", "DOB", "STUDY_DATE", "AGE")
ROWS = (
    (2, 2, 164, "1970-02-22", "2005-11-18", 35.8001368925394),
    (13, 1, 182, "1958-07-20", "2005-06-01", 46.7104722792608),
    (13, 0, 0, "1958-07-20", "2005-06-01", 0),
    (14, 2, 163, "1972-03-27", "2005-08-21", ""),
    (219, 1, 170, "1950-01-01", "2005-08-21", 55.5),
    (219, 2, 160, "1960-01-01", "2005-08-21", 45.5),
    (35, 1, 170, "1910-01-01", "2005-08-21", 95.1),
)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """One folder per sequence as torchio makes them; T1 is sagittal and of another shape."""
    root = tmp_path / "IXI  Daten"
    for name in PERSONS:
        write_scan(root / "T1" / f"{name}-T1.nii.gz", (20, 24, 16), SAGITTAL)
        for sequence in ("T2", "PD"):
            write_scan(root / sequence / f"{name}-{sequence}.nii.gz", (26, 26, 12))
    write_scan(root / "IXI002-Guys-0828-DTI-00.nii.gz")
    (root / "T2" / "IXI015-HH-1258-T2.nii.gz").unlink()
    return root


def as_csv(path: Path) -> Path:
    """As a German spreadsheet saves it."""
    lines = [";".join(str(cell).replace(".", ",") for cell in row) for row in (HEADER, *ROWS)]
    path.write_text("\n".join(lines), encoding="utf-8-sig")
    return path


def as_workbook(path: Path) -> Path:
    book = xlwt.Workbook()
    for name in ("Ethnicity", "Table"):
        sheet = book.add_sheet(name)
        for number, row in enumerate((HEADER, *ROWS)):
            for column, cell in enumerate(row):
                sheet.write(number, column, cell)
    book.save(str(path))
    return path


def by_person(manifests: tuple) -> dict[str, SubjectRecord]:
    return {record.patient: record for m in manifests for record in m.subjects}


def test_hospitals_become_sites_and_t2_to_pd_can_be_prepared(files: Path, tmp_path: Path) -> None:
    manifests = import_ixi(files, tmp_path / "out", seed=1)
    assert {m.site: len(m.subjects) for m in manifests} == {"Guys": 2, "HH": 3, "IOP": 1}
    person = by_person(manifests)["IXI013"]
    assert (person.subject, set(person.files)) == ("IXI013-HH-1212", {"t1", "t2", "pd"})
    assert person.metadata["field_strength"] == 3.0
    settings = [*settings_of("ixi"), "size=[32,32]"]
    check_and_prepare(tmp_path / "out", *settings, sequences="t2,pd")


def test_t1_on_its_own_grid_is_an_error_of_the_check(files: Path, tmp_path: Path) -> None:
    import_ixi(files, tmp_path / "out", seed=1)
    with pytest.raises(AssertionError):
        check(tmp_path / "out")


def test_different_grids_diffusion_and_files_twice_are_said(files: Path) -> None:
    write_scan(files / "IXI-PD" / "IXI002-Guys-0828-PD.nii.gz", (26, 26, 12))
    found = find_ixi(files)
    said = "\n".join(found.problems)
    assert "PD and T1 lie on different voxel grids in 6 subjects" in said
    assert "T1 and T2 lie on different voxel grids in 5 subjects" in said
    assert "PD and T2" not in said
    assert "the diffusion scans of 1 persons" in said
    assert "1 files are there twice" in said
    assert found.pairs == 6


@pytest.mark.parametrize("write", [as_csv, as_workbook])
def test_demographics_are_taken_where_they_agree(files: Path, tmp_path: Path, write) -> None:
    table = write(tmp_path / ("IXI.csv" if write is as_csv else "IXI.xls"))
    persons = by_person(import_ixi(files, tmp_path / "out", 1, table))
    assert persons["IXI002"].metadata["age"] == 35.8
    assert persons["IXI002"].metadata["sex"] == "F"
    assert persons["IXI013"].metadata["age"] == 46.7  # the twin row of zeros says nothing
    assert "age" not in persons["IXI014"].metadata
    assert not {"age", "sex"} & set(persons["IXI219"].metadata)
    assert persons["IXI035"].metadata["age"] == "90+"
    assert "sex" not in persons["IXI015"].metadata  # has no row
    everything = str(persons)
    assert "1970" not in everything and "164" not in everything


def test_contradictions_gaps_and_absent_persons_are_said(files: Path, tmp_path: Path) -> None:
    said = "\n".join(find_ixi(files, as_csv(tmp_path / "IXI.csv")).problems)
    assert "the rows of IXI219 contradict each other" in said
    assert "no age of 2 persons: IXI014, IXI219" in said
    assert "1 persons are in no row of IXI.csv" in said and "IXI015" in said


def test_a_workbook_beside_the_scans_is_found(files: Path) -> None:
    table = as_workbook(files / "IXI.xls")
    recognised = recognise(files)
    assert recognised is not None
    assert recognised.arguments == ("--source", str(files), "--demographics", str(table))


def test_another_table_and_a_wrong_cell_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("IXI_ID,AGE\n1,2\n")
    with pytest.raises(DataError, match=r"give IXI\.xls, or its sheet 'Table' as CSV"):
        read_demographics(path)
    path.write_text('IXI_ID,"SEX_ID (1=m, 2=f)",AGE\n1,2,old\n')
    with pytest.raises(DataError, match="row 2: age 'old' is not a number"):
        read_demographics(path)
    path.write_text('IXI_ID,"SEX_ID (1=m, 2=f)",AGE\n1,2,N/A\n')
    persons, _ = read_demographics(path)
    assert persons == {1: {"sex": "F"}}
    book = xlwt.Workbook()
    book.add_sheet("Tabelle")
    book.save(str(tmp_path / "o.xls"))
    with pytest.raises(DataError, match="has no sheet 'Table'"):
        read_demographics(tmp_path / "o.xls")


def test_without_the_package_for_workbooks_the_sentence_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "python_calamine", None)
    with pytest.raises(DataError, match=r"pip install 'fedi2i\[tables\]', or save it as 'CSV"):
        read_demographics(as_workbook(tmp_path / "IXI.xls"))
