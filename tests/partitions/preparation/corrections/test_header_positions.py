"""Targets laid over their sources by their headers alone; headers that lie are refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from test_registration import SIDES, displacement, grid, head

from fedi2i.errors import ConfigError, DataError
from lightning_modules.configuration import experiment_from
from partitions.manifest import SiteManifest, SubjectRecord, write_manifest
from partitions.preparation import PreparationConfig, prepare_site
from partitions.preparation.corrections.header_positions import (
    IDENTITY,
    HeaderPositions,
    believed,
)
from partitions.preparation.corrections.placement import laid_back, laid_over
from partitions.scans.foreground import foreground_of
from partitions.scans.header import read_scan_file
from partitions.scans.volume import Volume, read_volume

THICK_SIDES = (60, 66, 28)


def thick_grid() -> NDArray[Any]:
    """Other pixels, slices of 4 mm, and oblique: as a T2 beside a T1 of cubes."""
    tilt = displacement((5, -4, 8), (1.3, -0.7, 2.1))
    affine = grid() @ np.diag([2.1 / 2.5, 2.1 / 2.5, 4 / 2.5, 1])
    affine[:3, 3] = affine[:3, :3] @ (-(np.array(THICK_SIDES) - 1) / 2)
    return np.asarray(tilt @ affine)


def other_contrast(values: NDArray[Any], inside: NDArray[Any]) -> NDArray[Any]:
    return np.where(inside, 900 - 300 * values, 0)


def pair(lie: NDArray[Any] | None = None) -> tuple[Volume, Volume, tuple[Any, Any]]:
    """One head on two grids; ``lie`` moves the target's header and leaves its voxels."""
    rng = np.random.default_rng(3)
    source, here = head(grid(), SIDES, np.eye(4))
    values, there = head(thick_grid(), THICK_SIDES, np.eye(4))
    first = 100 * source + rng.normal(0, 2, SIDES)
    second = other_contrast(values, there) + rng.normal(0, 8, THICK_SIDES)
    return (
        Volume(Path("t1.nii.gz"), first.astype(np.float32), grid()),
        Volume(
            Path("t2.nii.gz"),
            second.astype(np.float32),
            thick_grid() if lie is None else lie @ thick_grid(),
        ),
        (here, there),
    )


def believe(lie: NDArray[Any] | None = None) -> HeaderPositions:
    source, target, heads = pair(lie)
    return believed(source, target, heads, "a")


def positions_in(volume: Volume, other: Volume) -> NDArray[Any]:
    """Where the voxels of a volume lie in the voxels of another one, by both affines."""
    index = np.indices(volume.data.shape).reshape(3, -1)
    way = np.linalg.inv(other.affine) @ volume.affine
    return (way @ np.vstack([index, np.ones(index.shape[1])]))[:3].reshape(3, *volume.data.shape)


def test_a_thick_oblique_target_comes_to_the_place_where_its_header_puts_it() -> None:
    source, target, (here, _) = pair()
    laid = laid_over(target, source, believe().matrix, hounsfield=False)
    by_hand = ndimage.map_coordinates(target.data, positions_in(source, target), order=1)
    deep = ndimage.binary_erosion(here, iterations=2)
    np.testing.assert_allclose(laid.data[deep], by_hand[deep], atol=0.05)
    # Against the head itself: 2.5 % of the target's range of 1,800 is what linear interpolation
    # between slices of 4 mm leaves of waves of 14 mm and more.
    true = other_contrast(head(grid(), SIDES, np.eye(4))[0], here)
    assert np.abs(laid.data - true)[deep].mean() < 45
    assert np.abs(np.mean((laid.data - true)[deep])) < 10


def test_what_speaks_for_a_pair_is_kept() -> None:
    found = believe()
    assert list(found.faults()) == []
    assert found.matrix == IDENTITY
    assert found.overlap > 0.95
    assert found.reach > 0.98
    assert found.likeness > 1.2 * max(found.elsewhere, found.mirrored)


@pytest.mark.parametrize(
    ("degrees", "shift", "words"),
    [
        ((0, 0, 0), (0, 0, 4.5), "6 mm or 6 degrees away the images are more alike"),
        ((0, 0, 0), (-4.5, 0, 0), "6 mm or 6 degrees away the images are more alike"),
        ((0, 6, 0), (0, 0, 0), "6 mm or 6 degrees away the images are more alike"),
        ((0, 0, 0), (0, 30, 0), "the foregrounds overlap by 0."),
        ((0, 0, 0), (0, 0, 90), "of what stands out of the source, less than 50%"),
    ],
)
def test_a_header_that_lies_is_refused_with_the_subject_and_what_to_do(
    degrees: Any, shift: Any, words: str
) -> None:
    with pytest.raises(DataError, match=r"subject 'a': t2\.nii\.gz: .*registration: rigid") as said:
        believe(displacement(degrees, shift))
    assert words in str(said.value)


