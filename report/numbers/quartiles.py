"""Quantiles of values that may be infinite, and what lies far below its fellows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FAR_OUT_QUARTILE_RANGES = 3.0

Values = npt.NDArray[np.float64]


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
