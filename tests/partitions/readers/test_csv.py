"""In-house scans through a table; every complaint carries the row number."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fedi2i.errors import DataError, UserError
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
        ([GOOD, "", _row(1, patient="P0", site="South", rest=",,,")],
         "row 4: patient 'P0' has site 'South' but 'North' in row 2"),
        ([GOOD, "S1,P1,North,gone.nii.gz,p1_t2.nii.gz,,,"], "row 3: no such file 'gone.nii.gz'"),
        ([GOOD, "S1,P1,North,scan.dcm,p1_t2.nii.gz,,,"], "row 3: 'scan.dcm' in the sequence"),
        ([GOOD, "S1,P1,North"], "row 3: 3 cells under 8 columns"),
        ([GOOD, ",P1,North,p1_t1.nii.gz,p1_t2.nii.gz,,,"], "row 3: the subject is empty"),
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


def test_a_missing_table_and_one_in_another_encoding_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such table"):
        _import(tmp_path / "in-house" / "scans.csv")
    (tmp_path / "scans.csv").write_bytes("subject,site\nMüller,A\n".encode("latin-1"))
    with pytest.raises(DataError, match="cannot be read as UTF-8"):
        _import(tmp_path / "scans.csv")


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
