"""Robust scaling against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from partitions.preparation.intensities import LEVELS, scale_inside, to_levels


def test_a_ramp_of_101_values_is_scaled_between_its_5th_and_95th_value() -> None:
    ramp = np.arange(101, dtype=np.float32)
    scaled = scale_inside(ramp, np.ones(101, dtype=bool), (5.0, 95.0))
    expected = np.clip((np.arange(101) - 5) / 90, 0, 1)
    np.testing.assert_allclose(scaled, expected, atol=1e-7)


def test_voxels_outside_the_mask_do_not_move_the_scale_but_are_scaled_and_clipped() -> None:
    volume = np.array([0, 50, 100, 1e6, -1e6, 25], dtype=np.float32)
    mask = np.array([True, True, True, False, False, False])
    scaled = scale_inside(volume, mask, (0.0, 100.0))
    np.testing.assert_allclose(scaled, [0, 0.5, 1, 1, 0, 0.25])


def test_a_volume_constant_inside_the_mask_is_refused() -> None:
    with pytest.raises(ValueError, match="both 7"):
        scale_inside(np.full(9, 7, np.float32), np.ones(9, dtype=bool), (0.5, 99.5))


def test_levels_return_the_intensity_within_half_a_step() -> None:
    intensity = np.random.default_rng(0).random(10_000).astype(np.float32)
    assert np.abs(to_levels(intensity) / LEVELS - intensity).max() <= 0.5 / LEVELS + 1e-9
    assert to_levels(np.array([0, 1], np.float32)).tolist() == [0, LEVELS]
