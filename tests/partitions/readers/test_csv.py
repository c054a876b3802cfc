"""In-house scans through a table; every complaint carries the row number."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fedi2i.errors import DataError, UserError
from partitions.__main__ import main
from partitions.manifest import SiteManifest, read_manifest, split_counts
from partitions.preparation import PreparationConfig, prepare_site
from partitions.readers.csv import import_csv

HEADER = "case_id,patient_id,site,t1,t2,mask,age,manufacturer"


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Twelve empty files with names of scans; the reader looks at names only."""
    folder = tmp_path / "in-house"
    folder.mkdir()
    for number in range(6):
        for name in ("t1", "t2"):
            (folder / f"p{number}_{name}.nii.gz").touch()
    (folder / "p0_mask.nii.gz").touch()
    return folder


def _table(folder: Path, *rows: str, header: str = HEADER) -> Path:
    path = folder / "scans.csv"
    path.write_text("\n".join((header, *rows)) + "\n", encoding="utf-8")
    return path


def _row(number: int, site: str = "North", patient: str = "", rest: str = ",,") -> str:
    scans = f"p{number}_t1.nii.gz,p{number}_t2.nii.gz"
    return f"S{number},{patient or f'P{number}'},{site},{scans}{rest}"


def _import(table: Path) -> tuple[SiteManifest, ...]:
    return import_csv(table, table.parent.parent / "out", "house", seed=4)


def test_ages_from_90_on_are_one_group_as_safe_harbor_has_it(scans: Path) -> None:
    ages = ["89", "89.9", "90", "103.5", "90+"]
    rows = [_row(number, rest=f",,{age},") for number, age in enumerate(ages)]
    (manifest,) = _import(_table(scans, *rows))
    found = [record.metadata["age"] for record in manifest.subjects]
    assert found == [89.0, 89.9, "90+", "90+", "90+"]
    assert "103" not in (manifest.root / "manifest.json").read_text(encoding="utf-8")


def test_rows_become_one_manifest_per_site_that_points_at_the_scans_in_place(scans: Path) -> None:
    first = "S0,P0,North,p0_t1.nii.gz,p0_t2.nii.gz,p0_mask.nii.gz,61,Maker"
    table = _table(scans, first, _row(1, rest=",,,"), _row(2, "South", rest=",,,"))
    manifests = _import(table)
    assert [m.site for m in manifests] == ["North", "South"]
    north = read_manifest(scans.parent / "out/North", "North")
    assert north == manifests[0]
    assert (north.dataset, north.split_seed, north.computed) == ("house", 4, False)
    record = north.subjects[0]
    assert record.files == {
        "t1": "../../in-house/p0_t1.nii.gz",
        "t2": "../../in-house/p0_t2.nii.gz",
    }
    assert (north.root / record.files["t1"]).samefile(scans / "p0_t1.nii.gz")
    assert record.mask == "../../in-house/p0_mask.nii.gz"
    assert record.metadata == {"age": 61.0, "manufacturer": "Maker", "patient_id": "P0"}
    assert north.subjects[1].metadata == {"patient_id": "P1"}


def test_two_scans_of_one_patient_stay_in_one_split(scans: Path) -> None:
    rows = [_row(number, patient=f"P{number // 2}", rest=",,,") for number in range(6)]
    (manifest,) = _import(_table(scans, *rows))
    by_patient: dict[str, set[str]] = {}
    for record in manifest.subjects:
        by_patient.setdefault(record.metadata["patient_id"], set()).add(record.split)
    assert [len(splits) for splits in by_patient.values()] == [1, 1, 1]
    assert split_counts(manifest) == {"train": 2, "val": 2, "test": 2}


def test_splits_of_the_table_are_kept_and_no_seed_is_recorded(scans: Path) -> None:
    rows = ["S0;North;val;p0_t1.nii.gz;p0_t2.nii.gz", "S1;North;test;p1_t1.nii.gz;p1_t2.nii.gz"]
    (manifest,) = _import(_table(scans, *rows, header="subject;site;split;t1;t2"))
    assert [(r.subject, r.split) for r in manifest.subjects] == [("S0", "val"), ("S1", "test")]
    assert manifest.split_seed is None


def test_an_empty_cell_is_a_missing_sequence(scans: Path) -> None:
    rows = [_row(0, rest=",,,"), "S1,P1,North,p1_t1.nii.gz,,,,"]
    (manifest,) = _import(_table(scans, *rows))
    assert sorted(manifest.subjects[1].files) == ["t1"]


