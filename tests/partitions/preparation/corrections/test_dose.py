"""A smaller dose, against scans that were computed with fewer photons from the beginning."""

from __future__ import annotations

import numpy as np
import pytest

from partitions.preparation.corrections.dose import FULL_DOSE_PHOTONS, FULL_DOSE_VIEWS, with_dose
from partitions.scans.projections import (
    angles,
    attenuation,
    detect,
    hounsfield,
    project,
    reconstruct,
)

SIDE, PIXEL, VIEWS = 64, 3.0, 120
X, Y = np.meshgrid(*[np.linspace(-1, 1, SIDE)] * 2, indexing="ij")
HEAD = np.where(X**2 + Y**2 < 0.5, 40.0, -1000.0)
HEAD[(X**2 + Y**2 < 0.5) & (X**2 + Y**2 > 0.4)] = 1000.0
BRAIN = X**2 + Y**2 < 0.2


def scanned(photons: float, seed: int) -> np.ndarray:
    views = angles(VIEWS)
    integrals = project(attenuation(HEAD)[..., np.newaxis], PIXEL, views)
    counted = detect(integrals, photons * FULL_DOSE_VIEWS / VIEWS, np.random.default_rng(seed))
    return hounsfield(reconstruct(counted, PIXEL, views))[..., 0]


def spread(dose: float) -> float:
    """Standard deviation in the brain of scans with that part of the full dose."""
    first, second = (scanned(dose * FULL_DOSE_PHOTONS, seed) for seed in (1, 2))
    return float((first - second)[BRAIN].std() / np.sqrt(2))


@pytest.mark.parametrize("dose", [0.25, 0.05])
def test_the_noise_added_is_what_fewer_photons_have_beyond_the_full_dose(dose: float) -> None:
    volume = np.repeat(HEAD[..., np.newaxis], 3, axis=2)
    edges = (PIXEL, PIXEL, 5.0)
    added = with_dose(volume, edges, dose, np.random.default_rng(0)) - volume
    missing = np.sqrt(spread(dose) ** 2 - spread(1.0) ** 2)
    assert added[BRAIN].std() == pytest.approx(missing, rel=0.15)
    assert abs(added[BRAIN].mean()) < 0.1 * missing
    assert not np.array_equal(added[..., 0], added[..., 1])  # every slice is a scan of its own


def test_noise_of_projections_has_little_power_at_low_frequencies_unlike_white_noise() -> None:
    """Back-projection's ramp filter takes them away: the noise has grains and no clouds."""
    volume = np.repeat(HEAD[..., np.newaxis], 4, axis=2)
    added = with_dose(volume, (PIXEL, PIXEL, 5.0), 0.25, np.random.default_rng(0)) - volume
    side = 24
    first = (SIDE - side) // 2
    inner = added[first : first + side, first : first + side]
    window = np.outer(np.hanning(side), np.hanning(side))[..., np.newaxis]
    power = (np.abs(np.fft.fft2(inner * window, axes=(0, 1))) ** 2).mean(axis=2)
    frequency = np.hypot(*np.meshgrid(*[np.fft.fftfreq(side)] * 2))
    low, middle = (
        power[(frequency > a) & (frequency < b)].mean() for a, b in ((0, 0.07), (0.15, 0.3))
    )
    assert low < 0.5 * middle


def test_the_full_dose_changes_nothing() -> None:
    volume = HEAD[..., np.newaxis]
    found = with_dose(volume, (PIXEL, PIXEL, 5.0), 1.0, np.random.default_rng(0))
    assert np.allclose(found, volume, atol=1e-9)


def test_pixels_that_are_not_square_have_grains_as_wide_as_they_are_high() -> None:
    thin = np.repeat(HEAD, 2, axis=1)[..., np.newaxis]
    added = with_dose(thin, (PIXEL, PIXEL / 2, 5.0), 0.25, np.random.default_rng(0)) - thin
    inner = added[20:44, 40:88, 0]

    def alike(apart: int, axis: int) -> float:
        one = np.take(inner, range(inner.shape[axis] - apart), axis=axis)
        other = np.take(inner, range(apart, inner.shape[axis]), axis=axis)
        return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])

    assert alike(2, 1) == pytest.approx(alike(1, 0), abs=0.15)
    assert alike(1, 1) > alike(1, 0)
