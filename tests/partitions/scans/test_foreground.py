"""The computed mask against a solid whose shape is known."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from partitions.scans.foreground import NOT_BACKGROUND, OTSU, foreground_mask, foreground_of


def _ball() -> NDArray[np.bool_]:
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, 40),) * 3, indexing="ij")
    return np.asarray(x**2 + y**2 + z**2 < 0.5)


def _dice(one: NDArray[np.bool_], two: NDArray[np.bool_]) -> float:
    return float(2 * (one & two).sum() / (one.sum() + two.sum()))


@pytest.fixture
def noisy() -> NDArray[np.float32]:
    random = np.random.default_rng(3)
    bright, dark = random.normal(300, 40, (40,) * 3), random.normal(20, 8, (40,) * 3)
    return np.where(_ball(), bright, dark).astype(np.float32)


def test_a_ball_in_noise_is_found(noisy: NDArray[np.float32]) -> None:
    assert _dice(foreground_mask(noisy), _ball()) > 0.97


def test_a_dark_cavity_inside_the_head_belongs_to_the_mask(noisy: NDArray[np.float32]) -> None:
    noisy[16:24, 16:24, 16:24] = 15
    assert foreground_mask(noisy)[16:24, 16:24, 16:24].all()


def test_a_bright_object_beside_the_head_is_left_out(noisy: NDArray[np.float32]) -> None:
    noisy[:3, :3, :3] = 400
    assert not foreground_mask(noisy)[:3, :3, :3].any()


@pytest.mark.filterwarnings("error")
def test_three_slices_are_no_colours(noisy: NDArray[np.float32]) -> None:
    assert _dice(foreground_mask(noisy[..., 19:22]), _ball()[..., 19:22]) > 0.95


def test_a_constant_volume_has_an_empty_mask() -> None:
    assert not foreground_mask(np.full((8, 8, 8), 5, np.float32)).any()


@pytest.mark.parametrize("border", [0.0, -1.0])
def test_the_foreground_of_a_skull_stripped_scan_is_whatever_is_not_background(
    border: float,
) -> None:
    random = np.random.default_rng(3)
    brain = random.normal(300, 40, (40,) * 3)
    dark = np.zeros((40,) * 3, bool)
    dark[..., :12] = True  # the lowest slices are as dark as cerebrospinal fluid
    scan = np.where(_ball(), np.where(dark, 5, brain), border).astype(np.float32)
    mask, how = foreground_of(scan, magnetic=True)
    assert how == NOT_BACKGROUND
    assert np.array_equal(mask, _ball())
    assert not foreground_mask(scan)[_ball() & dark].any()


def test_a_ct_and_a_whole_head_in_a_constant_frame_keep_the_threshold(
    noisy: NDArray[np.float32],
) -> None:
    framed = np.pad(noisy, 2)
    assert foreground_of(framed, magnetic=True)[1] == OTSU
    stripped = np.where(_ball(), noisy, 0).astype(np.float32)
    assert foreground_of(stripped, magnetic=False)[1] == OTSU
    assert foreground_of(stripped, magnetic=True)[1] == NOT_BACKGROUND


def test_the_brain_of_a_real_skull_stripped_patient_is_whole(shared_data: Path) -> None:
    scan = nibabel.load(shared_data / "open-ms" / "patient07" / "t1.nii.gz")
    mask, how = foreground_of(np.asarray(scan.dataobj, dtype=np.float32), magnetic=True)
    assert how == NOT_BACKGROUND
    # 1,135,119 voxels are not background; the others are gaps that closing and filling close.
    assert mask.sum() == 1_135_119 + 947
