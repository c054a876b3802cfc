"""Intervals, strengths and kappas against published and hand-made values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from fedi2i.errors import DataError
from report.readers.agreement import cohen, fleiss
from report.readers.bradley_terry import clustered_errors, fit
from report.readers.proportions import design_effect, proportion, wilson

# Weil's litters of rats (Rao and Scott 1992, table 1): survived, of
CONTROL = (
    *((13, 13), (12, 12), (9, 9), (9, 9), (8, 8), (8, 8), (12, 13), (11, 12)),
    *((9, 10), (9, 10), (8, 9), (11, 13), (4, 5), (5, 7), (7, 10), (7, 10)),
)
TREATED = (
    *((12, 12), (11, 11), (10, 10), (9, 9), (10, 11), (9, 10), (9, 10), (8, 9)),
    *((8, 9), (4, 5), (7, 9), (4, 7), (5, 10), (3, 6), (3, 10), (0, 7)),
)
# Answers of 14 raters on ten cases in five categories (counts; kappa 0.210 by hand)
FOURTEEN_RATERS = (
    *((0, 0, 0, 0, 14), (0, 2, 6, 4, 2), (0, 0, 3, 5, 6), (0, 3, 9, 2, 0), (2, 2, 8, 1, 1)),
    *((7, 7, 0, 0, 0), (3, 2, 6, 3, 0), (2, 5, 3, 2, 2), (6, 5, 2, 1, 0), (0, 2, 2, 3, 7)),
)
WINS = np.array([[0, 7, 9], [3, 0, 6], [1, 4, 0]], dtype=float)


# --- intervals ---


def test_wilson_s_interval_is_the_known_one() -> None:
    assert wilson(17 / 40, 40) == pytest.approx((0.285094, 0.578049), abs=1e-6)
    for count, of in ((0, 20), (20, 20), (3, 7)):
        known = binomtest(count, of).proportion_ci(method="wilson")
        assert wilson(count / of, of) == pytest.approx((known.low, known.high), abs=1e-12)


def test_one_judgement_for_each_patient_counts_in_full() -> None:
    share = proportion({n: (int(n < 17), 1) for n in range(40)})
    assert (share.count, share.of, share.patients) == (17, 40, 40)
    assert (share.low, share.high) == pytest.approx((0.285094, 0.578049), abs=1e-6)


def test_the_design_effect_is_the_published_one() -> None:
    assert design_effect(np.array(CONTROL, dtype=float)) == pytest.approx(1.232495, abs=1e-6)
    assert design_effect(np.array(TREATED, dtype=float)) == pytest.approx(3.952861, abs=1e-6)


def test_readers_who_agree_on_every_patient_count_as_one() -> None:
    alone = proportion({n: (int(n < 6), 1) for n in range(20)})
    together = proportion({n: (3 * int(n < 6), 3) for n in range(20)})
    assert (together.count, together.of) == (18, 60)
    assert (together.low, together.high) == pytest.approx((alone.low, alone.high), abs=1e-12)


def test_unequal_numbers_of_judgements_are_worth_no_more_than_patients_who_are_alike() -> None:
    """All judgements of a patient equal: the variance is the sum of squares by hand."""
    counts = np.array([(9, 9), (0, 9), (1, 1), (0, 1), (1, 1), (0, 1)], dtype=float)
    share, total = 0.5, 22.0
    of_the_ratio = 6 / 5 * (share**2 * (81 + 81 + 4)) / total**2
    by_hand = of_the_ratio / (share**2 / total)
    assert total / 6 < by_hand  # what the mean number of judgements would have cut off
    assert design_effect(counts) == pytest.approx(min(by_hand, 166 / 22))


def test_where_all_judgements_are_the_same_patients_are_counted_and_not_judgements() -> None:
    share = proportion({n: (3, 3) for n in range(8)})
    assert (share.low, share.high) == pytest.approx(wilson(1.0, 8))


def test_a_share_of_nothing_is_no_number() -> None:
    share = proportion({})
    assert share.of == 0
    assert all(math.isnan(value) for value in (share.share, share.low, share.high))


# --- strengths ---


def test_strengths_are_the_known_ones() -> None:
    fitted = fit(WINS)
    assert fitted.shares == pytest.approx((0.662503, 0.219699, 0.117798), abs=1e-6)
    third = fit(WINS[::-1, ::-1])  # the third arm first: it has the logarithm 0
    assert third.logs[::-1] == pytest.approx((1.727051, 0.623284, 0.0), abs=1e-6)
    assert third.errors[::-1] == pytest.approx((0.6583, 0.5742, 0.0), abs=1e-4)


def test_the_fitted_wins_of_every_arm_are_the_observed_ones() -> None:
    logs = np.array(fit(WINS).logs)
    probability = 1 / (1 + np.exp(logs[None, :] - logs[:, None]))
    fitted = ((WINS + WINS.T) * probability).sum(axis=1)
    assert fitted == pytest.approx([16, 9, 5], abs=1e-5)


def test_of_two_arms_the_strength_is_the_odds_and_a_tie_is_half_a_win() -> None:
    fitted = fit(np.array([[0, 2.5], [7.5, 0]]))  # two wins, seven, and one without a difference
    assert fitted.logs[1] == pytest.approx(math.log(3), abs=1e-6)
    assert fitted.errors[1] == pytest.approx(math.sqrt(1 / 2.5 + 1 / 7.5), abs=1e-6)


def test_clustered_errors_of_two_arms_are_those_of_a_clustered_share() -> None:
    """The delta method: the error of a log odds is that of the share over p (1 - p)."""
    counts = np.array(TREATED, dtype=float)
    clusters = [np.array([[0, of - true], [true, 0]]) for true, of in counts]
    share, total = counts[:, 0].sum() / counts[:, 1].sum(), counts[:, 1].sum()
    expected = math.sqrt(3.952861 * share * (1 - share) / total) / (share * (1 - share))
    errors = clustered_errors(fit(np.sum(clusters, axis=0)), clusters)
    assert errors[0] == 0
    assert errors[1] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "wins",
    [
        np.array([[0, 5.0], [0, 0]]),
        np.array([[0, 3, 2], [0, 0, 4], [0, 1, 0.0]]),
        np.array([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0.0]]),
    ],
)
def test_wins_that_no_finite_strengths_explain_are_refused(wins: np.ndarray) -> None:
    with pytest.raises(DataError, match="no finite strengths"):
        fit(wins)


def test_strengths_that_made_the_preferences_are_found_again() -> None:
    random = np.random.default_rng(4)
    truth = np.array([0.0, 0.8, -0.5, 0.3])
    wins = np.zeros((4, 4))
    for one in range(4):
        for other in range(one):
            won = random.binomial(4000, 1 / (1 + math.exp(truth[other] - truth[one])))
            wins[one, other], wins[other, one] = won, 4000 - won
    fitted = fit(wins)
    away = np.abs(np.array(fitted.logs) - truth)[1:] / np.array(fitted.errors)[1:]
    assert away.max() < 3


# --- agreement ---


def test_cohen_s_kappa_of_a_table_is_what_the_hand_gets() -> None:
    """Both yes 20, both no 15, yes and no 5, no and yes 10: 0.7 observed, 0.5 by chance."""
    first = ["yes"] * 25 + ["no"] * 25
    second = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    agreement = cohen(first, second)
    assert (agreement.cases, agreement.share) == (50, 0.7)
    assert agreement.kappa == pytest.approx(0.4)


def test_cohen_s_kappa_is_another_library_s() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(8)
    first = random.choice(["left", "right", "equal"], 90).tolist()
    second = [one if random.random() < 0.6 else "left" for one in first]
    assert cohen(first, second).kappa == pytest.approx(metrics.cohen_kappa_score(first, second))


def test_fleiss_kappa_is_what_the_hand_gets() -> None:
    judgements = [
        [str(answer) for answer, count in enumerate(counts) for _ in range(count)]
        for counts in FOURTEEN_RATERS
    ]
    agreement = fleiss(judgements)
    assert agreement.cases == 10
    assert agreement.share == pytest.approx(0.378, abs=5e-4)
    assert agreement.kappa == pytest.approx(0.210, abs=5e-4)


def test_a_kappa_is_not_defined_where_nothing_differs_or_nothing_is_there() -> None:
    assert cohen(["real"] * 4, ["real"] * 4).share == 1
    assert math.isnan(cohen(["real"] * 4, ["real"] * 4).kappa)
    assert math.isnan(fleiss([["real"] * 3] * 4).kappa)
    assert cohen([], []).cases == fleiss([]).cases == 0


def coverage(draws: int) -> tuple[float, float, float]:
    """How often 95 % intervals hold the truth where three readers always agree on a patient.

    Returns:
        Of strengths by the model's own errors; by the larger ones; of a share of 0.3.
    """
    random, truth = np.random.default_rng(1), np.log([1.0, 2.0, 0.5])
    held = np.zeros(3)
    for _ in range(draws):
        clusters = [three_alike(random, truth) for _ in range(30)]
        fitted = fit(np.sum(clusters, axis=0))
        away = np.abs(np.array(fitted.logs) - truth)[1:]
        own, alike = np.array(fitted.errors)[1:], np.array(clustered_errors(fitted, clusters))[1:]
        held[0] += (away < 1.96 * own).mean()
        held[1] += (away < 1.96 * np.maximum(own, alike)).mean()
        share = proportion({n: (3 * int(random.random() < 0.3), 3) for n in range(30)})
        held[2] += share.low < 0.3 < share.high
    return tuple((held / draws).tolist())


def three_alike(random: np.random.Generator, truth: np.ndarray) -> np.ndarray:
    """A patient's wins when three readers give one answer to each pair."""
    chances = 1 / (1 + np.exp(truth[None, :] - truth[:, None]))
    won = np.triu(random.random((3, 3)) < chances, 1)
    return 3.0 * (won + np.triu(~won, 1).T)


def test_intervals_hold_the_truth_also_where_readers_are_alike() -> None:
    own, larger, share = coverage(150)
    assert own < 0.85
    assert larger > 0.9
    assert share > 0.9
