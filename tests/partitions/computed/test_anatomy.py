"""Shape, ageing and lesions of the computed subjects."""

import dataclasses

import numpy as np
import pytest
from scipy import ndimage

from partitions.computed.ageing import (
    csf_weight,
    draw_lesions,
    expected_lesions,
    ventricle_shift_mm,
)
from partitions.computed.anatomy import grid_axes, sample_fractions
from partitions.computed.deformation import (
    NODE_MM,
    BackwardMap,
    draw_backward_map,
    jacobian_determinant,
)
from partitions.computed.site_profiles import EAST, PROFILES


def shape_of(atlas, age, seed=3):
    return draw_backward_map(atlas, np.random.default_rng(seed), ventricle_shift_mm(age))


def ventricle_volume_ml(atlas, age):
    """Lateral ventricles counted as a tissue of their own on the site's grid."""
    marked = atlas.ventricles.astype(np.float32)
    only = dataclasses.replace(atlas, gm=0 * marked, wm=0 * marked, csf=marked)
    none = np.zeros_like(marked)
    fractions = sample_fractions(only, none, shape_of(atlas, age), EAST, csf_weight=1.0)
    return fractions.csf.sum() * EAST.pixel_mm**2 * EAST.slice_mm / 1000


def test_fractions_sum_to_one_in_the_brain_and_zero_outside(atlas):
    total = atlas.gm + atlas.wm + atlas.csf
    inside = total > 0.5
    np.testing.assert_allclose(total[inside], 1, atol=1e-5)
    assert np.all(total[~inside] == 0)
    assert 1.5e6 < inside.sum() < 2.2e6  # mm3 of an adult brain with its thin CSF rim


def test_both_lateral_ventricles_are_found_and_are_of_equal_size(atlas):
    x = np.arange(atlas.ventricles.shape[0]) + atlas.origin[0]
    left, right = atlas.ventricles[x < 0].sum(), atlas.ventricles[x > 0].sum()
    assert 4000 < left < 15000  # mm3
    assert left == pytest.approx(right, rel=0.2)


def test_the_jacobian_of_a_pure_scaling_is_its_volume_ratio():
    nodes = NODE_MM * np.stack(np.meshgrid(*[np.arange(5.0)] * 3, indexing="ij"))
    scaled = nodes * np.array([1.1, 0.9, 1.2])[:, None, None, None]
    np.testing.assert_allclose(jacobian_determinant(scaled), 1.1 * 0.9 * 1.2)


def test_a_fold_has_a_negative_jacobian():
    nodes = NODE_MM * np.stack(np.meshgrid(*[np.arange(5.0)] * 3, indexing="ij"))
    nodes[0] *= -1
    folded = BackwardMap(start=np.zeros(3), atlas_mm=nodes)
    assert folded.jacobian_determinant().max() < 0


@pytest.mark.parametrize(("age", "seed"), [(25, 0), (60, 1), (88, 0), (88, 2)])
def test_every_drawn_map_is_invertible(atlas, age, seed):
    assert shape_of(atlas, age, seed).jacobian_determinant().min() > 0


def brain_nodes(atlas, shape):
    """Which nodes of the coarse grid lie in the subject's brain."""
    voxels = shape.atlas_mm - np.array(atlas.origin)[:, None, None, None]
    return ndimage.map_coordinates(atlas.gm + atlas.wm + atlas.csf, voxels, order=1) > 0.5


def test_two_subjects_have_different_heads_of_the_same_kind(atlas):
    first, second = (brain_nodes(atlas, shape_of(atlas, 50, seed)) for seed in (0, 1))
    overlap = 2 * np.sum(first & second) / (first.sum() + second.sum())
    assert 0.7 < overlap < 0.99


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_whole_brain_lies_inside_every_sites_field_of_view(atlas, seed):
    shape = shape_of(atlas, 40, seed)
    nodes = np.argwhere(brain_nodes(atlas, shape))
    low, high = (shape.start + NODE_MM * limit(nodes, axis=0) for limit in (np.min, np.max))
    for profile in PROFILES:
        for axis, positions in enumerate(grid_axes(profile)):
            assert positions[0] < low[axis] and high[axis] < positions[-1], profile.site


def test_ventricles_widen_with_age(atlas):
    young, middle, old = (ventricle_volume_ml(atlas, age) for age in (25, 55, 85))
    assert 1.15 * young < middle
    assert 1.15 * middle < old


def test_sulci_widen_with_age(atlas):
    lesion = np.zeros_like(atlas.csf)
    shape = shape_of(atlas, 25)
    young, old = (
        sample_fractions(atlas, lesion, shape, EAST, csf_weight(age)).csf.sum() for age in (25, 85)
    )
    assert 1.05 * young < old < 1.6 * young


def test_a_template_without_any_shape_change_keeps_its_tissue_volumes(atlas):
    nodes = draw_backward_map(atlas, np.random.default_rng(0), 0.0)
    grids = [
        first + NODE_MM * np.arange(count)
        for first, count in zip(nodes.start, nodes.atlas_mm.shape[1:], strict=True)
    ]
    identity = BackwardMap(nodes.start, np.stack(np.meshgrid(*grids, indexing="ij")))
    found = sample_fractions(atlas, np.zeros_like(atlas.csf), identity, EAST, csf_weight=1.0)
    volume = found.brain.sum() * EAST.pixel_mm**2 * EAST.slice_mm
    assert volume == pytest.approx((atlas.gm + atlas.wm + atlas.csf).sum(), rel=0.01)


def test_lesions_lie_in_white_matter_near_the_ventricles(atlas):
    lesion = draw_lesions(atlas, 80, np.random.default_rng(5)) > 0.3
    assert lesion.sum() > 100
    assert atlas.wm[lesion].mean() > 0.85
    white = atlas.wm > 0.85
    typical = np.median(atlas.ventricle_distance[white])
    assert np.median(atlas.ventricle_distance[lesion]) < 0.7 * typical


def test_older_subjects_have_more_lesion_and_the_young_few(atlas):
    young, old = (
        sum(draw_lesions(atlas, age, np.random.default_rng(seed)).sum() for seed in range(6))
        for age in (35, 80)
    )
    assert expected_lesions(25) == 0
    assert 3 * young < old


def test_a_lesion_has_a_smooth_edge(atlas):
    lesion = draw_lesions(atlas, 80, np.random.default_rng(5))
    assert lesion.max() <= 0.85
    partial = ((lesion > 0.05) & (lesion < 0.6)).sum()
    assert partial > 0.3 * (lesion >= 0.6).sum()
