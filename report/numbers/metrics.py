"""What is known about each metric: its name for readers, its unit and which way is better."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        name: as in the column ``metric``.
        label: as shown.
        unit: as shown after numbers, or "".
        higher_is_better: None when unknown: such a metric is shown and never ranked.
        decimals: digits after the point, or None to choose by magnitude.
    """

    name: str
    label: str
    unit: str = ""
    higher_is_better: bool | None = None
    decimals: int | None = None

    @property
    def direction(self) -> str:
        """Words for the table caption."""
        if self.higher_is_better is None:
            return "direction not known, no arm is highlighted"
        return "higher is better" if self.higher_is_better else "lower is better"


KNOWN = (
    Metric("psnr", "PSNR", "dB", True, 2),
    Metric("ssim", "SSIM", "", True, 3),
    Metric("mae", "MAE", "", False),
    Metric("nrmse", "NRMSE", "", False),
    Metric("lesion_mae", "MAE inside the lesion", "", False),
    Metric("ms_ssim", "MS-SSIM", "", True, 3),
    Metric("vif", "VIF", "", True, 3),
    Metric("lpips", "LPIPS", "", False, 3),
    Metric("mse", "MSE", "", False),
    Metric("rmse", "RMSE", "", False),
)
MAIN = ("psnr", "ssim", "mae", "nrmse", "lesion_mae")
LEADING = ("psnr", "ssim")
"""Those that stay in front where many arms make every table long."""
PSNR = KNOWN[0]


def metrics_in(names: Iterable[str]) -> tuple[Metric, ...]:
    """The metrics present, known ones first in their fixed order, then unknown ones as found."""
    present = list(dict.fromkeys(names))
    known = [metric for metric in KNOWN if metric.name in present]
    listed = {metric.name for metric in KNOWN}
    return (*known, *(Metric(name, name) for name in present if name not in listed))
