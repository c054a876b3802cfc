"""The range of a y axis on which strategies can be told apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

FAR_OUT_QUARTILE_RANGES = 3.0
FAR_OUT_FRACTION = 0.1


def late_range(curves: Sequence[pd.Series]) -> tuple[float, float]:
    """The y axis: from the smallest to the largest value of the second half of the rounds.

    Early rounds, in which everything rises alike, would flatten what tells strategies apart. Nor do
    strategies set the range whose last value is far below the others: under the first quartile of
    last values by more than three quartile ranges (Tukey 1977) and more than 10 % of the median.

    Returns:
        Lower and upper end, with a margin of 5 %.
    """
    finite = [curve[np.isfinite(curve)] for curve in curves]
    finite = [curve for curve in finite if len(curve)]
    if not finite:
        return 0.0, 1.0
    last = np.array([float(curve.iloc[-1]) for curve in finite])
    lower, middle, upper = np.quantile(last, [0.25, 0.5, 0.75])
    beyond = max(FAR_OUT_QUARTILE_RANGES * (upper - lower), FAR_OUT_FRACTION * abs(middle))
    half = max(int(curve.index.max()) for curve in finite) / 2
    late = pd.concat(
        [
            curve[curve.index >= half]
            for curve, value in zip(finite, last, strict=True)
            if value >= lower - beyond
        ]
    )
    margin = 0.05 * (float(late.max() - late.min()) or 1.0)
    return float(late.min()) - margin, float(late.max()) + margin
