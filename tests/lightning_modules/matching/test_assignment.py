"""The Hungarian assignment against trying all permutations."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from lightning_modules.matching.matching import assign


def _value(similarity: np.ndarray, order: np.ndarray) -> float:
    return float(similarity[np.arange(len(order)), order].sum())


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6])
def test_i16_no_permutation_is_better_than_the_assignment(size: int) -> None:
    rng = np.random.default_rng(size)
    for _ in range(20):
        similarity = rng.standard_normal((size, size))
        best = max(_value(similarity, np.array(order)) for order in permutations(range(size)))
        assert _value(similarity, assign(similarity)) == pytest.approx(best, abs=1e-12)


def test_rows_are_the_references_channels_and_columns_the_sites() -> None:
    # The reference's channel 0 resembles the site's channel 2, and so on.
    similarity = np.array([[0.0, 0.1, 0.9], [0.8, 0.0, 0.1], [0.1, 0.7, 0.0]])
    assert assign(similarity).tolist() == [2, 0, 1]


@pytest.mark.parametrize("size", [1, 2, 7])
@pytest.mark.parametrize("value", [0.0, 0.25, -3e8])
def test_equal_channels_stay_where_they_are(size: int, value: float) -> None:
    assert assign(np.full((size, size), value)).tolist() == list(range(size))


def test_among_equal_channels_those_in_place_stay_while_others_move() -> None:
    # Channels 1 and 3 are copies of each other, 0 and 2 have changed places.
    features = np.eye(3)[[0, 1, 2, 1]]
    similarity = features @ features[[2, 1, 0, 3]].T
    assert assign(similarity).tolist() == [2, 1, 0, 3]


def test_copies_of_a_channel_stay_where_they_are_wherever_they_stand() -> None:
    """Similarities of copies differ by rounding, which must not exchange them."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        copies = rng.choice(8, 4, replace=False)
        features = rng.standard_normal((8, 40))
        features[copies] = features[copies[0]]
        planted = np.arange(8)
        others = np.setdiff1d(planted, copies)
        planted[others] = np.roll(others, 1)
        similarity = features @ features[planted].T
        similarity += 1e-15 * np.abs(similarity).max() * rng.standard_normal((8, 8))
        assert assign(similarity).tolist() == np.argsort(planted).tolist()


def test_rounding_does_not_move_equal_channels() -> None:
    noise = 1e-15 * np.random.default_rng(0).standard_normal((8, 8))
    assert assign(1.0 + noise).tolist() == list(range(8))


def test_a_real_difference_decides_however_small() -> None:
    similarity = np.array([[1.0, 1.0 + 1e-10], [1.0 + 1e-10, 1.0]])
    assert assign(similarity).tolist() == [1, 0]


def test_the_margin_is_the_fraction_that_moving_must_gain() -> None:
    similarity = np.array([[0.90, 1.0], [1.0, 0.92]])  # moving gains 0.18 of 2.0: 9 percent
    assert assign(similarity, stay_margin=0.08).tolist() == [1, 0]
    assert assign(similarity, stay_margin=0.10).tolist() == [0, 1]
