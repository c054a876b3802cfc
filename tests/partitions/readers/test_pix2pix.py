"""Pictures that hold source and target side by side."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from miniature_scans import check_and_prepare, check_withdrawn_stays_away
from PIL import Image

from fedi2i.errors import ConfigError, DataError
from partitions.readers.pix2pix import import_pix2pix, recognise


def write_picture(path: Path, left: int, right: int, channels: int = 3, size: int = 32) -> None:
    """A disc of noise around a value in each half; seeded by the values."""
    rows, columns = np.mgrid[:size, :size] - (size - 1) / 2
    disc = rows**2 + columns**2 < (0.4 * size) ** 2
    noise = np.random.default_rng(1000 * left + right).integers(-20, 20, (2, size, size))
    halves = [np.where(disc, value + n, 0) for value, n in zip((left, right), noise, strict=True)]
    picture = np.hstack(halves).astype(np.uint8)
    if channels == 3:
        picture = np.repeat(picture[..., None], 3, axis=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two sites; one names its patients, the other only numbers its pictures."""
    root = tmp_path / "Bilder mit ä"
    for split, patients in (("train", (1, 2)), ("val", (3,)), ("test", (4,))):
        for patient in patients:
            for number in (1, 2, 10):
                name = f"p{patient}_{number}.png"
                write_picture(root / "north" / split / name, 100 + number, 90 + 10 * patient)
    for split, first in (("train", 1), ("val", 4), ("test", 7)):
        for number in range(first, first + 3):
            write_picture(root / "south" / split / f"{number}.png", 60 + number, 150, channels=1)
    return root


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj)


def test_pictures_become_volumes_by_patient_in_the_order_of_their_numbers(
    pictures: Path, tmp_path: Path
) -> None:
    north, south = import_pix2pix(pictures, tmp_path / "out", "ct", ("mr", "t2"))
    assert [(r.subject, r.patient, r.split) for r in north.subjects] == [
        ("test-p4", "p4", "test"),
        ("train-p1", "p1", "train"),
        ("train-p2", "p2", "train"),
        ("val-p3", "p3", "val"),
    ]
    volume = voxels(north.root / "train-p1/mr.nii.gz")
    assert volume.shape == (32, 32, 3)
    assert [round(float(np.median(volume[..., k][volume[..., k] > 0]))) for k in range(3)] == (
        pytest.approx([101, 102, 110], abs=2)
    )
    first = np.asarray(Image.open(pictures / "north/train/p1_1.png"))[..., 0]
    assert (first[:, 32:] == voxels(north.root / "train-p1/t2.nii.gz")[..., 0].T).all()
    assert [r.subject for r in south.subjects] == ["test", "train", "val"]
    assert {r.metadata["voxel_size"] for r in (*north.subjects, *south.subjects)} == {"unknown"}
    check_and_prepare(tmp_path / "out", "source=mr", "target=t2", "spacing=null", "size=[32,32]")


def test_a_patient_in_two_splits_is_refused(pictures: Path, tmp_path: Path) -> None:
    write_picture(pictures / "north/test/p1_11.png", 50, 60)
    with pytest.raises(DataError, match=r"patient 'p1' .* is in split"):
        import_pix2pix(pictures, tmp_path / "out")
    assert not list((tmp_path / "out").rglob("manifest.json"))


def test_names_without_patients_are_said(pictures: Path) -> None:
    recognised = recognise(pictures)
    assert recognised is not None
    assert recognised.found.patients_by_site() == {"north": 4, "south": 3}
    assert "pictures of south do not say whose they are" in recognised.found.problems[0]
    for path in (pictures / "south/train").iterdir():
        path.rename(path.with_name(f"slice_{path.name}"))
    again = recognise(pictures)
    assert again is not None and again.found.patients_by_site()["south"] == 3


def test_pictures_that_cannot_be_used_are_named(pictures: Path, tmp_path: Path) -> None:
    path = pictures / "north/train/p1_1.png"
    whole = path.read_bytes()
    colours = np.random.default_rng(0).integers(0, 255, (32, 64, 3), dtype=np.uint8)
    Image.fromarray(colours).save(path)
    with pytest.raises(DataError, match=r"p1_1\.png: has colours; each half"):
        import_pix2pix(pictures, tmp_path / "out")
    Image.fromarray(colours[:, :63, 0]).save(path)
    with pytest.raises(DataError, match=r"p1_1\.png: has 63 columns"):
        import_pix2pix(pictures, tmp_path / "out")
    Image.fromarray(colours[..., 0]).convert("P").save(path)
    with pytest.raises(DataError, match=r"p1_1\.png: has colours from a palette"):
        import_pix2pix(pictures, tmp_path / "out")
    path.write_bytes(whole[:100])
    with pytest.raises(DataError, match=r"p1_1\.png: damaged or no picture"):
        import_pix2pix(pictures, tmp_path / "out")
    write_picture(path, 1, 2, size=16)
    with pytest.raises(DataError, match=r"p1_2\.png: is a picture of \(32, 32\) pixels"):
        import_pix2pix(pictures, tmp_path / "out")
    assert not list((tmp_path / "out").rglob("manifest.json"))


def test_two_names_and_folders_with_pictures_are_asked_for(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--sequences t1 t1: name two"):
        import_pix2pix(pictures, tmp_path / "out", sequences=("t1", "t1"))
    with pytest.raises(DataError, match="no pictures in folders 'train'"):
        import_pix2pix(pictures / "north/train", tmp_path / "out")
    with pytest.raises(ConfigError, match="site 'Bilder mit ä 2' cannot be used"):
        import_pix2pix((pictures / "north").rename(tmp_path / "Bilder mit ä 2").parent, tmp_path)


def test_a_withdrawn_patients_scans_are_not_written_again(pictures: Path, tmp_path: Path) -> None:
    check_withdrawn_stays_away(lambda: import_pix2pix(pictures, tmp_path / "out"))
