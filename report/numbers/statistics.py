"""Quantiles, and tests per patient: comparisons with one reference.

Paired: Wilcoxon's signed-rank test, Holm's correction, a bootstrap interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from report.numbers.rows import Population, TableRow
from report.run.metrics import Metric

ALPHA = 0.05
CONFIDENCE = 0.95
RESAMPLES = 10_000
FAR_OUT_QUARTILE_RANGES = 3.0

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """The reference row against one other on the same patients.

    Attributes:
        other: the row compared with.
        n: number of patients with both values.
        better: patients for whom the reference has the better value, or None if unknown.
        median_difference: median over patients of reference minus other.
        interval: 95 % bootstrap interval of that median, or None when it cannot be computed.
        p: two-sided Wilcoxon signed-rank p-value.
        p_holm: the same, corrected for the comparisons of its family.
    """

    other: TableRow
    n: int
    better: int | None
    median_difference: float
    interval: tuple[float, float] | None
    p: float
    p_holm: float

    @property
    def significant(self) -> bool:
        """True when the corrected p-value is below 0.05."""
        return self.p_holm < ALPHA


@dataclass(frozen=True)
class PairedTests:
    """All comparisons of one metric on one population; Holm corrects within it."""

    population: Population
    metric: Metric
    reference: TableRow
    comparisons: tuple[Comparison, ...]

    @property
    def n(self) -> int:
        """Largest number of patients of a comparison."""
        return max((comparison.n for comparison in self.comparisons), default=0)

    @property
    def smallest_p_holm(self) -> float:
        """The smallest corrected p-value this many patients and comparisons can give."""
        return smallest_p_holm(self.n, len(self.comparisons))


def smallest_p_holm(n: int, comparisons: int) -> float:
    """Lower bound of a Holm-corrected exact two-sided signed-rank p-value.

    All ``n`` differences of one sign have probability 2 / 2^n under the null hypothesis; Holm
    multiplies the smallest p-value by the number of comparisons.
    """
    return min(1.0, comparisons * 2.0 ** (1 - n))


def compare(
    patients: pd.DataFrame,
    population: Population,
    metric: Metric,
    reference: TableRow,
    others: Sequence[TableRow],
    seed: int,
) -> PairedTests:
    """Test the reference row against each other one, patient by patient.

    Args:
        patients: columns row, site, subject, metric, value.
        population: whose patients.
        metric: of which metric.
        reference: the row tested.
        others: the rows it is tested against; those without patients in common are left out.
        seed: of the bootstrap; every comparison draws the same resamples.
    """
    values = population.values_in(patients[patients["metric"] == metric.name])
    found = _differences_from(reference, others, values_per_row(values))
    p_values = [wilcoxon_p(differences) for _, differences in found]
    corrected = holm(p_values)
    return PairedTests(
        population,
        metric,
        reference,
        tuple(
            Comparison(
                other=other,
                n=len(differences),
                better=_count_better(differences, metric),
                median_difference=float(np.median(differences)),
                interval=bootstrap_interval(differences, seed),
                p=p,
                p_holm=p_holm,
            )
            for (other, differences), p, p_holm in zip(found, p_values, corrected, strict=True)
        ),
    )


def _differences_from(
    reference: TableRow, others: Sequence[TableRow], table: pd.DataFrame
) -> list[tuple[TableRow, Values]]:
    """Reference minus other, for every other row that shares patients with the reference."""
    found = []
    for other in others:
        if {reference.name, other.name} <= set(table.columns):
            pairs = table[[reference.name, other.name]].dropna()
            first, second = pairs.to_numpy(dtype=float).T
            if len(first):
                found.append((other, paired_differences(first, second)))
    return found


def paired_differences(first: Values, second: Values) -> Values:
    """``first - second``; two infinite values of one sign differ by 0."""
    with np.errstate(invalid="ignore"):
        differences = first - second
    return np.where(first == second, 0.0, differences)


def wilcoxon_p(differences: Values) -> float:
    """Two-sided Wilcoxon signed-rank p-value; 1 when every difference is zero.

    Zero differences are dropped (Wilcoxon 1945, doi:10.2307/3001968). SciPy chooses the exact null
    distribution where it applies (up to 50 pairs without ties) and says so in its documentation.
    """
    nonzero = differences[differences != 0]
    if len(nonzero) == 0:
        return 1.0
    # infinite differences have the largest rank; any number above the others gives that rank
    finite = np.abs(nonzero[np.isfinite(nonzero)])
    beyond = 1.0 + (float(finite.max()) if finite.size else 0.0)
    return float(stats.wilcoxon(np.clip(nonzero, -beyond, beyond)).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Step-down correction of Holm (1979): sorted p times the number of hypotheses still open.

    Returns:
        Corrected values in the order given, non-decreasing in p and at most 1.
    """
    corrected = [0.0] * len(p_values)
    running = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = running
    return corrected


def bootstrap_interval(differences: Values, seed: int) -> tuple[float, float] | None:
    """Percentile bootstrap 95 % interval of the median (Efron and Tibshirani 1993).

    Args:
        differences: one per patient.
        seed: of the resampling of patients.

    Returns:
        The 2.5th and 97.5th percentiles of 10 000 resampled medians; None for fewer than two
        patients or infinite differences.
    """
    if len(differences) < 2 or not np.isfinite(differences).all():
        return None
    found = stats.bootstrap(
        (differences,),
        np.median,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    low, high = found.confidence_interval
    return float(low), float(high)


def _count_better(differences: Values, metric: Metric) -> int | None:
    if metric.higher_is_better is None:
        return None
    signed = differences if metric.higher_is_better else -differences
    return int((signed > 0).sum())


def distinct_rows(
    patients: pd.DataFrame, rows: Sequence[TableRow]
) -> dict[TableRow, tuple[TableRow, ...]]:
    """The rows without copies: the first of those with equal values -> the others like it.

    Strategies that came out bit for bit like another would take places in the ranking twice.
    """
    table = values_per_row(patients)
    found: dict[TableRow, tuple[TableRow, ...]] = {}
    for row in rows:
        first = next((other for other in found if table[other.name].equals(table[row.name])), None)
        if first is None:
            found[row] = ()
        else:
            found[first] = (*found[first], row)
    return found


def values_per_row(patients: pd.DataFrame) -> pd.DataFrame:
    """A line per site, patient and metric, a column per table row."""
    return patients.pivot(index=["site", "subject", "metric"], columns="row", values="value")


def quantile(values: Values, fraction: float) -> float:
    """Linear interpolation between order statistics that stays defined with infinite values."""
    ordered = np.sort(values)
    position = fraction * (len(ordered) - 1)
    below = int(np.floor(position))
    weight = position - below
    if weight == 0:
        return float(ordered[below])
    return float(ordered[below] * (1 - weight) + ordered[below + 1] * weight)


def usual_floor(values: Values, least_fraction: float = 0.0) -> float:
    """The smallest value that does not count as far below the others.

    Far below is what lies under the first quartile by more than three quartile ranges (Tukey 1977).

    Args:
        values: one or more finite values.
        least_fraction: of the median: what is far below the others also differs from the first
            quartile by more than this.
    """
    lower, middle, upper = np.quantile(values, [0.25, 0.5, 0.75])
    beyond = max(FAR_OUT_QUARTILE_RANGES * (upper - lower), least_fraction * abs(middle))
    return float(lower - beyond)
