"""What may be said of an arm's test patients without a row of any of them: number, mean, spread.

Below a least number of patients nothing is said: of two, mean and standard deviation are both
values.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean, stdev

from lightning_modules.evaluation.validation import is_undefined


@dataclass(frozen=True)
class Summary:
    """A metric over some patients of one site.

    Attributes:
        patients: for whom the metric has a value; 2 or more.
        mean: in the metric's unit.
        sd: standard deviation over them (n - 1), in the metric's unit.
    """

    patients: int
    mean: float
    sd: float


def summaries(
    rows: Iterable[tuple[str, str, str, str, str, str, float]], arm: str, least: int
) -> dict[str, Summary]:
    """Number, mean and standard deviation of every metric of one arm, over its test patients.

    A patient counts for no metric that is not defined for their mask. A metric with a value that is
    no finite number, as of a model that diverged or a perfect copy, is left out as a whole.

    Args:
        rows: arm, site, split, subject, preset, metric, value, as ``results.csv`` has them.
        arm: which rows to take.
        least: fewest patients of whom a metric is told.

    Returns:
        By metric; without those of fewer patients.

    Raises:
        ValueError: ``least`` is below 2, of whom there is no standard deviation.
    """
    if least < 2:
        raise ValueError(f"at least 2 patients are needed for a standard deviation, not {least}")
    patients: dict[str, dict[str, float]] = {}
    for name, _, split, subject, _, metric, value in rows:
        if name == arm and split == "test":
            patients.setdefault(subject, {})[metric] = float(value)
    values: dict[str, list[float]] = {}
    for measured in patients.values():
        for metric, value in measured.items():
            if not is_undefined(metric, value, measured):
                values.setdefault(metric, []).append(value)
    return dict(_told(values, least))


def _told(values: Mapping[str, list[float]], least: int) -> Iterable[tuple[str, Summary]]:
    for metric, found in values.items():
        if len(found) >= least and all(map(math.isfinite, found)):
            yield metric, Summary(len(found), fmean(found), stdev(found))
