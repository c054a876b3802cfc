"""Texture features, held against counts made by hand, and their distance."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lightning_modules.evaluation.distributions.texture import (
    LEVELS,
    texture_distance,
    texture_features,
)


def test_contrast_counts_neighbours_inside_the_mask_alone() -> None:
    # Two columns of levels 2 and 5 beside one another, and a third one outside the mask.
    image = np.full((1, 4, 3), 0.99)
    image[..., 0], image[..., 1] = 2.5 / LEVELS, 5.5 / LEVELS
    mask = np.zeros(image.shape, dtype=bool)
    mask[..., :2] = True
    # Both orders count: 4 pairs across of 9, 6 of 0 upright (3 a column), 3 + 3 aslant of 9.
    contrast = texture_features(image, mask)[0, 0]
    assert contrast == pytest.approx((4 + 3 + 3) * 9 / (4 + 6 + 3 + 3))


def test_what_lies_outside_the_mask_changes_nothing() -> None:
    rng = np.random.default_rng(1)
    images = rng.uniform(size=(3, 20, 16))
    masks = np.zeros(images.shape, dtype=bool)
    masks[:, 4:16, 3:12] = True
    changed = np.where(masks, images, rng.uniform(size=images.shape))
    np.testing.assert_array_equal(texture_features(images, masks), texture_features(changed, masks))


def test_a_shift_of_every_value_by_one_standard_deviation_is_at_distance_one() -> None:
    rng = np.random.default_rng(2)
    scale = np.array([1.0, 20.0, 0.1])
    real = rng.normal(size=(30, 3)) * scale
    assert texture_distance(real, real + scale, scale) == pytest.approx(1.0)
    assert texture_distance(real, real, scale) == 0.0


def test_a_feature_that_no_real_slice_varies_in_is_not_scaled() -> None:
    real = np.zeros((4, 2))
    assert texture_distance(real, real + 0.5, np.array([0.0, 1.0])) == pytest.approx(0.5)


def test_a_slice_without_numbers_has_no_texture_and_its_set_no_distance() -> None:
    images = np.full((2, 8, 8), 0.5)
    images[1, 3, 3] = math.nan
    features = texture_features(images, np.ones(images.shape, dtype=bool))
    assert not np.isnan(features[0]).any()
    assert np.isnan(features[1]).all()
    assert math.isnan(texture_distance(features[:1], features, np.ones(12)))
