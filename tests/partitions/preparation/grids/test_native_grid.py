"""The way back to the scan's own grid, against the scan itself."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from nibabel.affines import apply_affine
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from numpy.typing import NDArray

from fedi2i.errors import DataError
from partitions.manifest import SubjectRecord
from partitions.preparation import PreparationConfig, open_prepared, prepare_site
from partitions.preparation.grids.native_grid import (
    SliceGeometry,
    geometry_from,
    mask_to_native_grid,
    to_native_grid,
)
from partitions.preparation.intensities import LEVELS, Scale
from partitions.preparation.new_scan import prepare_source
from partitions.preparation.scaling import Scaling
from partitions.preparation.subject import prepare_subject
from partitions.scans.header import read_scan_file
from partitions.scans.volume import read_volume

HU = Scaling("window", -1024, 3071, "HU")
PAIR = {"mr": "mr.nii", "ct": "ct.nii"}
RECORD = SubjectRecord("S", "A", "train", PAIR, mask="mask.nii")
CONFIG = PreparationConfig("mr", "ct", size=(24, 20), spacing=None, target_scaling=HU)
ALL_ORIENTATIONS = [
    "".join(axis[side] for axis, side in zip(order, sides, strict=True))
    for order in itertools.permutations(("RL", "AP", "IS"))
    for sides in itertools.product((0, 1), repeat=3)
]


def _oblique(degrees: float, edges: tuple[float, float, float]) -> NDArray[np.float64]:
    """An LPS affine, tilted about the axis from right to left."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    affine = np.eye(4)
    affine[:3, :3] = np.array([[-1, 0, 0], [0, -cos, -sin], [0, -sin, cos]]) @ np.diag(edges)
    affine[:3, 3] = (31.5, -12.25, 7)
    return affine


def _write(
    folder: Path,
    ct: NDArray[Any],
    mask: NDArray[np.bool_],
    affine: NDArray[np.float64],
    axes: str = "LPS",
) -> NDArray[Any]:
    """Write a subject, its axes turned by nibabel; return the CT as it is stored."""
    mr = (np.random.default_rng(5).uniform(1, 500, ct.shape) * mask).astype(np.float32)
    for name, data in (("mr", mr), ("ct", ct), ("mask", mask.astype(np.uint8))):
        image = nibabel.Nifti1Image(data, affine)
        turn = ornt_transform(io_orientation(affine), axcodes2ornt(tuple(axes)))
        image.as_reoriented(turn).to_filename(folder / f"{name}.nii")
    return np.asarray(nibabel.load(folder / "ct.nii").dataobj)


def _whole_hu(shape: tuple[int, int, int]) -> NDArray[np.int16]:
    return np.random.default_rng(6).integers(-1024, 3072, shape).astype(np.int16)


@pytest.mark.parametrize("axes", ALL_ORIENTATIONS)
def test_hu_come_back_bit_equal_on_the_stored_grid_however_it_lies(
    tmp_path: Path, axes: str
) -> None:
    """Larger than the slices on one side, smaller on the other; slices without mask left out."""
    mask = np.zeros((15, 30, 6), dtype=bool)
    mask[2:13, 6:28, (1, 3, 4)] = True
    stored = _write(tmp_path, _whole_hu(mask.shape), mask, _oblique(20, (2, 2, 3)), axes)
    slices = prepare_subject(RECORD, tmp_path, CONFIG)
    assert slices.geometry.kept == (1, 3, 4)
    assert slices.target is not None
    back = to_native_grid(slices.target / LEVELS, slices.geometry, slices.scales["target"])
    assert back.shape == stored.shape == slices.geometry.shape
    inside = np.asarray(nibabel.load(tmp_path / "mask.nii").dataobj) > 0
    np.testing.assert_array_equal(np.rint(back[inside]), stored[inside])
    assert np.abs(back[inside] - stored[inside]).max() < 1e-3  # float32 intensities
    np.testing.assert_array_equal(mask_to_native_grid(slices.mask, slices.geometry), inside)
    # Slices that were not kept and pixels that were cut off are air.
    missing = back == -1024
    assert missing.sum() >= 3 * 15 * 30


