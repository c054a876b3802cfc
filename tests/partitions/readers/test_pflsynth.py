"""Pictures whose channels are contrasts."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from miniature_scans import check
from PIL import Image

from fedi2i.errors import DataError
from partitions.readers.pflsynth import contrasts, import_pflsynth, recognise


def write_task(folder: Path, width: int, seed: int) -> None:
    """Three pictures per split, every channel with noise of its own."""
    random = np.random.default_rng(seed)
    for split in ("train", "val", "test"):
        (folder / split).mkdir(parents=True)
        for number in range(3):
            picture = random.integers(1, 255, (16, width, 3), dtype=np.uint8)
            Image.fromarray(picture).save(folder / split / f"{number}.png")


@pytest.fixture
def datasets(tmp_path: Path) -> Path:
    root = tmp_path / "Datasets"
    write_task(root / "IXI" / "T1_T2__PD", 32, 1)
    write_task(root / "MIDAS" / "T1_T2", 16, 2)
    return root


def test_the_task_says_which_contrast_a_channel_is(datasets: Path, tmp_path: Path) -> None:
    ixi, midas = import_pflsynth(datasets, tmp_path / "out")
    (record,) = [record for record in ixi.subjects if record.split == "train"]
    assert set(record.files) == {"t1", "t2", "pd"}
    assert set(midas.subjects[0].files) == {"t1", "t2"}
    picture = np.asarray(Image.open(datasets / "IXI/T1_T2__PD/train/1.png"))
    for name, expected in (
        ("t1", picture[:, :16, 0]),
        ("t2", picture[:, :16, 1]),
        ("pd", picture[:, 16:, 1]),
    ):
        volume = np.asarray(nibabel.load(ixi.root / "train" / f"{name}.nii.gz").dataobj)
        assert (expected == volume[..., 1].T).all()
    check(tmp_path / "out")


def test_a_site_with_several_tasks_asks_for_one(datasets: Path, tmp_path: Path) -> None:
    write_task(datasets / "IXI" / "T1_PD", 16, 3)
    with pytest.raises(DataError, match=r"IXI: has several tasks \(T1_PD, T1_T2__PD\); choose"):
        import_pflsynth(datasets, tmp_path / "out")
    (manifest,) = import_pflsynth(datasets, tmp_path / "out", "T1_PD")
    assert (manifest.site, set(manifest.subjects[0].files)) == ("IXI", {"t1", "pd"})
    with pytest.raises(DataError, match="for the task 'T1_CT'"):
        import_pflsynth(datasets, tmp_path / "out", "T1_CT")


def test_sites_and_contrasts_are_recognised(datasets: Path) -> None:
    recognised = recognise(datasets)
    assert recognised is not None
    assert recognised.found.subjects_by_sequence() == {"t1": 6, "t2": 6, "pd": 3}


def test_a_task_without_contrasts_and_a_grey_picture_are_refused(
    datasets: Path, tmp_path: Path
) -> None:
    for task in ("experiment", "T1_T1", "A_B_C_D"):
        with pytest.raises(DataError, match=f"task '{task}': its name does not say"):
            contrasts(task)
    path = datasets / "IXI/T1_T2__PD/val/0.png"
    Image.open(path).convert("L").save(path)
    with pytest.raises(DataError, match=r"0.png: has 1 channels, too few for t1, t2"):
        import_pflsynth(datasets, tmp_path / "out")
    assert not list((tmp_path / "out").rglob("manifest.json"))


def test_a_site_without_the_chosen_task_is_said(
    datasets: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import_pflsynth(datasets, tmp_path / "out", "T1_T2__PD")
    (said,) = [one.message for one in caplog.records if "other tasks" in one.message]
    assert said == "1 sites have other tasks than the chosen one and are left out: MIDAS"


def test_the_task_of_most_sites_is_recognised_where_none_is_common(datasets: Path) -> None:
    write_task(datasets / "IXI" / "PD_T1", 16, 3)
    write_task(datasets / "MIDAS" / "T2_T1", 16, 4)
    recognised = recognise(datasets)
    assert recognised is not None
    assert recognised.arguments[-2:] == ("--task", "PD_T1")
    assert recognised.found.patients_by_site() == {"IXI": 3}
    assert recognised.found.problems[-1].endswith("left out: MIDAS")
    write_task(datasets / "third" / "T2_T1", 16, 5)
    again = recognise(datasets)
    assert again is not None
    assert again.arguments[-2:] == ("--task", "T2_T1")
    assert again.found.patients_by_site() == {"MIDAS": 3, "third": 3}


def test_a_patients_pictures_may_lie_in_two_folders_of_one_split(
    datasets: Path, tmp_path: Path
) -> None:
    task = datasets / "IXI/T1_T2__PD"
    (task / "validation").mkdir()
    (task / "val/0.png").rename(task / "val/p9_1.png")
    (task / "val/1.png").rename(task / "validation/p9_2.png")
    ixi, _ = import_pflsynth(datasets, tmp_path / "out")
    (record,) = [one for one in ixi.subjects if one.patient == "p9"]
    volume = np.asarray(nibabel.load(ixi.root / record.files["t1"]).dataobj)
    for number, path in enumerate((task / "val/p9_1.png", task / "validation/p9_2.png")):
        picture = np.asarray(Image.open(path))
        assert (picture[:, :16, 0] == volume[..., number].T).all()