GOOD = "S0,P0,North,p0_t1.nii.gz,p0_t2.nii.gz,,,"


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([], "holds no rows"),
        ([GOOD, GOOD], "row 3: subject 'S0' already appears in row 2"),
        ([GOOD, "", _row(0, rest=",,,")], "row 4: subject 'S0' already appears in row 2"),
        ([GOOD, "S1,P1,North,gone.nii.gz,p1_t2.nii.gz,,,"], "row 3: no such file 'gone.nii.gz'"),
        ([GOOD, "S1,P1,North,scan.txt,p1_t2.nii.gz,,,"], "row 3: 'scan.txt' in the sequence"),
        ([GOOD, "S1,P1,North,scan.dcm,p1_t2.nii.gz,,,"],
         "row 3: column 't1' holds 'scan.dcm', a DICOM file; a table names .nii.gz, .nii, .mha"),
        ([GOOD, "S1,P1,North,p1_t1.nii.gz,p1_t2.nii.gz,,,series.mhd"],
         "row 3: column 'manufacturer' holds 'series.mhd', a detached MetaImage file"),
        ([GOOD, "S1,P1,North,../in-house,p1_t2.nii.gz,,,"], "a folder, as DICOM series are"),
        ([GOOD, _row(1, rest=",,inf,")], "row 3: age 'inf' is not a finite number"),
        ([GOOD, "S1,P1,North"], "row 3: 3 cells under 8 columns"),
        ([GOOD, ",P1,North,p1_t1.nii.gz,p1_t2.nii.gz,,,"], "row 3: the subject is empty"),
        ([GOOD, "NA,P1,North,p1_t1.nii.gz,p1_t2.nii.gz,,,"], "row 3: the subject is empty"),
        ([GOOD, _row(1, site="n/a", rest=",,,")], "row 3: site '' cannot be used as a name"),
        ([GOOD, _row(1, site="a/b", rest=",,,")], "row 3: site 'a/b' cannot be used as a name"),
        ([GOOD, _row(1, site="..", rest=",,,")], "row 3: site '..' cannot be used as a name"),
        ([GOOD, _row(1, rest=",,old,")], "row 3: age 'old' is not a number"),
        (["S0,P0,North,p0_t1.nii.gz,,,,"], "found 1 sequence columns, two are needed"),
    ],
)  # fmt: skip
def test_a_row_that_cannot_be_used_is_named_and_nothing_is_written(
    scans: Path, rows: list[str], sentence: str
) -> None:
    with pytest.raises(UserError) as caught:
        _import(_table(scans, *rows))
    assert sentence in str(caught.value)
    assert "scans.csv" in str(caught.value)
    assert not (scans.parent / "out").exists()


