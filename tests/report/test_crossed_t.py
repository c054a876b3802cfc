"""The primary test of a study, against values computed elsewhere and against its own promise."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from report.numbers.over_seeds.crossed_t import CrossedT, NotTestableError, Table, crossed_t
from report.numbers.statistics import wilcoxon_p

MARGIN = 0.2
Formula = Callable[[Table, Table], Table]

FORMULAS: dict[str, Formula] = {
    "A": lambda s, p: (
        0.3 + 0.2 * np.sin(1 + 3 * s) + 0.1 * np.cos(2 * p) + 0.15 * np.sin(5 * s * p + 1)
    ),
    "B": lambda s, p: (
        0.02 + 0.02 * np.sin(1 + 3 * s) + 0.2 * np.cos(2 * p) + 0.05 * np.sin(5 * s * p + 1)
    ),
    "C": lambda s, p: 0.1 + 0.2 * np.sin(1 + 3 * s) + 0.3 * np.sin(5 * s * p + 1),
}
"""Differences as functions of the number of the seed and of the patient, both from 0."""


def _table(name: str, seeds: int, patients: int) -> Table:
    return FORMULAS[name](
        np.arange(seeds, dtype=float)[:, None], np.arange(patients, dtype=float)[None, :]
    )


@pytest.mark.parametrize(
    ("name", "shape", "mean", "degrees", "error", "p", "interval", "p_equivalent"),
    [
        ("A", (3, 8), 0.404148, 2.125426, 0.136245, 0.090511, (-0.150133, 0.958430), 0.867160),
        ("A", (5, 8), 0.368596, 4.957099, 0.089448, 0.009336, (0.138062, 0.599130), 0.940679),
        ("B", (5, 8), 0.055566, 7.733853, 0.055095, 0.343699, (-0.072248, 0.183379), 0.015735),
        ("C", (5, 13), 0.184115, 3.997096, 0.104579, 0.153173, (-0.106326, 0.474556), 0.443314),
    ],
)
def test_it_gives_the_values_of_two_independent_computations(
    name: str,
    shape: tuple[int, int],
    mean: float,
    degrees: float,
    error: float,
    p: float,
    interval: tuple[float, float],
    p_equivalent: float,
) -> None:
    found = crossed_t(_table(name, *shape), MARGIN)
    assert (found.seeds, found.patients) == shape
    assert found.mean == pytest.approx(mean, abs=1e-6)
    assert found.degrees == pytest.approx(degrees, abs=1e-6)
    assert found.standard_error == pytest.approx(error, abs=1e-6)
    assert found.p == pytest.approx(p, abs=1e-6)
    assert found.interval == pytest.approx(interval, abs=1e-6)
    assert found.p_equivalent == pytest.approx(p_equivalent, abs=1e-6)


def test_without_spread_between_patients_it_is_the_paired_t_over_seeds() -> None:
    of_runs = np.array([0.5, -0.1, 0.3, 0.2])
    found = crossed_t(np.repeat(of_runs[:, None], 6, axis=1), MARGIN)
    expected = stats.ttest_1samp(of_runs, 0.0)
    assert found.p == pytest.approx(expected.pvalue)
    assert found.degrees == pytest.approx(3)
    assert found.run_spread == pytest.approx(of_runs.std(ddof=1))
    assert (found.patient_spread, found.residual_spread) == pytest.approx((0, 0))


def test_spreads_are_found_again_in_a_large_table() -> None:
    random = np.random.default_rng(7)
    runs, patients = random.normal(0, 0.3, (80, 1)), random.normal(0, 0.2, (1, 80))
    found = crossed_t(runs + patients + random.normal(0, 0.1, (80, 80)), MARGIN)
    assert found.run_spread == pytest.approx(0.3, rel=0.2)
    assert found.patient_spread == pytest.approx(0.2, rel=0.2)
    assert found.residual_spread == pytest.approx(0.1, rel=0.05)


def _no_difference(shape: tuple[int, int], count: int) -> Table:
    """Studies of two equal arms that share their seeds, as spreads were recorded on real runs."""
    random, (seeds, patients) = np.random.default_rng(2026), shape
    return np.stack(
        [
            0.2 * random.normal(size=(seeds, 1))
            + 0.1 * random.normal(size=(1, patients))
            + 0.15 * random.normal(size=(seeds, patients))
            for _ in range(count)
        ]
    )


@pytest.mark.parametrize(
    ("shape", "crossed", "wilcoxon"), [((3, 8), 0.047, 0.361), ((5, 8), 0.051, 0.310)]
)
def test_equal_arms_are_called_different_in_a_twentieth_of_studies_and_not_in_a_third(
    shape: tuple[int, int], crossed: float, wilcoxon: float
) -> None:
    studies = _no_difference(shape, 2000)
    rejected = np.mean([crossed_t(study, MARGIN).p < 0.05 for study in studies])
    assert rejected == pytest.approx(crossed, abs=0.015)
    over_patients = np.mean([wilcoxon_p(study.mean(axis=0)) < 0.05 for study in studies[:400]])
    assert over_patients == pytest.approx(wilcoxon, abs=0.07)


def test_equal_arms_with_the_spreads_of_recorded_runs_are_called_different_in_a_twentieth() -> None:
    """FedAvg minus FedProx on the demo cohort, same seeds: runs .165 dB, what is left .12 dB."""
    random = np.random.default_rng(2026)
    shape, patients = (2000, 5), 8
    studies = 0.165 * random.normal(size=(*shape, 1)) + 0.12 * random.normal(
        size=(*shape, patients)
    )
    rejected = np.mean([crossed_t(study, MARGIN).p < 0.05 for study in studies])
    assert 0.04 <= rejected <= 0.065
    over_patients = np.mean([wilcoxon_p(study.mean(axis=0)) < 0.05 for study in studies[:300]])
    assert over_patients > 0.30


def test_of_arms_at_the_margin_no_more_than_a_twentieth_pass_as_equivalent() -> None:
    at_the_margin = MARGIN + _no_difference((5, 8), 1000)
    passed = np.mean([crossed_t(study, MARGIN).p_equivalent < 0.05 for study in at_the_margin])
    assert passed < 0.065


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (np.ones((2, 8)), r"2 seed\(s\) and 8 patient\(s\)"),
        (np.ones((4, 1)), r"4 seed\(s\) and 1 patient\(s\)"),
        (np.full((3, 8), np.nan), "missing, infinite or of a diverged run"),
        (np.zeros((3, 8)), "the arms are identical"),
        (np.full((3, 8), 0.5), "the difference is constant"),
        (np.array([[1.0, -1], [-1, 1], [1, -1], [-1, 1]]), "neither runs nor patients differ"),
    ],
)
def test_what_cannot_be_tested_is_refused_with_its_reason(table: Table, reason: str) -> None:
    with pytest.raises(NotTestableError, match=reason):
        crossed_t(table, MARGIN)


@pytest.mark.parametrize("margin", [0.0, -1.0, float("nan")])
def test_a_margin_must_be_positive(margin: float) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        crossed_t(_table("A", 3, 8), margin)


def test_a_sign_turned_round_turns_the_interval_and_keeps_both_p_values() -> None:
    table = _table("A", 5, 8)
    one, other = crossed_t(table, MARGIN), crossed_t(-table, MARGIN)
    assert other.interval == pytest.approx((-one.interval[1], -one.interval[0]))
    assert (other.p, other.p_equivalent) == pytest.approx((one.p, one.p_equivalent))
    assert isinstance(one, CrossedT)
