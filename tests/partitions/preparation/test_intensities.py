"""Scales of volumes against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from partitions.preparation.intensities import (
    LEVELS,
    Scale,
    empty_intensity,
    fixed_scale,
    scale_of,
    to_levels,
)
from partitions.preparation.scaling import Scaling

CT = Scaling("window", -1024, 3071, "HU")
EVERYWHERE = np.ones(101, dtype=bool)


def _scaled(
    volume: NDArray[np.float32], mask: NDArray[np.bool_], percentiles: tuple[float, float]
) -> NDArray[np.float32]:
    return scale_of(volume, mask, Scaling(), percentiles).to_intensity(volume)


def test_a_ramp_of_101_values_is_scaled_between_its_5th_and_95th_value() -> None:
    scaled = _scaled(np.arange(101, dtype=np.float32), EVERYWHERE, (5.0, 95.0))
    expected = np.clip((np.arange(101) - 5) / 90, 0, 1)
    np.testing.assert_allclose(scaled, expected, atol=1e-7)


def test_voxels_outside_the_mask_do_not_move_the_scale_but_are_scaled_and_clipped() -> None:
    volume = np.array([0, 50, 100, 1e6, -1e6, 25], dtype=np.float32)
    mask = np.array([True, True, True, False, False, False])
    scaled = _scaled(volume, mask, (0.0, 100.0))
    np.testing.assert_allclose(scaled, [0, 0.5, 1, 1, 0, 0.25])


def test_a_volume_constant_inside_the_mask_is_refused() -> None:
    flat = np.full(101, 7, np.float32)
    with pytest.raises(ValueError, match="both 7"):
        scale_of(flat, EVERYWHERE, Scaling(), (0.5, 99.5))
    with pytest.raises(ValueError, match="both 7"):
        scale_of(flat, EVERYWHERE, Scaling("raw"), (0.5, 99.5))


def test_stored_numbers_that_are_no_hu_are_refused_by_the_window() -> None:
    beyond = np.linspace(4000, 9000, 101).astype(np.float32)
    with pytest.raises(ValueError, match=r"-1024 and 3071 HU.*from 4000 to 9000"):
        scale_of(beyond, EVERYWHERE, CT, (0.5, 99.5))


def test_levels_return_the_intensity_within_half_a_step() -> None:
    intensity = np.random.default_rng(0).random(10_000).astype(np.float32)
    assert np.abs(to_levels(intensity) / LEVELS - intensity).max() <= 0.5 / LEVELS + 1e-9
    assert to_levels(np.array([0, 1], np.float32)).tolist() == [0, LEVELS]


@pytest.mark.parametrize(
    ("low", "high", "part"),
    [(-1024, 3071, 16), (-1024, 3000, 16), (-1000, 1000, 32), (-160, 240, 1), (0, 80, 1)],
)
def test_whole_hu_come_back_bit_equal_from_the_cache(low: float, high: float, part: int) -> None:
    scale = fixed_scale(Scaling("window", low, high, "HU"))
    assert scale is not None
    values = np.arange(low, high + 1 / part, 1 / part)
    levels = to_levels(scale.to_intensity(values.astype(np.float32)))
    back = scale.levels_to_unit(levels)
    np.testing.assert_array_equal(back.astype(np.float32), values.astype(np.float32))
    assert levels.min() == 0


def test_the_ct_window_is_stored_as_sixteen_levels_per_hu_above_minus_1024() -> None:
    scale = Scale(-1024, 3071, "HU")
    values = np.array([-3024, -1024, 0, 3071, 9000], np.float32)
    stored = to_levels(scale.to_intensity(values))
    assert stored.tolist() == [0, 0, 1024 * 16, 4095 * 16, 4095 * 16]
    # A network whose output reaches 1 is at the end of the window and not beyond it.
    assert scale.to_unit(np.array([-0.1, 0.0, 1.0, 1.1])).tolist() == [-1024, -1024, 3071, 3071]


def test_what_has_no_unit_uses_all_levels_and_returns_within_half_of_one() -> None:
    volume = np.random.default_rng(1).gamma(2, 200, 5000).astype(np.float32)
    scale = scale_of(volume, np.ones(5000, dtype=bool), Scaling("raw"), (0.5, 99.5))
    assert (scale.low, scale.high) == (volume.min(), volume.max())
    levels = to_levels(scale.to_intensity(volume))
    assert (levels.min(), levels.max()) == (0, LEVELS)
    width = scale.high - scale.low
    assert np.abs(scale.levels_to_unit(levels) - volume).max() <= 0.51 * width / LEVELS


def test_a_translation_has_a_unit_only_where_the_target_has_a_fixed_scale() -> None:
    assert fixed_scale(CT) == Scale(-1024, 3071, "HU")
    assert fixed_scale(Scaling("suv", high=20)) == Scale(0, 20, "SUV")
    assert fixed_scale(Scaling()) is None
    assert fixed_scale(Scaling("raw")) is None


def test_where_there_is_nothing_there_is_air_zero_of_the_unit_or_the_darkest_value() -> None:
    assert empty_intensity(CT) == pytest.approx(24 * 16 / 65535)  # -1000 HU
    assert empty_intensity(Scaling("window", -160, 240, "HU")) == 0.0  # air is below the window
    assert empty_intensity(Scaling("window", -1, 3, "ppm")) == pytest.approx(0.25)
    assert empty_intensity(Scaling("suv", high=20)) == 0.0
    assert empty_intensity(Scaling()) == empty_intensity(Scaling("raw")) == 0.0
