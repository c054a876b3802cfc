"""How far a scan lies from the training's: against the distance of the samples themselves."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from lightning_modules.translation.intensities import (
    distance,
    far_from_training,
    histogram,
    source_intensities,
)
from lightning_modules.translation.model_card import BINS, SourceIntensities
from partitions.preparation import PreparedSite

EVERYWHERE = np.ones((4, 32, 32), dtype=bool)


def _scan(seed: int, low: float = 0.2, high: float = 0.6) -> np.ndarray:
    return np.random.default_rng(seed).uniform(low, high, EVERYWHERE.shape).astype(np.float32)


def test_histograms_are_as_far_apart_as_the_samples() -> None:
    one, other = _scan(1), _scan(2, 0.3, 0.9)
    found = distance(histogram(one, EVERYWHERE), histogram(other, EVERYWHERE))
    assert found == pytest.approx(wasserstein_distance(one.ravel(), other.ravel()), abs=1 / BINS)


def test_pixels_outside_the_mask_do_not_count() -> None:
    mask = EVERYWHERE.copy()
    mask[:, :16] = False
    scan = np.where(mask, _scan(1), 0.99).astype(np.float32)
    assert histogram(scan, mask).sum() == pytest.approx(1.0)
    assert histogram(scan, mask)[-1] == 0


def test_a_scan_like_the_training_s_is_passed_and_another_one_named_with_figures() -> None:
    training = SourceIntensities(tuple(histogram(_scan(1), EVERYWHERE)), 0.01)
    assert far_from_training(_scan(2), EVERYWHERE, training) == ""
    said = far_from_training(_scan(2, 0.5, 0.9), EVERYWHERE, training)
    assert "lie 0.30" in said and "of the scale away" in said and "training patient 0.010" in said


def test_the_training_s_own_patients_are_never_far(sites: dict[str, PreparedSite]) -> None:
    split = sites["north"].split("train")
    training = source_intensities([split])
    assert training is not None and sum(training.shares) == pytest.approx(1.0, abs=1e-4)
    for subject in split.subjects:
        where = slice(subject.start, subject.stop)
        source = (split.source[where] / 65535).astype(np.float32)
        assert far_from_training(source, split.mask[where] > 0, training) == ""
