"""Where voxels lie: distances, shifts and planes that can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from nibabel.affines import from_matvec
from nibabel.eulerangles import euler2mat

from partitions.scans.grid import Grid, axes_of, largest_distance, thick_plane, to_lps, whole_shift

SHAPE = (256, 256, 130)
EDGES = np.diag([0.9, 0.9, 1.25])


def grid(x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Grid:
    return Grid(SHAPE, from_matvec(EDGES, (x, y, z)))


def test_a_shift_is_counted_in_the_smallest_voxel_edge() -> None:
    assert largest_distance(grid(), grid(x=0.03)) == pytest.approx(0.03 / 0.9)
    assert largest_distance(grid(), grid(y=0.03, z=0.04)) == pytest.approx(0.05 / 0.9)


def test_a_small_turn_is_counted_where_it_is_largest_at_the_corners() -> None:
    angle = 1e-4
    turned = Grid(SHAPE, from_matvec(euler2mat(z=angle) @ EDGES, (0, 0, 0)))
    corner = np.hypot(255 * 0.9, 255 * 0.9)
    assert largest_distance(grid(), turned) == pytest.approx(angle * corner / 0.9, rel=1e-3)


@pytest.mark.parametrize(
    ("step", "expected"),
    [((0.9, 0, 0), (1, 0, 0)), ((0, -1.8, 2.5), (0, -2, 2)), ((0.45, 0, 0), None)],
)
def test_a_shift_by_whole_voxels_is_told_from_one_by_parts(
    step: tuple[float, float, float], expected: tuple[int, int, int] | None
) -> None:
    assert whole_shift(grid(), grid(*step)) == expected


def test_one_volume_in_another_order_has_the_same_grid_after_turning() -> None:
    stored = grid(-100, -110, -60)
    flipped = Grid(
        (130, 256, 256),
        np.array(
            [
                [0.0, 0.0, -0.9, -100 + 255 * 0.9],
                [0.0, 0.9, 0.0, -110.0],
                [1.25, 0.0, 0.0, -60.0],
                [0.0, 0.0, 0.0, 1.0],
            ]
        ),
    )
    assert axes_of(flipped.affine) == "SAL"
    one, other = (to_lps(each)[1] for each in (stored, flipped))
    assert one.shape == other.shape == SHAPE
    np.testing.assert_allclose(one.affine, other.affine, atol=1e-9)
    assert axes_of(one.affine) == "LPS"


@pytest.mark.parametrize(
    ("edges", "plane"),
    [
        ((6, 1, 1), "sagittal"),
        ((1, 6, 1), "coronal"),
        ((1, 1, 6), ""),  # axial, as the slices that are made
        ((1.2, 0.94, 0.94), ""),  # not thick
    ],
)
def test_thick_slices_are_named_by_their_plane_unless_they_are_axial(
    edges: tuple[float, float, float], plane: str
) -> None:
    assert thick_plane(Grid((20, 20, 20), np.diag([*edges, 1.0]))) == plane