def test_a_millimetre_between_two_sequences_is_no_lie() -> None:
    assert list(believe(displacement((0.5, 0, 0.5), (0.6, -0.6, 0.6))).faults()) == []


def test_left_and_right_exchanged_in_the_voxels_are_found_although_the_head_lies_right() -> None:
    source, target, (here, there) = pair()
    # The head's own middle is at x = 0, so a header with x reversed puts it where it was.
    exchanged = replace(target, affine=np.diag([-1.0, 1, 1, 1]) @ target.affine)
    with pytest.raises(DataError, match="one of the two may be mirrored"):
        believed(source, exchanged, (here, there), "a")


def test_a_ramp_comes_over_and_back_exactly() -> None:
    """Linear interpolation is exact for a linear function, whatever the two grids are."""
    source, target, _ = pair()

    def ramp(volume: Volume) -> NDArray[Any]:
        index = np.indices(volume.data.shape).reshape(3, -1)
        place = volume.affine @ np.vstack([index, np.ones(index.shape[1])])
        return (np.array([1.5, -0.7, 2.2, 300]) @ place).reshape(volume.data.shape)

    target = replace(target, data=ramp(target).astype(np.float32))
    over = laid_over(target, source, IDENTITY, hounsfield=False)
    within = inside_of(source, target)
    np.testing.assert_allclose(over.data[within], ramp(source)[within], atol=1e-3)
    whole = replace(source, data=ramp(source).astype(np.float32))
    back = laid_back(whole, target, IDENTITY, outside=0.0)
    assert back.data.shape == target.data.shape
    within = inside_of(target, source)
    assert within.mean() > 0.5
    np.testing.assert_allclose(back.data[within], target.data[within], atol=1e-3)


def inside_of(volume: Volume, other: Volume) -> NDArray[Any]:
    """Which voxels of a volume lie between voxels of another one."""
    last = np.array(other.data.shape).reshape(3, 1, 1, 1) - 1
    index = positions_in(volume, other)
    return np.asarray(((index >= 0) & (index <= last)).all(axis=0))


def site_of(root: Path, scans: dict[str, Any], **metadata: Any) -> SiteManifest:
    """A site with one subject, whose scans are volumes."""
    for name, volume in scans.items():
        nib.save(nib.Nifti1Image(volume.data, volume.affine), root / f"{name}.nii.gz")
    files = {name: f"{name}.nii.gz" for name in scans}
    record = SubjectRecord("a", "north", "train", files, metadata=metadata)
    manifest = SiteManifest("house", "north", (record,), root)
    write_manifest(manifest)
    return manifest


SETTINGS = PreparationConfig(size=(60, 52), spacing=2.5, registration="headers")


def record_of(folder: Path) -> dict[str, Any]:
    content = json.loads((folder / "prepared.json").read_text())
    found: dict[str, Any] = content["splits"]["train"]["subjects"][0]
    return found


def test_a_prepared_site_says_how_and_counts_nothing_where_the_target_does_not_reach(
    tmp_path: Path,
) -> None:
    source, target, _ = pair()
    # The target ends below the top of the head, as an axial T2 beside a T1 of the whole head.
    low = replace(target, data=target.data[..., :20].copy())
    manifest = site_of(tmp_path, {"t1": source, "t2": low})
    site = prepare_site(manifest, SETTINGS, tmp_path / "cache", progress=False)
    steps = record_of(site.folder)["steps"]["registration"]
    assert steps["method"] == "headers"
    assert steps["matrix"] == [list(row) for row in IDENTITY]
    assert 0.6 < steps["reach"] < 0.95
    split = site.split("train")
    inside = ndimage.binary_erosion(split.mask > 0, np.ones((1, 3, 3)), iterations=2)
    # The target falls where the source rises, in every slice that was kept.
    assert np.corrcoef(split.source[inside], split.target[inside])[0, 1] < -0.9
    assert (split.target[inside] > 0).mean() > 0.98
    whole = site_of(tmp_path, {"t1": source, "t2": target})
    more = prepare_site(whole, SETTINGS, tmp_path / "cache", progress=False).split("train")
    assert len(more.mask) > len(split.mask)


