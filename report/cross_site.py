"""The cross-site matrix: mean PSNR of every trained model at every test site."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from report.records import LOCAL_PREFIX, SOURCE, Arm, Run, Site


@dataclass(frozen=True)
class CrossSiteMatrix:
    """Mean PSNR per trained arm and test site.

    Attributes:
        arms: the rows.
        sites: the columns.
        values: dB, shape (arms, sites); NaN where the arm was not evaluated.
        counts: test patients per site.
    """

    arms: tuple[Arm, ...]
    sites: tuple[Site, ...]
    values: npt.NDArray[np.float64]
    counts: tuple[int, ...]

    def is_own(self, row: int, column: int) -> bool:
        """True where a local model meets patients of its own site."""
        return self.arms[row].name == f"{LOCAL_PREFIX}{self.sites[column].name}"

    def shade(self, row: int, column: int) -> float | None:
        """Position of a value between the smallest (0) and largest (1) finite one of the matrix."""
        value = float(self.values[row, column])
        finite = self.values[np.isfinite(self.values)]
        if np.isnan(value) or finite.size == 0:
            return None
        low, high = float(finite.min()), float(finite.max())
        return 0.5 if high == low else float(np.clip((value - low) / (high - low), 0.0, 1.0))


def cross_site_matrix(run: Run) -> CrossSiteMatrix:
    """Average the PSNR of test patients for every arm but the source."""
    test = run.test_rows
    psnr = test[test["metric"] == "psnr"]
    present = set(psnr["site"])
    arms = tuple(arm for arm in run.about.arms if arm.name != SOURCE)
    sites = tuple(site for site in run.about.sites if site.name in present)
    values = np.full((len(arms), len(sites)), np.nan)
    for row, arm in enumerate(arms):
        for column, site in enumerate(sites):
            chosen = psnr[(psnr["arm"] == arm.name) & (psnr["site"] == site.name)]["value"]
            if len(chosen):
                values[row, column] = chosen.to_numpy(dtype=float).mean()
    counts = tuple(int(psnr[psnr["site"] == site.name]["subject"].nunique()) for site in sites)
    return CrossSiteMatrix(arms, sites, values, counts)
