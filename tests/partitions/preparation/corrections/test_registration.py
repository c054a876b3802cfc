"""Registration: a known displacement is found, what cannot be believed is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from fedi2i.errors import DataError
from partitions.preparation import PreparationConfig
from partitions.preparation.corrections.applied import laid_on_source
from partitions.preparation.corrections.itk_volume import itk_image, itk_transform, world_matrix
from partitions.preparation.corrections.placement import AIR_HU, laid_back, laid_over
from partitions.preparation.corrections.registration import Registration, register
from partitions.scans.foreground import foreground_of
from partitions.scans.header import read_scan_file
from partitions.scans.volume import Volume, read_volume

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
RADII_MM = (40.0, 50.0, 36.0)
_rng = np.random.default_rng(7)
WAVES = _rng.normal(size=(3, 16)) * 2 * np.pi / _rng.uniform(25, 60, 16)
PHASES = _rng.uniform(0, 2 * np.pi, 16)
"""Texture of the head: waves of 14 mm and more in all directions, so that it has no symmetry."""


def grid(edge: float = 2.5, sides: tuple[int, int, int] = (48, 56, 44)) -> NDArray[Any]:
    affine = LPS @ np.diag([edge, edge, edge, 1.0])
    affine[:3, 3] = affine[:3, :3] @ (-(np.array(sides) - 1) / 2)
    return affine


def head(affine: NDArray[Any], sides: tuple[int, int, int], moved: NDArray[Any]) -> Any:
    """The head on a grid, whose position x shows what is at ``moved @ x``; 0 outside."""
    index = np.indices(sides).reshape(3, -1)
    place = (moved @ affine @ np.vstack([index, np.ones(index.shape[1])]))[:3].T
    radius = np.linalg.norm(place / np.array(RADII_MM), axis=1)
    texture = np.cos(place @ WAVES + PHASES).mean(axis=1)
    values = (1 + 2 * texture) / (1 + np.exp((radius - 1) / 0.05))
    return values.reshape(sides), (radius < 1).reshape(sides)


def displacement(degrees: tuple[float, ...], shift: tuple[float, ...]) -> NDArray[Any]:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    matrix[:3, 3] = shift
    return matrix


TRUTH = displacement((4, -6, 8), (6, -4, 5))
"""From a position in the source to the same place in the target."""

SIDES, OTHER_SIDES = (48, 56, 44), (60, 62, 40)


def pair(seed: int = 0) -> tuple[Volume, Volume, tuple[Any, Any]]:
    """A source and a target of another contrast, at another place, on another grid."""
    rng = np.random.default_rng(seed)
    source, here = head(grid(), SIDES, np.eye(4))
    affine = grid(2.2, OTHER_SIDES)
    target, there = head(affine, OTHER_SIDES, np.linalg.inv(TRUTH))
    first = 100 * source + rng.normal(0, 2, SIDES)
    second = np.where(there, 900 - 300 * target, 0) + rng.normal(0, 8, OTHER_SIDES)
    return (
        Volume(Path("t1.nii.gz"), first.astype(np.float32), grid()),
        Volume(Path("t2.nii.gz"), second.astype(np.float32), affine),
        (here, there),
    )


@pytest.fixture(scope="module")
def found() -> Registration:
    return register(*pair())


def distance_mm(found: Registration) -> float:
    """Largest distance between where the head's voxels were laid and where they belong."""
    corners = np.array([[x, y, z, 1] for x in (-40, 40) for y in (-50, 50) for z in (-36, 36)]).T
    return float(np.linalg.norm(((np.array(found.matrix) - TRUTH) @ corners)[:3], axis=0).max())


def test_a_known_displacement_is_found_across_contrasts_and_grids(found: Registration) -> None:
    assert distance_mm(found) < 1.0
    assert found.degrees == pytest.approx(10.7, abs=1)
    assert found.overlap > 0.95
    assert list(found.faults()) == []


def test_the_same_seed_gives_the_same_bits(found: Registration) -> None:
    assert register(*pair()).to_json() == found.to_json()


def test_a_mirrored_target_is_refused_although_it_overlaps() -> None:
    source, target, (here, there) = pair()
    mirrored = replace(target, data=target.data[::-1].copy())
    with pytest.raises(DataError, match=r"t2\.nii\.gz: cannot be registered to t1\.nii\.gz: .*"):
        register(source, mirrored, (here, there[::-1]))
    with pytest.raises(DataError, match="left and right exchanged"):
        register(source, mirrored, (here, there[::-1]))


def test_noise_is_refused() -> None:
    source, target, heads = pair()
    noise = np.random.default_rng(1).normal(0, 1, target.data.shape).astype(np.float32)
    with pytest.raises(DataError, match="cannot be registered"):
        register(source, replace(target, data=noise), heads)


@pytest.mark.slow
def test_a_real_t2_that_was_moved_is_found_again_over_its_t1(shared_data: Path) -> None:
    """The pair came aligned; against that the T2 is moved, and has thicker slices."""
    patient = shared_data / "open-ms" / "patient07"
    if not patient.is_dir():
        pytest.skip(f"no T1 and T2 of one patient at {patient}; see the README beside it")
    source, aligned = (_cropped(patient / f"{name}.nii.gz") for name in ("t1", "t2"))
    thick = aligned.affine @ np.diag([1, 1, 2, 1])
    target = replace(aligned, data=aligned.data[:, :, ::2].copy(), affine=TRUTH @ thick)
    here, there = (foreground_of(volume.data, magnetic=True)[0] for volume in (source, target))
    found = register(source, target, (here, there))
    head = source.affine @ np.vstack([np.argwhere(here)[::997].T, np.ones(len(here[here][::997]))])
    apart = np.linalg.norm(((np.array(found.matrix) - TRUTH) @ head)[:3], axis=0)
    assert apart.mean() < 0.5
    assert apart.max() < 1.0
    # The other way round, a mirrored T2 would have had the metrics exchanged.
    exchanged = replace(found, after=found.mirrored, mirrored=found.after)
    assert "may be mirrored" in "; ".join(exchanged.faults())


