"""The cross-site matrix: mean PSNR of every trained model at every test site."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from report.numbers.rows import TableRow
from report.numbers.statistics import usual_floor
from report.run.records import Arm, Run, Site


@dataclass(frozen=True)
class CrossSiteMatrix:
    """Mean PSNR per trained model and test site.

    Attributes:
        rows: the table rows the models belong to, in their order.
        arms: the lines of the matrix: every model of every row.
        sites: the columns.
        values: dB, shape (arms, sites); NaN where the arm was not evaluated or has diverged.
        diverged: shape (arms, sites); True where a PSNR is no number.
        counts: test patients per site.
    """

    rows: tuple[TableRow, ...]
    arms: tuple[Arm, ...]
    sites: tuple[Site, ...]
    values: npt.NDArray[np.float64]
    diverged: npt.NDArray[np.bool_]
    counts: tuple[int, ...]

    def is_own(self, line: int, column: int) -> bool:
        """True where a model that belongs to a site meets patients of that site."""
        return self.arms[line].site == self.sites[column].name

    @property
    def scale(self) -> tuple[float, float]:
        """Values of the lightest and the darkest shade: the smallest and largest finite mean.

        Means far below the others do not set the scale (``usual_floor``), or one failed arm would
        make all others look alike.
        """
        finite = self.values[np.isfinite(self.values)]
        if finite.size == 0:
            return 0.0, 0.0
        usual = finite[finite >= usual_floor(finite)]
        return float(usual.min()), float(usual.max())

    @property
    def off_scale(self) -> int:
        """Number of finite means below the scale."""
        return int((np.isfinite(self.values) & (self.values < self.scale[0])).sum())

    def shade(self, line: int, column: int) -> float | None:
        """Position of a value on the scale, 0 to 1; None without a value."""
        value = float(self.values[line, column])
        if np.isnan(value) or not np.isfinite(self.values).any():
            return None
        low, high = self.scale
        if high == low:
            return 0.5 if value == low else float(value > low)
        return float(np.clip((value - low) / (high - low), 0.0, 1.0))


def cross_site_matrix(run: Run, rows: Sequence[TableRow]) -> CrossSiteMatrix:
    """Average the PSNR of test patients for every trained model."""
    test = run.test_rows
    psnr = test[test["metric"] == "psnr"]
    means = psnr.groupby(["arm", "site"])["value"].mean(skipna=False)
    present = set(psnr["site"])
    trained = tuple(row for row in rows if row.is_trained)
    arms = tuple(arm for row in trained for arm in row.arms)
    sites = tuple(site for site in run.about.sites if site.name in present)
    keys = [(arm.name, site.name) for arm in arms for site in sites]
    shape = (len(arms), len(sites))
    values = np.array([means.get(key, np.nan) for key in keys], dtype=float)
    evaluated = np.array([key in means.index for key in keys])
    return CrossSiteMatrix(
        rows=trained,
        arms=arms,
        sites=sites,
        values=values.reshape(shape),
        diverged=(evaluated & np.isnan(values)).reshape(shape),
        counts=tuple(int(psnr[psnr["site"] == s.name]["subject"].nunique()) for s in sites),
    )
