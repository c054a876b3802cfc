"""The head around the atlas' brain: layers by distance, air cells, field of view."""

import numpy as np
import pytest
from scipy import ndimage

from partitions.computed.anatomy import grid_axes
from partitions.computed.ct.head import (
    AIR_CELLS_MM,
    LAYERS,
    MARGIN_MM,
    SKIN_OUTER,
    THICKEST,
    THINNEST,
    air_cells,
    draw_skull,
    layer_shares,
)
from partitions.computed.ct.head_profiles import NORTH, PROFILES
from partitions.computed.ct.head_subject import SEEDS, draw_head
from partitions.computed.ct.hounsfield import MEAN_AND_SD
from partitions.computed.deformation import NODE_MM, draw_backward_map

STEPS = np.arange(-20, 40, 0.01)
"""Distances from the closed brain, mm."""


def along(distance=STEPS, thickness=1.0, cells=0.0, blur=0.01):
    full = np.full(np.shape(distance), 1.0)
    return layer_shares(np.asarray(distance), thickness * full, cells * full, blur)


def drawn_shape(head, seed):
    return draw_backward_map(head.brain, np.random.default_rng(seed), 0.0, margin_mm=MARGIN_MM)


@pytest.fixture(scope="module")
def north(head):
    """One subject of the site north before any scanner."""
    seeds = zip(SEEDS, np.random.SeedSequence(5).spawn(len(SEEDS)), strict=True)
    return draw_head(head, NORTH, {name: np.random.default_rng(seed) for name, seed in seeds})


def test_from_the_brain_outwards_come_fluid_two_tables_of_bone_with_marrow_between_and_scalp():
    expected = ["inside", "compact", "diploe", "compact", "muscle", "fat", "skin"]
    shares = along([1.0, 2.5, 5.0, 7.5, 9.0, 12.0, 14.0])
    for position, name in enumerate(expected):
        assert shares[name][position] == pytest.approx(1)
    assert along([16.0])["head"][0] == pytest.approx(0)


@pytest.mark.parametrize("blur", [0.1, 0.9, 1.5])
def test_blur_moves_no_bone_and_every_layer_keeps_its_thickness(blur):
    shares = along(blur=blur)
    thickness = {name: 0.01 * share.sum() for name, share in shares.items() if name in LAYERS}
    assert thickness == pytest.approx(
        {"compact": 3.0, "diploe": 3.0, "muscle": 2.5, "fat": 2.5, "skin": 2.0}, abs=0.02
    )
    everything = sum(share for name, share in shares.items() if name != "head")
    np.testing.assert_allclose(everything, shares["head"], atol=1e-12)


@pytest.mark.parametrize("factor", [THINNEST, 1.0, THICKEST])
def test_a_thicker_skull_pushes_the_scalp_outwards_and_leaves_its_thickness(factor):
    shares = along(thickness=factor)
    bone = 0.01 * (shares["compact"] + shares["diploe"]).sum()
    assert bone == pytest.approx(6 * factor, abs=0.02)
    scalp = 0.01 * sum(shares[name].sum() for name in ("muscle", "fat", "skin"))
    assert scalp == pytest.approx(SKIN_OUTER - 8, abs=0.02)


def test_air_cells_take_bone_between_three_and_seven_millimetres_and_nothing_else():
    solid, aired = along(), along(cells=1.0)
    empty = aired["head"] - sum(aired[name] for name in ("inside", *LAYERS))
    assert 0.01 * empty.sum() == pytest.approx(4, abs=0.02)
    assert STEPS[empty > 0.5].min() > 2.9
    assert STEPS[empty > 0.5].max() < 7.1
    for name in ("inside", "muscle", "fat", "skin"):
        np.testing.assert_array_equal(solid[name], aired[name])


def test_air_cells_lie_in_the_three_ellipsoids_and_grow_with_their_size():
    centres = np.array([centre for centre, _ in AIR_CELLS_MM]).T
    np.testing.assert_allclose(air_cells(centres, (1.0, 1.0, 1.0)), 1)
    assert air_cells(np.zeros((3, 1)), (1.0, 1.0, 1.0))[0] == pytest.approx(0)
    rim = centres + np.array([[13.0], [0.0], [0.0]])
    small, large = (air_cells(rim, (size,) * 3) for size in (0.7, 1.3))
    assert (small < large).all()


def test_the_distance_is_negative_in_the_brain_and_one_per_millimetre_above_it(head):
    brain = head.brain.gm + head.brain.wm > 0.5
    inside = np.argwhere(brain).T[:, ::500] + np.array(head.brain.origin)[:, None]
    assert head.distance_at(inside.astype(float)).max() < 1
    above = np.array([[20.0, 20.0], [-20.0, -20.0], [89.0, 99.0]])
    near, far = head.distance_at(above)
    assert far - near == pytest.approx(10, abs=1)


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_the_whole_head_lies_inside_every_scanners_circle_and_below_the_last_slice(head, seed):
    shape = drawn_shape(head, seed)
    thick = 6 * (THICKEST - 1)
    nodes = np.argwhere(head.distance_at(shape.atlas_mm) < SKIN_OUTER + thick).T
    x, y, z = shape.start[:, None] + NODE_MM * nodes
    for profile in PROFILES:
        radius = profile.pixel_mm * (profile.matrix / 2 - 1)
        seen = z > grid_axes(profile)[2][0]
        middle_x, middle_y, _ = profile.centre_mm
        assert np.hypot(x - middle_x, y - middle_y)[seen].max() < radius, profile.site
        assert z.max() < grid_axes(profile)[2][-1] + profile.slice_mm / 2, profile.site


def test_skulls_differ_between_subjects_and_stay_between_five_and_eight_millimetres(head):
    shape = drawn_shape(head, 0)
    skulls = [draw_skull(shape, np.random.default_rng(seed)).thickness for seed in range(4)]
    means = [skull.mean() for skull in skulls]
    assert np.ptp(means) > 0.05
    assert all(skull.std() > 0.02 for skull in skulls)
    assert min(skull.min() for skull in skulls) >= THINNEST
    assert max(skull.max() for skull in skulls) <= THICKEST


def test_a_head_has_the_volume_of_an_adults_and_a_sixth_of_it_is_bone(north):
    voxel_ml = NORTH.pixel_mm**2 * NORTH.slice_mm / 1000
    layers = north.fractions.layers
    assert 2800 < north.mask.sum() * voxel_ml < 4200
    bone = (layers["compact"] + layers["diploe"]).sum() / north.mask.sum()
    assert 0.12 < bone < 0.25


def test_the_skull_separates_the_brain_from_the_scalp_above_the_air_cells(north):
    above = grid_axes(NORTH)[2] > 10
    labels, _ = ndimage.label(north.hounsfield[..., above] < 300)
    brain = labels[north.brain[..., above]]
    scalp = labels[north.fractions.layers["skin"][..., above] > 0.5]
    assert brain.size > 1000
    assert scalp.size > 1000
    assert not set(brain) & set(scalp)


def test_hounsfield_units_are_shares_of_tissues_so_that_none_lies_outside_their_range(north):
    assert north.hounsfield.min() == -1000
    mean, sd = MEAN_AND_SD["compact"]
    assert 900 < north.hounsfield.max() < mean + 2.5 * sd
    deep = ndimage.binary_erosion(north.brain, iterations=3)
    assert north.hounsfield[deep].min() > -5
    assert north.hounsfield[deep].max() < 45