def _cropped(path: Path) -> Volume:
    """A real scan without most of the air around its brain."""
    volume = read_volume(read_scan_file(path))
    rim = np.eye(4)
    rim[:3, 3] = (20, 20, 8)
    data = volume.data[20:-20, 20:-20, 8:-28].copy()
    return replace(volume, data=data, affine=volume.affine @ rim)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"after": -0.1}, "got no better"),
        ({"overlap": 0.8}, "overlap by 0.80"),
        ({"degrees": 40.0}, "turns by 40 degrees"),
        ({"shift_mm": 60.0}, "shifts by 60 mm"),
        ({"stopped": "Maximum number of iterations (200) exceeded."}, "had not ended"),
        ({"mirrored": -0.49}, "may be mirrored"),
        ({"mirrored": 0.1, "after": 0.05, "before": 0.2}, "may be mirrored"),
    ],
)
def test_every_limit_is_named(found: Registration, change: dict[str, Any], words: str) -> None:
    believed = replace(found, before=-0.2, after=-0.5, mirrored=-0.4)
    assert list(believed.faults()) == []
    assert words in "; ".join(replace(believed, **change).faults())


def test_the_target_comes_to_the_sources_grid_and_a_translation_goes_back(
    found: Registration,
) -> None:
    source, target, (here, there) = pair()
    laid = laid_over(target, source, found.matrix, hounsfield=False)
    assert laid.data.shape == source.data.shape
    expected = np.where(here, 900 - 3 * source.data, 0)
    deep = np.abs(np.indices(SIDES).T - (np.array(SIDES) - 1) / 2).T.max(axis=0) < 12
    assert np.abs(laid.data - expected)[deep].mean() < 40
    back = laid_back(laid, target, found.matrix, outside=0.0)
    assert back.data.shape == target.data.shape
    inside = ndimage.binary_erosion(there, iterations=3)
    assert np.corrcoef(back.data[inside], target.data[inside])[0, 1] > 0.95


def test_where_a_ct_does_not_reach_there_is_air(found: Registration) -> None:
    source, target, _ = pair()
    high = replace(target, affine=target.affine + np.diag([0, 0, 0, 0]))
    high.affine[2, 3] += 60
    laid = laid_over(replace(high, data=high.data + 500), source, found.matrix, hounsfield=True)
    assert laid.data[..., 0].max() == AIR_HU
    assert laid.data.min() >= AIR_HU


def test_the_mask_ends_where_a_target_laid_by_search_does_not_reach() -> None:
    source, target, (here, _) = pair()
    # The target ends below the top of the head.
    low = replace(target, data=target.data[..., :28].copy())
    subject: Any = None  # is asked about headers alone
    config = PreparationConfig(registration="rigid")
    laid = laid_on_source({"source": source, "target": low}, config, subject)
    shown = laid.shown(here)
    assert not shown[~here].any()
    recorded = np.array(laid.steps["registration"]["matrix"])
    # By the matrix that was found exactly; by the true one to a voxel of 2.2 mm, as a search with
    # a part of the head is off by up to 1.9 mm at the head's corners.
    for matrix, voxels in ((recorded, 0.01), (TRUTH, 1.0)):
        depth = depth_in(low, source, matrix)
        within, beyond = here & (depth > voxels), here & (depth < -voxels)
        assert 0.1 < beyond.sum() / here.sum() < 0.5
        assert shown[within].all()
        assert not shown[beyond].any()


def depth_in(target: Volume, source: Volume, matrix: NDArray[Any]) -> NDArray[Any]:
    """How many voxels the source's voxels lie within the target's field of view, by affines."""
    index = np.vstack([np.indices(source.data.shape).reshape(3, -1), np.ones(source.data.size)])
    seen = (np.linalg.inv(target.affine) @ matrix @ source.affine @ index)[:3]
    far = np.array(target.data.shape).reshape(3, 1) - 0.5 - seen
    return np.asarray(np.minimum(seen + 0.5, far).min(axis=0).reshape(source.data.shape))


def test_itk_sees_the_same_positions_and_transforms_as_the_affine_says() -> None:
    source, _, _ = pair()
    image = itk_image(source)
    index = (3, 7, 11)
    expected = source.affine @ [*index, 1]
    point = image.TransformIndexToPhysicalPoint(index)
    np.testing.assert_allclose(np.array(point) * [-1, -1, 1], expected[:3], atol=1e-9)
    np.testing.assert_allclose(world_matrix(itk_transform(TRUTH)), TRUTH, atol=1e-12)


def test_axes_that_are_not_at_right_angles_are_refused() -> None:
    source, target, heads = pair()
    sheared = source.affine.copy()
    sheared[0, 2] += 0.5
    with pytest.raises(DataError, match="axes are not at right angles"):
        register(replace(source, affine=sheared), target, heads)
