"""What a run says of its metrics: names for readers, units and which way is better."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        name: as in the column ``metric``.
        label: as shown.
        unit: as shown after numbers, or "".
        higher_is_better: None where ``run.json`` does not describe the metric: it is shown and
            never ranked.
        decimals: digits after the point, or None to choose by magnitude.
        range: smallest and largest possible value, each None where there is none; None where the
            run does not say it.
    """

    name: str
    label: str
    unit: str = ""
    higher_is_better: bool | None = None
    decimals: int | None = None
    range: tuple[float | None, float | None] | None = None

    @property
    def direction(self) -> str:
        """Words for the table caption."""
        if self.higher_is_better is None:
            return "run.json does not describe this metric, so no arm is marked"
        return "higher is better" if self.higher_is_better else "lower is better"

    @property
    def range_in_words(self) -> str:
        """``0 to 1``, ``0 or more``, or "" where the run does not say it."""
        low, high = self.range or (None, None)
        if low is None or high is None:
            return "" if low is None else f"{low:g} or more"
        return f"{low:g} to {high:g}"


KNOWN = (
    Metric("psnr", "PSNR", "dB", True, 2, (0.0, None)),
    Metric("ssim", "SSIM", "", True, 3, (-1.0, 1.0)),
    Metric("mae", "MAE", "", False, None, (0.0, 1.0)),
    Metric("nrmse", "NRMSE", "", False, None, (0.0, None)),
    Metric("lesion_mae", "MAE inside the lesion", "", False, None, (0.0, 1.0)),
    Metric("ms_ssim", "MS-SSIM", "", True, 3),
    Metric("vif", "VIF", "", True, 3),
    Metric("lpips", "LPIPS", "", False, 3),
    Metric("mse", "MSE", "", False, None, (0.0, 1.0)),
    Metric("rmse", "RMSE", "", False),
)
"""For runs of release 0.1.0 only, whose ``run.json`` describes no metric.

A newer run describes its own: a metric that is added needs no line here.
"""
