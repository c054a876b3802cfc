"""Which metrics come first; all else about a metric is what the run says of it."""

from __future__ import annotations

from collections.abc import Iterable

from report.run.metrics import Metric

PSNR = "psnr"
"""The metric that the report ranks by; every run has it."""
LEADING = (PSNR, "ssim", "ms_ssim", "mae_hu")
"""Those that stay in front where many arms make every table long."""
MAIN = (*LEADING, "mae", "rmse_hu", "nrmse", "lesion_mae")
"""Those that stay in front where there are few arms; the page folds all others."""


def metrics_in(described: Iterable[Metric], names: Iterable[str]) -> tuple[Metric, ...]:
    """The metrics present in the results.

    Args:
        described: the metrics that the run describes.
        names: of the metrics found, in any order and number.

    Returns:
        The main ones first, then the others that the run describes, then those that it does not
        describe as found, under their plain names.
    """
    known = {metric.name: metric for metric in described}
    present = dict.fromkeys(names)
    order = dict.fromkeys((*MAIN, *known, *present))
    return tuple(known.get(name, Metric(name, name)) for name in order if name in present)
