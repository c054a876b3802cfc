"""Orientation, resampling and cutting against volumes whose geometry is known."""

from __future__ import annotations

import itertools
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms.croppad.array import SpatialCrop, SpatialPad
from monai.transforms.spatial.array import Spacing
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from numpy.typing import NDArray

from fedi2i.errors import DataError
from partitions.manifest import SubjectRecord
from partitions.preparation import PreparationConfig
from partitions.preparation.grids.resampling import plane_of, window_on
from partitions.preparation.subject import prepare_subject

PAIR = {"t1": "t1.nii.gz", "t2": "t2.nii.gz"}
RECORD = SubjectRecord("S", "A", "train", PAIR, mask="mask.nii.gz")
LPS = np.diag([-2.0, -2.0, 3.0, 1.0])
ALL_ORIENTATIONS = [
    "".join(axis[side] for axis, side in zip(order, sides, strict=True))
    for order in itertools.permutations(("RL", "AP", "IS"))
    for sides in itertools.product((0, 1), repeat=3)
]


def _write(
    folder: Path,
    image: NDArray[np.float32],
    mask: NDArray[np.bool_],
    affine: NDArray[np.float64] = LPS,
    axes: str = "LPS",
) -> None:
    """Write a subject whose file axes run as ``axes`` says; nibabel does the turning."""
    for name, data in (("t1", image), ("t2", image.max() - image), ("mask", mask)):
        stored = nibabel.Nifti1Image(data.astype(np.float32), affine)
        turn = ornt_transform(io_orientation(affine), axcodes2ornt(tuple(axes)))
        stored.as_reoriented(turn).to_filename(folder / f"{name}.nii.gz")


@pytest.mark.parametrize("axes", ALL_ORIENTATIONS)
def test_the_right_anterior_inferior_corner_comes_first_however_it_is_stored(
    tmp_path: Path, axes: str
) -> None:
    image = np.random.default_rng(0).uniform(0, 1, (6, 8, 4)).astype(np.float32)
    image[0, 0, 0] = 50  # the first voxel of an LPS file is at the right, in front, at the bottom
    _write(tmp_path, image, np.ones((6, 8, 4), dtype=bool), axes=axes)
    stored = nibabel.load(tmp_path / "t1.nii.gz")
    assert "".join(nibabel.aff2axcodes(stored.affine)) == axes
    config = PreparationConfig(size=(8, 6), spacing=None, percentiles=(0, 100))
    slices = prepare_subject(RECORD, tmp_path, config)
    assert np.unravel_index(slices.source.argmax(), slices.source.shape) == (0, 0, 0)
    expected = (image - image.min()) / (50 - image.min())
    np.testing.assert_allclose(slices.source / 65535, expected.transpose(2, 1, 0), atol=1e-5)
    assert slices.spacing == (2.0, 2.0, 3.0)


def test_a_linear_ramp_stays_linear_with_the_slope_of_the_new_pixel_size(tmp_path: Path) -> None:
    ramp = np.broadcast_to(np.arange(30, dtype=np.float32)[:, None, None] * 2, (30, 40, 3))
    _write(tmp_path, ramp.copy(), np.ones((30, 40, 3), dtype=bool))
    config = PreparationConfig(size=(60, 45), spacing=1.5, percentiles=(0, 100))
    row = prepare_subject(RECORD, tmp_path, config).source[1, 30] / 65535
    inner = row[np.flatnonzero(row)[2:-2]]
    # The ramp rises by 1 per mm over 58 mm, so by 1.5 / 58 per new pixel.
    np.testing.assert_allclose(np.diff(inner), 1.5 / 58, atol=1e-4)


def test_a_disc_keeps_its_area_in_square_millimetres(tmp_path: Path) -> None:
    x, y = np.meshgrid(np.arange(60) - 29.5, np.arange(80) - 39.5, indexing="ij")
    disc = np.repeat(((2 * x) ** 2 + (2 * y) ** 2 < 50**2)[..., None], 3, axis=2)
    random = np.random.default_rng(1).uniform(0, 1, disc.shape).astype(np.float32)
    _write(tmp_path, random, disc)
    slices = prepare_subject(RECORD, tmp_path, PreparationConfig(size=(100, 90), spacing=1.25))
    area = slices.mask.sum(axis=(1, 2)) * 1.25**2
    np.testing.assert_allclose(area, np.pi * 50**2, rtol=0.02)
    assert slices.spacing == (1.25, 1.25, 3.0)


def test_a_small_head_at_the_edge_of_the_image_is_moved_into_the_slice_uncut(
    tmp_path: Path,
) -> None:
    mask = np.zeros((60, 60, 2), dtype=bool)
    mask[45:60, 0:20] = True
    image = np.random.default_rng(2).uniform(0, 1, mask.shape).astype(np.float32)
    _write(tmp_path, image, mask)
    slices = prepare_subject(RECORD, tmp_path, PreparationConfig(size=(20, 15), spacing=None))
    assert slices.mask.all()
    low, high = np.percentile(image[mask], (0.5, 99.5))
    expected = np.clip((image[45:60, 0:20] - low) / (high - low), 0, 1).transpose(2, 1, 0)
    np.testing.assert_allclose(slices.source / 65535, expected, atol=1e-5)


