"""Friedman's test and Nemenyi's critical difference against published values and hand counts."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from report.numbers.ranks import critical_difference, rank_test
from report.numbers.rows import Population, TableRow
from report.numbers.statistics import distinct_rows
from report.run.metrics import KNOWN

POPULATION = Population("All", ("a",), unseen=False, headline=True)
PSNR, MAE = (next(m for m in KNOWN if m.name == name) for name in ("psnr", "mae"))
# Demsar, JMLR 7 (2006), table 6: classifiers on 14 data sets (AUC), one row each.
DEMSAR = [
    (0.763, 0.768, 0.771, 0.798),
    (0.599, 0.591, 0.590, 0.569),
    (0.954, 0.971, 0.968, 0.967),
    (0.628, 0.661, 0.654, 0.657),
    (0.882, 0.888, 0.886, 0.898),
    (0.936, 0.931, 0.916, 0.931),
    (0.661, 0.668, 0.609, 0.685),
    (0.583, 0.583, 0.563, 0.625),
    (0.775, 0.838, 0.866, 0.875),
    (1.000, 1.000, 1.000, 1.000),
    (0.940, 0.962, 0.965, 0.962),
    (0.619, 0.666, 0.614, 0.669),
    (0.972, 0.981, 0.9751, 0.975),
    (0.957, 0.978, 0.946, 0.970),
]


def rows(*names: str) -> tuple[TableRow, ...]:
    return tuple(TableRow(name, name.upper(), "federated", ()) for name in names)


def long_table(values: dict[str, list[float]], metric: str = "psnr") -> pd.DataFrame:
    rows = [
        (name, "a", f"p{number}", metric, value)
        for name, column in values.items()
        for number, value in enumerate(column)
    ]
    return pd.DataFrame(rows, columns=["row", "site", "subject", "metric", "value"])


@pytest.mark.parametrize(
    ("count", "q"),
    [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (6, 2.850), (7, 2.949), (10, 3.164)],
)
def test_the_critical_difference_has_the_published_q(count: int, q: float) -> None:
    # Demsar, JMLR 7 (2006), table 5a, two-tailed at 0.05
    expected = q * np.sqrt(count * (count + 1) / (6 * 14))
    assert critical_difference(count, 14) == pytest.approx(expected, abs=1e-3)


def test_mean_ranks_are_those_of_the_published_example() -> None:
    values = {f"m{n}": [row[n] for row in DEMSAR] for n in range(4)}
    found = rank_test(long_table(values), POPULATION, PSNR, rows(*values))
    assert found is not None
    assert list(found.mean_ranks.values()) == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=5e-4)
    # the article's CD for k = 4, N = 14
    assert found.critical_difference == pytest.approx(1.25, abs=5e-3)
    statistic, p = stats.friedmanchisquare(*values.values())
    assert (found.statistic, found.p) == (pytest.approx(statistic), pytest.approx(p))
    assert [found.with_the_best(m) for m in found.mean_ranks] == [True, True, True, True]


def test_rank_1_is_the_best_whichever_way_the_metric_goes() -> None:
    values = {"x": [1.0, 2.0], "y": [3.0, 4.0], "z": [5.0, 9.0]}
    up = rank_test(long_table(values), POPULATION, PSNR, rows(*values))
    down = rank_test(long_table(values, "mae"), POPULATION, MAE, rows(*values))
    assert up is not None and down is not None
    assert [*up.mean_ranks.values()] == [3.0, 2.0, 1.0]
    assert [*down.mean_ranks.values()] == [1.0, 2.0, 3.0]


def test_an_infinite_value_is_the_best_and_a_patient_without_all_values_is_left_out() -> None:
    values = {"x": [1.0, 2.0, 3.0], "y": [np.inf, 1.0, 2.0], "z": [0.0, 0.0, np.nan]}
    found = rank_test(long_table(values), POPULATION, PSNR, rows(*values))
    assert found is not None
    assert found.n == 2
    assert [*found.mean_ranks.values()] == [1.5, 1.5, 3.0]


def test_two_methods_one_patient_or_equal_values_are_no_ranking() -> None:
    two = {"x": [1.0, 2.0], "y": [3.0, 4.0]}
    one_patient = {"x": [1.0], "y": [3.0], "z": [2.0]}
    equal = {"x": [1.0, 2.0], "y": [1.0, 2.0], "z": [1.0, 2.0]}
    for values in (two, one_patient, equal):
        assert rank_test(long_table(values), POPULATION, PSNR, rows(*values)) is None


def test_a_strategy_that_came_out_like_another_takes_no_place_of_its_own() -> None:
    values = {"x": [1.0, 2.0], "y": [3.0, np.nan], "z": [1.0, 2.0], "w": [3.0, np.nan]}
    x, y, z, w = rows(*values)
    assert distinct_rows(long_table(values), (x, y, z, w)) == {x: (z,), y: (w,)}
