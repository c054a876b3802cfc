"""What membership scores tell, and that they tell nothing where nothing is to be told."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from fedi2i.errors import DataError
from lightning_modules.privacy.attacks.statistics import (
    Trials,
    few_alarms,
    found_at,
    p_of_largest,
    separation,
)

MODELS, PATIENTS = 8, 16


def _members(seed: int, models: int = MODELS, patients: int = PATIENTS) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(models // 2):
        first = np.zeros(patients, dtype=bool)
        first[rng.permutation(patients)[: patients // 2]] = True
        rows += [first, ~first]
    return np.stack(rows)


def _trials(seed: int, leak: float, models: int = MODELS, patients: int = PATIENTS) -> Trials:
    """Scores with a part of each patient's own, noise, and a leak for members."""
    rng = np.random.default_rng([seed, 1])
    members = _members(seed, models, patients)
    scores = rng.normal(size=(1, patients)) + rng.normal(size=members.shape) + leak * members
    return Trials(scores, members)


def test_the_auc_is_that_of_the_rank_sum_test_mean_over_models() -> None:
    trials = _trials(3, leak=0.7)
    expected = [
        mannwhitneyu(row[inside], row[~inside]).statistic / (inside.sum() * (~inside).sum())
        for row, inside in zip(trials.scores, trials.members, strict=True)
    ]
    found = separation(trials, 50, np.random.default_rng(0))
    assert found.auc == pytest.approx(np.mean(expected))


def test_a_planted_leak_is_found() -> None:
    found = separation(_trials(1, leak=2.0), 200, np.random.default_rng(0))
    assert found.auc > 0.8
    assert found.low > 0.7
    assert found.p == pytest.approx(1 / 201)
    assert found.null_high < found.auc


def test_on_shuffled_membership_every_score_falls_to_chance() -> None:
    rng = np.random.default_rng(5)
    inside, small = 0, 0
    for seed in range(30):
        leaking = _trials(seed, leak=2.0)
        shuffled = Trials(leaking.scores, _members(seed + 1000))
        found = separation(shuffled, 100, rng)
        inside += found.null_low <= found.auc <= found.null_high
        small += found.p < 0.05
        assert found.null_low < 0.5 < found.null_high
    assert inside >= 24
    assert small <= 5


def test_the_best_of_many_empty_scores_is_not_taken_for_a_leak() -> None:
    rng = np.random.default_rng(6)
    single, corrected = 0, 0
    for seed in range(20):
        members = _members(seed)
        empty = [Trials(rng.normal(size=members.shape), members) for _ in range(8)]
        single += min(separation(one, 60, rng).p for one in empty) < 0.05
        corrected += p_of_largest(empty, 60, rng) < 0.05
    assert single >= 4
    assert corrected <= 3


def test_a_leak_in_one_of_many_scores_is_still_found() -> None:
    leaking = _trials(2, leak=2.0)
    rng = np.random.default_rng(7)
    empty = [Trials(rng.normal(size=leaking.scores.shape), leaking.members) for _ in range(5)]
    assert p_of_largest([*empty, leaking], 200, rng) < 0.01
    other = Trials(leaking.scores, _members(99))
    with pytest.raises(DataError, match="different memberships"):
        p_of_largest([leaking, other], 10, rng)


def test_one_per_cent_of_false_alarms_needs_a_hundred_non_members() -> None:
    few = _trials(1, leak=1.0, models=8, patients=24)
    assert few.non_members == 96
    with pytest.raises(DataError, match="96 non-member trials say nothing"):
        found_at(few, 0.01)
    reported = few_alarms(few, 20, np.random.default_rng(0))
    assert reported.at == 0
    assert reported.bound == pytest.approx(1 - 0.05 ** (1 / 96))
    many = _trials(1, leak=1.0, models=10, patients=24)
    assert many.non_members == 120
    assert few_alarms(many, 20, np.random.default_rng(0)).at == 0.01
    assert 0 <= found_at(many, 0.01) <= 1


def test_none_of_twenty_one_still_allows_thirteen_per_cent() -> None:
    scores = np.zeros((2, 42))
    members = np.stack([np.arange(42) < 21, np.arange(42) >= 21])
    scores[members] = 1.0
    one = Trials(scores[:1], members[:1])
    reported = few_alarms(one, 20, np.random.default_rng(0))
    assert (reported.found, reported.at) == (1.0, 0.0)
    assert reported.bound == pytest.approx(0.133, abs=1e-3)


def test_members_below_the_highest_other_are_not_found_without_a_false_alarm() -> None:
    scores = np.array([[3.0, 1.0, 2.0, 0.0]])
    members = np.array([[True, True, False, False]])
    assert found_at(Trials(scores, members), 0.0) == 0.5


def test_scores_that_are_no_numbers_and_models_without_others_are_refused() -> None:
    members = _members(0)
    with pytest.raises(DataError, match="not finite"):
        Trials(np.full(members.shape, np.nan), members)
    with pytest.raises(DataError, match="a member and a non-member"):
        Trials(np.zeros((1, 3)), np.ones((1, 3), dtype=bool))
