"""MATLAB files of SynDiff."""

from __future__ import annotations

from pathlib import Path

import h5py
import nibabel
import numpy as np
import pytest
import scipy.io
from miniature_scans import check, check_withdrawn_stays_away

from fedi2i.errors import ConfigError, DataError
from partitions.readers.syndiff import import_syndiff, recognise

COUNTS = {"train": 6, "val": 2, "test": 4}


def write_array(path: Path, images: np.ndarray, name: str = "data_fs") -> None:
    """As MATLAB's -v7.3 does; h5py sees (images, width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file[name] = images


@pytest.fixture
def files(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for split, count in COUNTS.items():
        for contrast in ("T1", "T2"):
            images = random.random((count, 12, 16))
            write_array(tmp_path / "IXI" / f"data_{split}_{contrast}.mat", images)
    return tmp_path / "IXI"


def test_each_split_is_a_subject_with_the_voxels_of_the_array(files: Path, tmp_path: Path) -> None:
    (manifest,) = import_syndiff(files, tmp_path / "out")
    assert manifest.site == "IXI"
    assert [(r.subject, r.split) for r in manifest.subjects] == [(s, s) for s in sorted(COUNTS)]
    with h5py.File(files / "data_train_T1.mat") as file:
        images = np.asarray(file["data_fs"], dtype=np.float32)
    volume = np.asarray(nibabel.load(manifest.root / "train/t1.nii.gz").dataobj)
    # x runs along the picture's columns; SynDiff turns (width, height) into rows and columns.
    assert np.array_equal(volume.transpose(2, 0, 1), images)
    check(tmp_path / "out")


def test_a_known_number_of_slices_divides_the_array_into_patients(
    files: Path, tmp_path: Path
) -> None:
    (manifest,) = import_syndiff(files, tmp_path / "out", slices=2, site="north")
    names = [record.subject for record in manifest.subjects]
    assert names == ["test0001", "test0002", "train0001", "train0002", "train0003", "val"]
    with h5py.File(files / "data_train_T2.mat") as file:
        images = np.asarray(file["data_fs"][2:4], dtype=np.float32)
    volume = np.asarray(nibabel.load(manifest.root / "train0002/t2.nii.gz").dataobj)
    assert np.array_equal(volume.transpose(2, 0, 1), images)
    with pytest.raises(DataError, match="2 images, which are not whole patients of 3"):
        import_syndiff(files, tmp_path / "other", slices=3)
    with pytest.raises(ConfigError, match="--slices 0"):
        import_syndiff(files, tmp_path / "other", slices=0)


def test_folders_of_several_sites_are_recognised(files: Path) -> None:
    recognised = recognise(files.parent)
    assert recognised is not None
    assert recognised.found.patients_by_site() == {"IXI": 3}
    assert "do not say whose images they hold" in recognised.found.problems[0]


def test_files_that_cannot_be_used_are_named(files: Path, tmp_path: Path) -> None:
    path = files / "data_val_T2.mat"
    write_array(path, np.zeros((3, 12, 16)))
    with pytest.raises(DataError, match=r"contrasts of 'val' .* \(t1 2, t2 3\)"):
        import_syndiff(files, tmp_path / "out")
    write_array(path, np.zeros((2, 12, 16)), name="images")
    with pytest.raises(DataError, match=r"T2\.mat: holds no array 'data_fs'"):
        import_syndiff(files, tmp_path / "out")
    scipy.io.savemat(path, {"data_fs": np.zeros((2, 12, 16))})
    with pytest.raises(DataError, match=r"save MATLAB's arrays with '-v7\.3'"):
        import_syndiff(files, tmp_path / "out")
    assert not list((tmp_path / "out").rglob("manifest.json"))


def test_a_withdrawn_patients_scans_are_not_written_again(files: Path, tmp_path: Path) -> None:
    check_withdrawn_stays_away(lambda: import_syndiff(files, tmp_path / "out", slices=2))
