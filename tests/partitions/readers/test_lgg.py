"""The TCGA-LGG reader on synthetic folders in its layout, and on real scans where present."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from miniature_scans import check_withdrawn_stays_away
from PIL import Image

from fedi2i.errors import DataError
from partitions.manifest import read_manifest, split_counts
from partitions.preparation import PreparationConfig, prepare_site
from partitions.readers.lgg import import_lgg, recognise

CONFIG = PreparationConfig(source="t1", target="flair", size=(256, 256), spacing=None)


def _write_patient(source: Path, name: str, slices: int = 12) -> Path:
    """Slices whose channels are their number, 100 + number, 200 + number; one lesion pixel."""
    folder = source / name
    folder.mkdir(parents=True)
    for number in range(1, slices + 1):
        image = np.zeros((6, 5, 3), np.uint8)
        image[:] = (number, 100 + number, 200 + number)
        mask = np.zeros((6, 5), np.uint8)
        mask[1, 2] = 255
        Image.fromarray(image).save(folder / f"{name}_{number}.tif")
        Image.fromarray(mask).save(folder / f"{name}_{number}_mask.tif")
    return folder


def _voxels(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "kaggle_3m"
    for name in ("TCGA_CS_0001_19990101", "TCGA_HT_0002_19990101", "TCGA_CS_A003_19990101"):
        _write_patient(folder, name)
    (folder / "data.csv").write_text(
        "Patient,gender,age_at_initial_pathologic,death01\nTCGA_CS_0001,1,44,1\nTCGA_HT_0002,,,0\n"
    )
    return folder


def test_slices_are_ordered_by_number_and_channels_are_t1_flair_t1gd(
    source: Path, tmp_path: Path
) -> None:
    import_lgg(source, tmp_path / "out", seed=1)
    folder = tmp_path / "out/CS/TCGA_CS_0001_19990101"
    for name, offset in (("t1", 0), ("flair", 100), ("t1gd", 200)):
        assert _voxels(folder / f"{name}.nii.gz")[0, 0].tolist() == [
            offset + n for n in range(1, 13)
        ]
    lesion = _voxels(folder / "lesion.nii.gz")
    assert lesion.shape == (5, 6, 12)
    assert np.argwhere(lesion[..., 0]).tolist() == [[2, 1]]  # x is the column, y the row


def test_no_voxel_size_is_invented(source: Path, tmp_path: Path) -> None:
    (manifest, _) = import_lgg(source, tmp_path / "out", seed=1)
    assert {record.metadata["voxel_size"] for record in manifest.subjects} == {"unknown"}
    header = nibabel.load(tmp_path / "out/CS/TCGA_CS_0001_19990101/t1.nii.gz").header
    assert header.get_xyzt_units()[0] == "unknown"


def test_hospitals_of_tcga_become_sites_and_age_comes_from_the_table(
    source: Path, tmp_path: Path
) -> None:
    manifests = import_lgg(source, tmp_path / "out", seed=7)
    assert [(m.site, len(m.subjects), m.split_seed) for m in manifests] == [
        ("CS", 2, 7),
        ("HT", 1, 7),
    ]
    first, second = manifests[0].subjects
    assert (first.metadata["age"], first.metadata["gender_code"]) == (44, 1)
    assert "age" not in second.metadata
    assert "age" not in manifests[1].subjects[0].metadata
    assert read_manifest(tmp_path / "out/CS", "CS") == manifests[0]


def test_a_channel_that_repeats_flair_is_a_missing_sequence(source: Path, tmp_path: Path) -> None:
    folder = source / "TCGA_CS_0001_19990101"
    for path in folder.glob("*[0-9].tif"):
        image = np.asarray(Image.open(path)).copy()
        image[..., 2] = image[..., 1]
        Image.fromarray(image).save(path)
    record = import_lgg(source, tmp_path / "out", seed=1)[0].subjects[0]
    assert sorted(record.files) == ["flair", "t1"]
    assert record.metadata["missing_sequences"] == ["t1gd"]
    assert not (tmp_path / "out/CS/TCGA_CS_0001_19990101/t1gd.nii.gz").exists()


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


def _shrink(path: Path) -> None:
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(path)


def _turn_grey(path: Path) -> None:
    Image.fromarray(np.zeros((6, 5), np.uint8)).save(path)


def _take_the_mask_away(path: Path) -> None:
    path.with_name(f"{path.stem}_mask.tif").unlink()


DAMAGE = [
    (_truncate, "19990101_7.tif: damaged or not a TIFF"),
    (_shrink, "19990101_7.tif: has (4, 4) pixels"),
    (_turn_grey, "19990101_7.tif: has 1 channels"),
    (_take_the_mask_away, "19990101_7_mask.tif: no such file"),
]


@pytest.mark.parametrize(("damage", "sentence"), DAMAGE)
def test_a_damaged_slice_costs_its_patient_and_nobody_else(
    source: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[Path], None],
    sentence: str,
) -> None:
    damage(source / "TCGA_CS_A003_19990101/TCGA_CS_A003_19990101_7.tif")
    manifests = import_lgg(source, tmp_path / "out", seed=1)
    assert [[record.patient for record in one.subjects] for one in manifests] == [
        ["TCGA_CS_0001"],
        ["TCGA_HT_0002"],
    ]
    assert "left out: " in caplog.text and sentence in caplog.text
    assert not (tmp_path / "out/CS/TCGA_CS_A003_19990101").exists()


@pytest.mark.parametrize(("damage", "sentence"), DAMAGE)
def test_where_every_patient_is_damaged_nothing_is_written(
    source: Path, tmp_path: Path, damage: Callable[[Path], None], sentence: str
) -> None:
    for folder in source.glob("TCGA_*"):
        damage(folder / f"{folder.name}_7.tif")
    with pytest.raises(DataError, match=f"no patient can be used.*{re.escape(sentence)}"):
        import_lgg(source, tmp_path / "out", seed=1)
    assert not (tmp_path / "out").exists()


def test_a_table_with_other_columns_or_a_wrong_age_is_refused(source: Path, tmp_path: Path) -> None:
    (source / "data.csv").write_text("Patient,gender\nX,1\n")
    with pytest.raises(DataError, match="no column age_at_initial_pathologic"):
        import_lgg(source, tmp_path / "out", seed=1)
    (source / "data.csv").write_text("Patient,gender,age_at_initial_pathologic\nX,1,old\n")
    with pytest.raises(DataError, match=r"data.csv: row 2: age_at_initial_pathologic 'old'"):
        import_lgg(source, tmp_path / "out", seed=1)
    (source / "data.csv").write_text("Patient,gender,age_at_initial_pathologic\nX,1,1e999\n")
    with pytest.raises(DataError, match="'1e999' is not a number"):
        import_lgg(source, tmp_path / "out", seed=1)
    (source / "data.csv").write_bytes(b"Patient,gender,age_at_initial_pathologic\nX\x81,1,2\n")
    with pytest.raises(DataError, match="is neither UTF-8"):
        import_lgg(source, tmp_path / "out", seed=1)


def test_a_wrong_folder_is_refused_with_the_name_to_give(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such data folder; give the folder 'kaggle_3m'"):
        import_lgg(tmp_path / "gone", tmp_path / "out", seed=1)
    with pytest.raises(DataError, match="no folder named like"):
        import_lgg(tmp_path, tmp_path / "out", seed=1)


def test_real_scans_go_from_tiff_to_prepared_slices(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "lgg" / "kaggle_3m"
    manifests = import_lgg(source, tmp_path / "lgg", seed=3)
    assert {m.site: sum(split_counts(m).values()) for m in manifests} == {"CS": 2, "DU": 2, "HT": 3}
    lacking = next(r for r in manifests[2].subjects if r.subject.startswith("TCGA_HT_8105"))
    assert sorted(lacking.files) == ["flair"]
    with (source / "data.csv").open() as stream:
        ages = {row["Patient"]: row["age_at_initial_pathologic"] for row in csv.DictReader(stream)}
    for record in (record for manifest in manifests for record in manifest.subjects):
        assert record.metadata["age"] == int(ages[record.metadata["patient_id"]])

    site = prepare_site(manifests[2], CONFIG, tmp_path / "cache", progress=False)
    assert set(site.skipped) == {lacking.subject}
    prepared = [(site.split(name), s) for name in ("train", "val", "test")
                for s in site.split(name).subjects]  # fmt: skip
    assert {s.subject[:12] for _, s in prepared} == {"TCGA_HT_7602", "TCGA_HT_7686"}
    for split, subject in prepared:
        _check_against_tiff(source / subject.subject, split, subject)


def _check_against_tiff(folder: Path, split: object, subject: object) -> None:
    """Same picture as the TIFF of the slice with the largest lesion: same pixels, same place."""
    span = slice(subject.start, subject.stop)  # type: ignore[attr-defined]
    lesion = split.lesion[span]  # type: ignore[attr-defined]
    flair = split.target[span]  # type: ignore[attr-defined]
    assert subject.spacing is None  # type: ignore[attr-defined]
    masks = {
        int(path.name.split("_")[-2]): np.asarray(Image.open(path)) > 0
        for path in folder.glob("*_mask.tif")
    }
    number = max(masks, key=lambda n: masks[n].sum())
    index = int(lesion.sum(axis=(1, 2)).argmax())
    assert lesion[index].sum() == masks[number].sum()
    original = np.asarray(Image.open(folder / f"{folder.name}_{number}.tif"))[..., 1]
    # The head may be moved as a whole, so compare the pixels of the lesion by rank.
    before, after = original[masks[number]], flair[index][lesion[index] > 0]
    assert np.corrcoef(before.astype(float), after.astype(float))[0, 1] > 0.99


def test_importing_twice_writes_the_same_manifests(source: Path, tmp_path: Path) -> None:
    one = import_lgg(source, tmp_path / "one", seed=5)
    two = import_lgg(source, tmp_path / "two", seed=5)
    assert [m.content_hash() for m in one] == [m.content_hash() for m in two]


def test_inspect_reads_the_slices_and_names_copies_and_damage(source: Path) -> None:
    folder = source / "TCGA_CS_0001_19990101"
    for path in folder.glob("*[0-9].tif"):
        image = np.asarray(Image.open(path)).copy()
        image[..., 2] = image[..., 1]
        Image.fromarray(image).save(path)
    damaged = source / "TCGA_HT_0002_19990101/TCGA_HT_0002_19990101_7.tif"
    damaged.write_bytes(damaged.read_bytes()[:60])
    recognised = recognise(source)
    assert recognised is not None
    assert recognised.found.subjects_by_sequence() == {"flair": 2, "t1": 2, "t1gd": 1}
    copied, broken = recognised.found.problems
    assert "TCGA_CS_0001_19990101: no t1gd" in copied
    assert "19990101_7.tif: damaged" in broken
    assert recognise(folder) is None


def test_a_withdrawn_patients_scans_are_not_written_again(source: Path, tmp_path: Path) -> None:
    check_withdrawn_stays_away(lambda: import_lgg(source, tmp_path / "out", seed=1))