@pytest.mark.parametrize(
    ("header", "rows", "sentence"),
    [
        ("case_id,centre,t1,t2", ["S0,A,p0_t1.nii.gz,p0_t2.nii.gz"], "no column 'site'"),
        ("case,site,t1,t2", ["S0,A,p0_t1.nii.gz,p0_t2.nii.gz"], "no column 'subject'"),
        ("subject,site,t1,t1", ["S0,A,p0_t1.nii.gz,p0_t2.nii.gz"], "column 't1' appears twice"),
        ("subject,site,split,t1,t2", ["S0,A,tset,p0_t1.nii.gz,p0_t2.nii.gz"],
         "row 2: unknown split 'tset'; did you mean 'test'?"),
        ("subject,site,split,t1,t2",
         ["S0,A,test,p0_t1.nii.gz,p0_t2.nii.gz", "S1,A,,p1_t1.nii.gz,p1_t2.nii.gz"],
         "row 3: the split is empty while other rows have one"),
        ("subject,patient_id,site,split,t1,t2",
         ["S0,P,A,test,p0_t1.nii.gz,p0_t2.nii.gz", "S1,P,A,train,p1_t1.nii.gz,p1_t2.nii.gz"],
         "row 3: patient 'P' has split 'train' but 'test' in row 2"),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_used_is_refused(
    scans: Path, header: str, rows: list[str], sentence: str
) -> None:
    with pytest.raises(DataError) as caught:
        _import(_table(scans, *rows, header=header))
    assert sentence in str(caught.value)


def test_a_folder_of_results_that_is_a_link_in_circles_is_one_sentence(
    scans: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = _table(scans, "S0,A,p0_t1.nii.gz,p0_t2.nii.gz", header="subject,site,t1,t2")
    circle = scans / "circle"
    circle.symlink_to(circle)
    given = ["csv", "--table", str(table), "--dataset", "d", "--out", str(circle)]
    assert main(given) == 2
    assert "error: " in capsys.readouterr().err


def test_a_missing_table_and_one_in_another_encoding_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such table"):
        _import(tmp_path / "in-house" / "scans.csv")
    (tmp_path / "scans.csv").write_bytes(b"subject,site\n" + b"x" * 200_000)
    with pytest.raises(DataError, match="is no table of cells"):
        _import(tmp_path / "scans.csv")
    (tmp_path / "scans.csv").write_bytes(b"subject,site\nM\x81ller,A\n")
    with pytest.raises(DataError, match="is neither UTF-8, UTF-16 nor Windows-1252"):
        _import(tmp_path / "scans.csv")
    (tmp_path / "scans.csv").write_bytes(b"PK\x03\x04 and so on")
    with pytest.raises(DataError, match="is an Excel workbook; save it as 'CSV UTF-8'"):
        _import(tmp_path / "scans.csv")


ROW = "S0{s}north{s}p0_t1.nii.gz{s}p0_t2.nii.gz"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("case_id,site,t1,t2\n" + ROW.format(s=","), "utf-8-sig"),
        ("case_id\tsite\tt1\tt2\n" + ROW.format(s="\t"), "utf-16"),
        ("case_id;site;t1;t2\n" + ROW.format(s=";"), "utf-16-le"),
        ("sep=;\ncase_id;site;t1;t2\n" + ROW.format(s=";"), "utf-8"),
        ("sep=|\ncase_id|site|t1|t2\n" + ROW.format(s="|"), "utf-8"),
        ("case_id;site;t1;t2;;\n" + ROW.format(s=";") + ";;\n;;;;;\n", "utf-8"),
        ("Case_ID, Site ,T1,T2\n" + ROW.format(s=","), "utf-8"),
        ("Case ID;site;t1;t2\r\n" + ROW.format(s=";"), "utf-8"),
        ('case_id,"a; b; c; d; e; f",site,t1,t2\nS0,,north,p0_t1.nii.gz,p0_t2.nii.gz', "utf-8"),
        ("case_id,site,t1,t2,mask\n" + ROW.format(s=",") + ",N/A", "utf-8"),
        ("case_id,site,t1,t2\nS0,north,.\\p0_t1.nii.gz,.\\p0_t2.nii.gz", "utf-8"),
    ],
)
def test_tables_as_spreadsheets_write_them_are_read(scans: Path, text: str, encoding: str) -> None:
    path = scans / "scans.csv"
    path.write_bytes(text.encode(encoding))
    (manifest,) = _import(path)
    (record,) = manifest.subjects
    assert (record.subject, record.site, record.mask) == ("S0", "north", None)
    assert record.files == {name: f"../../in-house/p0_{name}.nii.gz" for name in ("t1", "t2")}


def test_a_text_that_is_not_utf_8_is_read_as_windows_1252_with_a_warning(
    scans: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = _table(scans)
    row = "Müller,north,p0_t1.nii.gz,p0_t2.nii.gz"
    path.write_bytes(f"case_id,site,t1,t2\n{row}\n".encode("cp1252"))
    assert _import(path)[0].subjects[0].subject == "Müller"
    assert "is not UTF-8 and is read as Windows-1252" in caplog.text


@pytest.mark.parametrize("missing", ["n/a", "N/A", "nan", "NaN", "", "NULL"])
def test_what_programs_write_for_a_missing_value_is_missing(scans: Path, missing: str) -> None:
    row = f"S0,{missing},North,p0_t1.nii.gz,p0_t2.nii.gz,{missing},{missing},{missing}"
    (manifest,) = _import(_table(scans, row))
    assert manifest.subjects[0].metadata == {}
    assert manifest.subjects[0].mask is None
    assert "NaN" not in (manifest.root / "manifest.json").read_text()


def test_a_decimal_comma_is_a_point_where_semicolons_separate(scans: Path) -> None:
    header = "case_id;site;t1;t2;age"
    (manifest,) = _import(_table(scans, ROW.format(s=";") + ";61,5", header=header))
    assert manifest.subjects[0].metadata == {"age": 61.5}


def test_metadata_are_what_is_known_or_asked_for_and_never_names_or_birth_dates(
    scans: Path, caplog: pytest.LogCaptureFixture
) -> None:
    header = "case_id,site,t1,t2,Gender,patient_name,BirthDate,Ward,grade"
    table = _table(scans, ROW.format(s=",") + ",F,Doe^Jane,1961-01-01,7b,II", header=header)
    (manifest,) = import_csv(table, scans.parent / "out", "house", 4, keep=["Grade"])
    assert manifest.subjects[0].metadata == {"sex": "F", "grade": "II"}
    for column in ("patient_name", "birthdate"):
        assert f"column '{column}' looks personal and is left out" in caplog.text
    assert "column 'ward' is left out; '--keep ward' keeps it" in caplog.text
    with pytest.raises(UserError, match="--keep patient_name: looks like names"):
        import_csv(table, scans.parent / "out", "house", 4, keep=["patient_name"])
    with pytest.raises(UserError, match=r"--keep height: .* has no such column"):
        import_csv(table, scans.parent / "out", "house", 4, keep=["height"])


def test_two_hospitals_may_number_their_patients_alike(scans: Path) -> None:
    rows = [
        f"sub-0{n % 3},0{n % 3},{site},p{n}_t1.nii.gz,p{n}_t2.nii.gz,,,"
        for n, site in enumerate(("North",) * 3 + ("South",) * 3)
    ]
    north, south = _import(_table(scans, *rows))
    names = ["sub-00", "sub-01", "sub-02"]
    assert [record.subject for record in north.subjects] == names
    assert [record.subject for record in south.subjects] == names
    assert split_counts(north) == split_counts(south) == {"train": 1, "val": 1, "test": 1}


def test_a_declared_mask_keeps_its_declaration_and_a_misspelt_one_is_refused(scans: Path) -> None:
    header = "case_id,site,t1,t2,mask,mask_values"
    row = ROW.format(s=",") + ",p0_mask.nii.gz,"
    (manifest,) = _import(_table(scans, f"{row}>0.5", header=header))
    assert manifest.subjects[0].metadata == {"mask_values": ">0.5"}
    with pytest.raises(DataError, match="row 2: mask_values 'lables' is not known; write 'labels'"):
        _import(_table(scans, f"{row}lables", header=header))


def test_a_cell_without_a_column_name_is_named(scans: Path) -> None:
    table = _table(scans, ROW.format(s=",") + ",x", header="case_id,site,t1,t2,")
    with pytest.raises(DataError, match="row 2: 'x' stands in column 5, which has no name"):
        _import(table)


def test_a_table_of_real_nifti_pairs_can_be_prepared(
    make_site: Callable[..., SiteManifest], tmp_path: Path
) -> None:
    scans = make_site()
    rows = [f"{r.subject},A,{r.files['t1']},{r.files['t2']}" for r in scans.subjects]
    table = _table(scans.root, *rows, header="subject,site,t1,t2")
    (manifest,) = import_csv(table, tmp_path / "out", "house", seed=0)
    config = PreparationConfig(size=(40, 32), spacing=None)
    site = prepare_site(manifest, config, tmp_path / "cache", progress=False)
    assert len(site.split("train").subjects) == 2


def test_real_scans_with_a_table_are_prepared_at_the_default_size(
    shared_data: Path, tmp_path: Path
) -> None:
    patient = shared_data / "open-ms" / "patient07"
    table = tmp_path / "scans.csv"
    table.write_text(f"subject,site,t1,t2\np07,Ljubljana,{patient}/t1.nii.gz,{patient}/t2.nii.gz\n")
    (manifest,) = import_csv(table, tmp_path / "out", "open-ms", seed=0)
    train = prepare_site(manifest, PreparationConfig(), tmp_path / "c", progress=False).split(
        "train"
    )
    assert train.source.shape[1:] == PreparationConfig().size
    assert train.subjects[0].spacing == (2.0, 2.0, 1.0)
    # The volume of the skull-stripped brain, counted on the original 1 mm grid.
    brain = 182 * 218 * 182 * 0.1568
    assert abs(train.mask.sum() * 2.0 * 2.0 / brain - 1) < 0.1
