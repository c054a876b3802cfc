"""The cross-site matrix: mean PSNR of every trained model at every test site."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from report.methods import Method
from report.records import SOURCE, Arm, Run, Site

FAR_OUT_QUARTILE_RANGES = 3.0


@dataclass(frozen=True)
class CrossSiteMatrix:
    """Mean PSNR per trained model and test site.

    Attributes:
        methods: the methods the rows belong to, in their order.
        arms: the rows: every model of every method.
        sites: the columns.
        values: dB, shape (arms, sites); NaN where the arm was not evaluated.
        counts: test patients per site.
    """

    methods: tuple[Method, ...]
    arms: tuple[Arm, ...]
    sites: tuple[Site, ...]
    values: npt.NDArray[np.float64]
    counts: tuple[int, ...]

    def is_own(self, row: int, column: int) -> bool:
        """True where a model that belongs to a site meets patients of that site."""
        return self.arms[row].site == self.sites[column].name

    @property
    def scale(self) -> tuple[float, float]:
        """Values of the lightest and the darkest shade: the smallest and largest finite mean.

        Means far below the others, under the first quartile by more than three quartile ranges
        (Tukey 1977), do not set the scale, or one failed arm would make all others look alike.
        """
        finite = self.values[np.isfinite(self.values)]
        if finite.size == 0:
            return 0.0, 0.0
        lower, upper = np.quantile(finite, [0.25, 0.75])
        usual = finite[finite >= lower - FAR_OUT_QUARTILE_RANGES * (upper - lower)]
        return float(usual.min()), float(usual.max())

    @property
    def off_scale(self) -> int:
        """Number of finite means below the scale."""
        return int((np.isfinite(self.values) & (self.values < self.scale[0])).sum())

    def shade(self, row: int, column: int) -> float | None:
        """Position of a value on the scale, 0 to 1; None without a value."""
        value = float(self.values[row, column])
        if np.isnan(value) or not np.isfinite(self.values).any():
            return None
        low, high = self.scale
        if high == low:
            return 0.5 if value == low else float(value > low)
        return float(np.clip((value - low) / (high - low), 0.0, 1.0))


def cross_site_matrix(run: Run, methods: Sequence[Method]) -> CrossSiteMatrix:
    """Average the PSNR of test patients for every model but the source."""
    test = run.test_rows
    psnr = test[test["metric"] == "psnr"]
    means = psnr.groupby(["arm", "site"])["value"].mean()
    present = set(psnr["site"])
    trained = tuple(method for method in methods if method.kind != SOURCE)
    arms = tuple(arm for method in trained for arm in method.arms)
    sites = tuple(site for site in run.about.sites if site.name in present)
    values = [[means.get((arm.name, site.name), np.nan) for site in sites] for arm in arms]
    counts = tuple(int(psnr[psnr["site"] == site.name]["subject"].nunique()) for site in sites)
    shape = (len(arms), len(sites))
    return CrossSiteMatrix(
        trained, arms, sites, np.array(values, dtype=float).reshape(shape), counts
    )