def test_scans_on_one_grid_stay_as_they_are_to_the_last_bit(tmp_path: Path) -> None:
    source, _, _ = pair()
    values, here = head(grid(), SIDES, np.eye(4))
    target = replace(source, data=other_contrast(values, here).astype(np.float32))
    manifest = site_of(tmp_path, {"t1": source, "t2": target})
    plain, laid = (
        prepare_site(manifest, config, tmp_path / "cache", progress=False)
        for config in (replace(SETTINGS, registration="none"), SETTINGS)
    )
    assert plain.folder != laid.folder
    assert "steps" not in record_of(laid.folder)
    for name in ("source", "target", "mask"):
        one, other = (getattr(site.split("train"), name) for site in (plain, laid))
        np.testing.assert_array_equal(one, other)


def test_positions_that_do_not_belong_together_are_refused_before_anything_is_compared(
    tmp_path: Path,
) -> None:
    source, target, _ = pair()
    manifest = site_of(tmp_path, {"t1": source, "t2": target}, frames_of_reference="different")
    with pytest.raises(DataError, match=r"subject 'a': .* different frames of reference.*rigid"):
        prepare_site(manifest, SETTINGS, tmp_path / "cache", progress=False)
    manifest = site_of(tmp_path, {"t1": source, "t2": target})
    image = nib.Nifti1Image(target.data, None)
    image.header.set_zooms((2.1, 2.1, 4.0))
    nib.save(image, tmp_path / "t2.nii.gz")
    with pytest.raises(DataError, match=r"t2\.nii\.gz does not say how the patient lies in it"):
        prepare_site(manifest, SETTINGS, tmp_path / "cache", progress=False)
    assert not list(tmp_path.glob("cache/*/prepared.json"))


def test_metrics_on_the_stored_target_are_refused_as_it_lies_on_another_grid() -> None:
    ct = {"kind": "window", "low": -1024, "high": 3071, "unit": "HU"}
    preparation = {"registration": "headers", "target": "ct", "target_scaling": ct}
    with pytest.raises(ConfigError, match="is not on the source's grid"):
        experiment_from({"preset": "synthrad2025", "data": {"preparation": preparation}}, "test")


@pytest.mark.slow
def test_a_real_t2_on_a_thick_oblique_grid_comes_back_over_its_t1(shared_data: Path) -> None:
    """The pair came on one grid: what lies on another one is made of it by scipy alone."""
    patient = shared_data / "open-ms" / "patient07"
    if not patient.is_dir():
        pytest.skip(f"no T1 and T2 of one patient at {patient}; see the README beside it")
    source, aligned = (_halved(patient / f"{name}.nii.gz") for name in ("t1", "t2"))
    moved = displacement((4, -3, 5), (3, -2, 4)) @ aligned.affine @ np.diag([0.75, 0.75, 1.5, 1])
    target = Volume(aligned.path, np.zeros((120, 140, 60), np.float32), moved)
    data = ndimage.map_coordinates(aligned.data, positions_in(target, aligned), order=1)
    target = replace(target, data=data.astype(np.float32))
    heads = tuple(foreground_of(one.data, magnetic=True)[0] for one in (source, target))
    found = believed(source, target, (heads[0], heads[1]), "patient07")
    laid = laid_over(target, source, found.matrix, hounsfield=False)
    inside = ndimage.binary_erosion(heads[0], iterations=2) & inside_of(source, target)
    # Two interpolations blur what is finer than the grids; 0.93 is what they leave here.
    spread = float(aligned.data[inside].std())
    assert np.abs(laid.data - aligned.data)[inside].mean() < 0.25 * spread
    assert np.corrcoef(laid.data[inside], aligned.data[inside])[0, 1] > 0.9
    lie = replace(target, affine=displacement((0, 0, 0), (0, 0, 5)) @ moved)
    with pytest.raises(DataError, match=r"subject 'patient07'.*more alike"):
        believed(source, lie, (heads[0], heads[1]), "patient07")


def _halved(path: Path) -> Volume:
    """A real scan with half the voxels along every axis."""
    volume = read_volume(read_scan_file(path))
    return Volume(
        path, volume.data[::2, ::2, ::2].copy(), volume.affine @ np.diag([2.0, 2.0, 2.0, 1.0])
    )