@pytest.mark.parametrize("spacing", [0.8, 1.7, 2.5])
@pytest.mark.parametrize("degrees", [0.0, 12.0])
def test_a_linear_field_in_space_survives_resampling_there_and_back(
    tmp_path: Path, spacing: float, degrees: float
) -> None:
    """Linear interpolation is exact on a field that is linear in millimetres."""
    affine = _oblique(degrees, (1.3, 1.3, 3))
    shape = (40, 44, 5)
    places = apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1))
    field = (places @ np.array([7.0, -5.0, 3.0])).astype(np.float32)
    mask = np.zeros(shape, dtype=bool)
    mask[6:34, 8:36] = True
    stored = _write(tmp_path, field, mask, affine, "RAS")
    config = replace(CONFIG, size=(64, 60), spacing=spacing)
    slices = prepare_subject(RECORD, tmp_path, config)
    assert slices.target is not None
    back = to_native_grid(slices.target / LEVELS, slices.geometry, slices.scales["target"])
    inside = np.asarray(nibabel.load(tmp_path / "mask.nii").dataobj) > 0
    np.testing.assert_allclose(back[inside], stored[inside], atol=0.07)  # 1 / 16 HU is stored
    again = mask_to_native_grid(slices.mask, slices.geometry)
    assert (again & inside).sum() / (again | inside).sum() > 0.85


def test_the_record_in_the_cache_holds_what_the_way_back_needs(
    make_site: Any, tmp_path: Path
) -> None:
    manifest = make_site(("train", "test"))
    prepared = prepare_site(
        manifest, PreparationConfig(size=(40, 30), spacing=None), tmp_path / "cache", False
    )
    split = open_prepared(prepared.folder).split("test")
    entry = split.subjects[0]
    assert entry.geometry is not None
    back = to_native_grid(split.target / LEVELS, entry.geometry, entry.scales["target"])
    image = nibabel.load(manifest.root / "A1/t2.nii.gz")
    np.testing.assert_allclose(entry.geometry.grid.affine, image.affine)
    values = np.asarray(image.dataobj)
    inside = np.asarray(nibabel.load(manifest.root / "A1/mask.nii.gz").dataobj) > 0
    low, high = np.percentile(values[inside], (0.5, 99.5))
    assert (entry.scales["target"].low, entry.scales["target"].high) == (low, high)
    np.testing.assert_allclose(back[inside], np.clip(values, low, high)[inside], atol=0.02)


def test_a_new_scan_becomes_the_slices_that_it_would_become_in_a_cohort(tmp_path: Path) -> None:
    mask = np.zeros((15, 30, 6), dtype=bool)
    mask[2:13, 6:28, 1:5] = True
    _write(tmp_path, _whole_hu(mask.shape), mask, _oblique(0, (2, 2, 3)), "PIR")
    for with_mask in (True, False):
        record = RECORD if with_mask else replace(RECORD, mask=None)
        known = prepare_subject(record, tmp_path, CONFIG)
        file = read_scan_file(tmp_path / "mr.nii")
        assert file.header is not None
        assert file.header.grid is not None
        given = read_volume(read_scan_file(tmp_path / "mask.nii")).data > 0 if with_mask else None
        new = prepare_source(read_volume(file), file.header.grid, CONFIG, given)
        assert known.source is not None
        np.testing.assert_array_equal(new.source, known.source)
        np.testing.assert_array_equal(new.mask, known.mask)
        assert (new.geometry, new.scale) == (known.geometry, known.scales["source"])
        assert new.foreground == known.facts.foreground


def test_a_mask_of_another_grid_is_refused_with_both_grids(tmp_path: Path) -> None:
    mask = np.ones((15, 30, 6), dtype=bool)
    _write(tmp_path, _whole_hu(mask.shape), mask, _oblique(0, (2, 2, 3)))
    file = read_scan_file(tmp_path / "mr.nii")
    assert file.header is not None
    assert file.header.grid is not None
    with pytest.raises(DataError, match=r"mr.nii: its mask .* \(15, 30, 5\).*\(15, 30, 6\)"):
        prepare_source(read_volume(file), file.header.grid, CONFIG, mask[..., 1:])


def test_another_number_of_slices_is_refused() -> None:
    content = {
        "shape": [4, 4, 4],
        "affine": np.eye(4).tolist(),
        "plane_affine": np.eye(4).tolist(),
        "corner": [0, 0],
    }
    geometry = geometry_from(content, [1, 2])
    assert geometry_from(geometry.to_json(), [1, 2]) == geometry
    assert isinstance(geometry, SliceGeometry)
    with pytest.raises(ValueError, match="3 slices, but the geometry has 2"):
        to_native_grid(np.zeros((3, 4, 4)), geometry, Scale(0, 1))
