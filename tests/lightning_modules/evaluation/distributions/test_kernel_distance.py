"""The kernel distance, held against loops over pairs, torchmetrics and values known by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torchmetrics.image.kid import poly_mmd

from lightning_modules.evaluation.distributions.kernel_distance import (
    jackknifed,
    kernel_distance,
)

ONE = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
OTHER = np.array([[1.0, 1.0], [2.0, 0.0], [1.0, 2.0]])


def test_three_points_against_three_others_have_the_value_worked_out_by_hand() -> None:
    # Within: 1/6 of the six ordered pairs; between: 1/9 of the nine.
    found = kernel_distance(ONE, OTHER, ["a", "b", "c"], ["d", "e", "f"])
    assert found.value == pytest.approx(4.847222, abs=1e-6)


def test_a_set_against_the_same_slices_of_other_people_may_be_below_zero() -> None:
    found = kernel_distance(ONE, ONE, ["a", "b", "c"], ["d", "e", "f"])
    assert found.value == pytest.approx(-1.055556, abs=1e-6)


def test_with_a_slice_per_person_it_is_the_estimator_of_torchmetrics() -> None:
    rng = np.random.default_rng(4)
    one, other = rng.normal(size=(9, 5)), rng.normal(0.3, 1.2, size=(9, 5))
    found = kernel_distance(one, other, [f"a{n}" for n in range(9)], [f"b{n}" for n in range(9)])
    expected = poly_mmd(torch.from_numpy(one), torch.from_numpy(other))
    assert found.value == pytest.approx(float(expected), rel=1e-12)


def _by_loops(one: np.ndarray, other: np.ndarray, x: list[str], y: list[str]) -> float:
    """Mean kernels over pairs of two people, pair by pair."""

    def mean(a: np.ndarray, b: np.ndarray, p: list[str], q: list[str]) -> float:
        pairs = [
            (float(a[i] @ b[j]) / a.shape[1] + 1.0) ** 3
            for i, j in itertools.product(range(len(a)), range(len(b)))
            if p[i] != q[j]
        ]
        return sum(pairs) / len(pairs)

    return mean(one, one, x, x) + mean(other, other, y, y) - 2 * mean(one, other, x, y)


def test_slices_of_one_person_are_never_paired_and_the_error_is_the_jackknife() -> None:
    rng = np.random.default_rng(5)
    people = ["a", "a", "a", "b", "b", "c", "c", "c", "c", "d"]
    one, other = rng.normal(size=(10, 3)), rng.normal(size=(10, 3))
    found = kernel_distance(one, other, people, people)
    assert found.value == pytest.approx(_by_loops(one, other, people, people), rel=1e-10)
    left_out = []
    for name in "abcd":
        kept = np.array([who != name for who in people])
        rest = [who for who in people if who != name]
        left_out.append(_by_loops(one[kept], other[kept], rest, rest))
    expected = math.sqrt(3 / 4 * sum((v - np.mean(left_out)) ** 2 for v in left_out))
    assert found.standard_error == pytest.approx(expected, rel=1e-9)


def test_equal_slices_of_equal_people_are_at_distance_zero() -> None:
    one = np.random.default_rng(6).normal(size=(8, 4))
    found = kernel_distance(one, one, list("aabbccdd"), list("aabbccdd"))
    assert found.value == pytest.approx(0.0, abs=1e-12)
    assert found.standard_error == pytest.approx(0.0, abs=1e-12)


def test_a_translation_that_copies_its_target_s_noise_gains_nothing_by_it() -> None:
    # Both sets are of one distribution; in one case slice and translation are the same but for a
    # sign that does not matter. The published estimator falls below 0 then, as k(x, x) is large.
    rng = np.random.default_rng(7)
    values, published = [], []
    for _ in range(200):
        one = rng.normal(size=(12, 2))
        other = 0.95 * one + math.sqrt(1 - 0.95**2) * rng.normal(size=(12, 2))
        people = [str(n) for n in range(12)]
        values.append(kernel_distance(one, other, people, people).value)
        published.append(float(poly_mmd(torch.from_numpy(one), torch.from_numpy(other))))
    error = float(np.std(values) / math.sqrt(len(values)))
    assert abs(np.mean(values)) < 4 * error
    assert np.mean(published) < -4 * float(np.std(published) / math.sqrt(len(published)))


def test_the_jackknife_of_a_mean_over_people_is_its_standard_error() -> None:
    values = np.array([1.0, 4.0, 2.0, 7.0, 3.0])
    found = jackknifed(list("abcde"), lambda kept: float(values[kept].mean()))
    assert found.value == pytest.approx(3.4)
    assert found.standard_error == pytest.approx(values.std(ddof=1) / math.sqrt(5))


def test_a_diverged_model_has_no_distance() -> None:
    other = ONE.copy()
    other[1, 0] = math.nan
    found = kernel_distance(ONE, other, list("abc"), list("abc"))
    assert math.isnan(found.value)
    assert math.isnan(found.standard_error)
