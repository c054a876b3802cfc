"""The test of a study: two arms over several training runs and several patients.

A run of the same method with another seed moves all patients together, so that a test over the
patients of one run tells two runs apart and not two methods. Here seeds and patients are both
drawn: differences are a table of seeds by patients, every patient has been measured in every run,
and both arms of a seed share first weights and the order of slices. It is the analysis of "random
readers, random cases" of reader studies, with runs in the place of readers (Dorfman, Berbaum and
Metz 1992, doi:10.1097/00004424-199209000-00015; Hillis 2007, doi:10.1002/sim.2532), and with
Satterthwaite's degrees of freedom.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from report.numbers.statistics import CONFIDENCE

FEWEST_SEEDS = 3
FEWEST_PATIENTS = 2

Table = npt.NDArray[np.float64]


class NotTestableError(ValueError):
    """There is no test for this table; holds the reason, as the end of a sentence."""


@dataclass(frozen=True)
class CrossedT:
    """What the test says of one table of differences, arm A minus arm B.

    Attributes:
        seeds: number of training runs of each arm.
        patients: number of patients, the same in every run.
        mean: over runs and patients, in the metric's unit.
        standard_error: of that mean, for new runs and new patients of the same kind.
        degrees: of freedom, of Student's t.
        p: two-sided, of no difference.
        interval: 95 % interval of the mean.
        margin: differences smaller than this are of no interest; positive.
        p_equivalent: the larger of two one-sided p-values, of a difference of ``margin`` or more.
        run_spread: standard deviation between runs that all patients share.
        patient_spread: standard deviation between patients that all runs share.
        residual_spread: standard deviation of what is left.
    """

    seeds: int
    patients: int
    mean: float
    standard_error: float
    degrees: float
    p: float
    interval: tuple[float, float]
    margin: float
    p_equivalent: float
    run_spread: float
    patient_spread: float
    residual_spread: float


@dataclass(frozen=True)
class _MeanSquares:
    """Of runs, of patients and of the residual, as an analysis of variance has them."""

    runs: float
    patients: float
    residual: float

    @property
    def total(self) -> float:
        """The variance of the mean times the number of differences; no part of it below 0."""
        return max(self.runs + self.patients - self.residual, self.runs, self.patients)


def crossed_t(differences: Table, margin: float) -> CrossedT:
    """Test whether two arms differ, and whether they are equivalent.

    Args:
        differences: seeds x patients, arm A minus arm B.
        margin: of equivalence, in the metric's unit, stated before the study; positive.

    Raises:
        NotTestableError: fewer than three seeds or two patients, a value that is no finite number,
            or differences without any spread.
        ValueError: the margin is not positive.
    """
    if not margin > 0:
        raise ValueError(f"the margin of equivalence is {margin:g}; it must be positive")
    seeds, patients = differences.shape
    _refuse(differences, seeds, patients)
    mean = float(differences.mean())
    squares = _mean_squares(differences)
    if not squares.total > 0:
        raise NotTestableError(
            "neither runs nor patients differ in their means, so that nothing tells how the "
            "difference would vary"
        )
    error = float(np.sqrt(squares.total / differences.size))
    degrees = squares.total**2 / (
        squares.runs**2 / (seeds - 1) + squares.patients**2 / (patients - 1)
    )
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, degrees)) * error
    above = stats.t.sf((mean + margin) / error, degrees)
    below = stats.t.cdf((mean - margin) / error, degrees)
    return CrossedT(
        seeds=seeds,
        patients=patients,
        mean=mean,
        standard_error=error,
        degrees=degrees,
        p=float(2 * stats.t.sf(abs(mean) / error, degrees)),
        interval=(mean - reach, mean + reach),
        margin=margin,
        p_equivalent=float(max(above, below)),
        run_spread=_spread((squares.runs - squares.residual) / patients),
        patient_spread=_spread((squares.patients - squares.residual) / seeds),
        residual_spread=_spread(squares.residual),
    )


def _refuse(differences: Table, seeds: int, patients: int) -> None:
    if seeds < FEWEST_SEEDS or patients < FEWEST_PATIENTS:
        raise NotTestableError(
            f"{seeds} seed(s) and {patients} patient(s), the test needs {FEWEST_SEEDS} seeds and "
            f"{FEWEST_PATIENTS} patients"
        )
    if not np.isfinite(differences).all():
        raise NotTestableError("a value is missing, infinite or of a diverged run")
    if np.ptp(differences) == 0:
        constant = differences.flat[0] != 0
        same = "the difference is constant" if constant else "the arms are identical"
        raise NotTestableError(f"{same}, so that nothing tells how it would vary")


def _mean_squares(differences: Table) -> _MeanSquares:
    seeds, patients = differences.shape
    of_runs = differences.mean(axis=1, keepdims=True) - differences.mean()
    of_patients = differences.mean(axis=0, keepdims=True) - differences.mean()
    left = differences - differences.mean() - of_runs - of_patients
    return _MeanSquares(
        runs=patients * float(np.square(of_runs).sum()) / (seeds - 1),
        patients=seeds * float(np.square(of_patients).sum()) / (patients - 1),
        residual=float(np.square(left).sum()) / ((seeds - 1) * (patients - 1)),
    )


def _spread(variance: float) -> float:
    """A standard deviation; a component estimated below 0 is 0."""
    return float(np.sqrt(max(variance, 0.0)))