def test_a_head_larger_than_the_slice_is_refused_and_the_size_it_needs_is_named(
    tmp_path: Path,
) -> None:
    mask = np.zeros((60, 60, 2), dtype=bool)
    mask[5:45, 10:60] = True
    image = np.random.default_rng(2).uniform(0, 1, mask.shape).astype(np.float32)
    _write(tmp_path, image, mask)
    with pytest.raises(DataError, match=r"subject 'S'.*at least \[50, 40\]"):
        prepare_subject(RECORD, tmp_path, PreparationConfig(size=(48, 40), spacing=None))
    slices = prepare_subject(RECORD, tmp_path, PreparationConfig(size=(50, 40), spacing=None))
    assert slices.mask.sum() == mask.sum()


def test_only_slices_with_enough_mask_are_kept(tmp_path: Path) -> None:
    mask = np.zeros((20, 20, 6), dtype=bool)
    for z, side in enumerate((0, 1, 2, 4, 10, 3)):  # 0, 1, 4, 16, 100, 9 of 400 pixels
        mask[:side, :side, z] = True
    image = np.random.default_rng(2).uniform(0, 1, mask.shape).astype(np.float32)
    _write(tmp_path, image, mask)
    config = PreparationConfig(size=(20, 20), spacing=None, min_mask_fraction=0.02)
    slices = prepare_subject(RECORD, tmp_path, config)
    assert slices.geometry.kept == (3, 4, 5)
    assert slices.mask.sum(axis=(1, 2)).tolist() == [16, 100, 9]
    with pytest.raises(DataError, match="no slice has a mask over at least 50%"):
        strict = PreparationConfig(size=(20, 20), spacing=None, min_mask_fraction=0.5)
        prepare_subject(RECORD, tmp_path, strict)


def test_a_part_of_the_plane_has_the_very_values_that_monai_gives_the_whole() -> None:
    """Oblique and straight scans, with and without padding, in both modes: bit by bit."""
    rng = np.random.default_rng(1)
    for trial in range(24):
        shape = tuple(int(length) for length in rng.integers(5, 24, 3))
        turn = np.linalg.qr(np.eye(3) + (trial % 3) * 0.1 * rng.normal(size=(3, 3)))[0]
        affine = np.eye(4)
        affine[:3, :3] = turn * rng.choice([0.5, 0.9375, 1.0, 1.5, 2.0, 3.0], 3)
        affine[:3, 3] = rng.normal(size=3) * 100
        spacing = float(rng.choice([0.5, 1.0, 1.5, 2.0]))
        data = rng.normal(size=shape).astype(np.float32)
        plane = plane_of(shape, affine, spacing)
        image = MetaTensor(torch.from_numpy(data[None].copy()), affine=torch.from_numpy(affine))
        for mode in ("bilinear", "nearest"):
            pixels = (spacing, spacing, -1.0)
            whole = Spacing(pixdim=pixels, mode=mode, padding_mode="border")(image)
            assert np.array_equal(plane.affine, whole.affine.numpy())
            found = whole[0].numpy().astype(np.float32)
            mask = rng.random(found.shape) < 0.02
            mask[tuple(length // 2 for length in found.shape)] = True
            kept = np.flatnonzero(rng.random(found.shape[2]) < 0.7)
            size = (int(rng.integers(3, 40)), int(rng.integers(3, 40)))
            window = window_on(mask, size)
            sampled = window.padded(plane.sampled(data, mode, window.part, kept))
            cut, corner = cut_by_monai(found, mask, size)
            assert window.corner == corner
            assert np.array_equal(sampled, cut[..., kept])


def cut_by_monai(
    data: NDArray[np.float32], mask: NDArray[np.bool_], size: tuple[int, int]
) -> tuple[NDArray[np.float32], tuple[int, int]]:
    """Cropped around the middle of the mask's bounding box, then padded on both sides alike."""
    rows, columns = size
    ends = np.argwhere(mask)[:, :2]
    centre = (ends.min(axis=0) + ends.max(axis=0) + 1) // 2
    block = (columns, rows, data.shape[2])
    crop = SpatialCrop(roi_center=[*centre.tolist(), data.shape[2] // 2], roi_size=block)
    image = MetaTensor(torch.from_numpy(data[None].copy()), affine=torch.eye(4))
    padded = SpatialPad(spatial_size=block)(crop(image))
    column, row = (round(float(place)) for place in padded.affine[:2, 3])
    return padded[0].numpy(), (column, row)
