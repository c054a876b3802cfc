"""What may leave a site as federated statistics: the site's own word for it, and the gate.

Which numbers leave is decided where they are computed (``app_custom.statistics``). The gate looks
at the finished answer, as the other gates do, and knows nothing of how it came about.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from nvflare.apis.shareable import ReservedHeaderKey
from nvflare.app_common.abstract.statistics_spec import (
    Bin,
    DataType,
    Feature,
    Histogram,
    HistogramType,
)
from nvflare.app_common.app_constant import StatisticsConstants as Names
from nvflare.app_common.statistics.statisitcs_objects_decomposer import fobs_registration
from nvflare.fuel.utils import fobs

from app_custom.gates.job_limits import JobRefusedError, Rule
from fedi2i.typed_config import number, switch
from partitions.heterogeneity.federated import FEATURES, GROUP
from partitions.manifest import AGE

MOST_BINS = 16
"""Of a histogram of intensities."""

LEAST_PATIENTS = 2
"""The fewest that a site's ``least_patients`` may ask for: of one patient no number is a mean."""

_TASKS = (Names.STATS_1st_STATISTICS, Names.STATS_2nd_STATISTICS)
_NUMBERS = frozenset(
    {
        Names.STATS_COUNT,
        Names.STATS_FAILURE_COUNT,
        Names.STATS_SUM,
        Names.STATS_MEAN,
        Names.STATS_VAR,
        Names.STATS_STDDEV,
    }
)
_RANGE = frozenset({Names.STATS_MIN, Names.STATS_MAX})
"""NVFlare sends back the range that the job gave for histograms under these names."""


@dataclass(frozen=True)
class SharedStatistics:
    """Whether a site answers jobs of statistics, and describes its source scans after a training.

    Attributes:
        share: numbers of patients, means and standard deviations of ages and mean intensities, and
            histograms of intensities go to the server under the site's name; percentiles of the
            training's source scans go with the validation of a final model.
        least_patients: fewest patients of whom any number is given.
    """

    share: bool = switch(False)
    least_patients: int = number(10, low=LEAST_PATIENTS)


def check_statistics(own: SharedStatistics, under_noise: bool = False) -> None:
    """Refuse a job of statistics where the site's own file does not allow any.

    Args:
        own: what the file says.
        under_noise: whether the site's policy spends a privacy budget on what leaves.

    Raises:
        JobRefusedError: it does not.
    """
    if not own.share:
        raise JobRefusedError(
            Rule.STATISTICS, "the job asks for statistics, and 'statistics.share' is false here"
        )
    if under_noise:
        raise JobRefusedError(
            Rule.STATISTICS,
            "the job asks for statistics, which the noise of this site's policy does not cover",
        )


def statistics_fault(data: Mapping[str, Any]) -> str:
    """Say what in an answer of statistics may not leave; empty if all may.

    Args:
        data: what NVFlare's executor of statistics put together.
    """
    task = data.get(Names.STATISTICS_TASK_KEY)
    if task not in _TASKS:
        return "it belongs to no task of statistics"
    listed = {Names.STATISTICS_TASK_KEY, Names.STATS_FEATURES, task}
    # NVFlare puts a whole message into the data, with headers of its own, which are empty here.
    if data.get(ReservedHeaderKey.HEADERS) == {}:
        listed.add(ReservedHeaderKey.HEADERS)
    unlisted = sorted(map(str, data.keys() - listed))
    if unlisted:
        return f"part '{unlisted[0]}' is not on the list of what may leave"
    fobs_registration()
    try:
        named = fobs.loads(data[Names.STATS_FEATURES]) if Names.STATS_FEATURES in data else {}
        found = fobs.loads(data[task])
        return _features_fault(named) or _numbers_fault(found)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        return f"it cannot be read ({type(error).__name__})"


def _features_fault(named: Any) -> str:
    expected = [Feature(name, DataType.FLOAT) for name in FEATURES]
    return "" if named in ({}, {GROUP: expected}) else "it names other features"


def _numbers_fault(found: Mapping[str, Any]) -> str:
    for statistic, groups in found.items():
        if groups.keys() - {GROUP}:
            return f"'{statistic}' is of other data than patients"
        for feature, value in groups.get(GROUP, {}).items():
            if feature not in FEATURES:
                return f"'{statistic}' of '{feature}' is not on the list of what may leave"
            if not _may_leave(statistic, feature, value):
                return f"'{statistic}' of '{feature}' is not of the kind that may leave"
    return _uncounted_fault(found)


def _uncounted_fault(found: Mapping[str, Any]) -> str:
    """Say which number is of a feature that the same answer counts no patient of."""
    counts = found.get(Names.STATS_COUNT, {}).get(GROUP, {})
    empty = {feature for feature, count in counts.items() if count == 0}
    for statistic, groups in found.items():
        for feature, value in groups.get(GROUP, {}).items():
            if feature in empty and statistic not in _RANGE and not _is_nothing(value):
                return f"'{statistic}' of '{feature}' is given, and no patient is counted"
    return ""


def _is_nothing(value: Any) -> bool:
    return not value.bins if isinstance(value, Histogram) else value in (None, 0)


def _may_leave(statistic: str, feature: str, value: Any) -> bool:
    if statistic == Names.STATS_HISTOGRAM:
        most = 0 if feature == AGE else MOST_BINS  # a bin of ages may hold a single patient
        return isinstance(value, Histogram) and _is_coarse(value, most)
    if statistic in _RANGE:
        return value in (0, 1)
    if statistic == Names.STATS_COUNT:
        whole = isinstance(value, Integral) and not isinstance(value, bool)
        return whole and (value == 0 or value >= LEAST_PATIENTS)
    return statistic in _NUMBERS and (value is None or _is_number(value))


def _is_coarse(histogram: Histogram, most: int) -> bool:
    return (
        isinstance(histogram.hist_type, HistogramType)
        and histogram.hist_name is None
        and len(histogram.bins) <= most
        and all(isinstance(found, Bin) for found in histogram.bins)
        and all(_is_number(value) for found in histogram.bins for value in found)
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
