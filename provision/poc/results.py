"""The metrics of a downloaded result, as a table."""

from __future__ import annotations

from pathlib import Path

from fedi2i.errors import DataError
from fedi2i.metric_files import FILE_NAME, read_metrics
from fedi2i.site_names import ALL_SITES

_SHOWN = ("val/psnr", "val/ssim")


def metrics_table(run_folder: Path) -> str:
    """A row per round of the global model, a column per site: PSNR in dB, then SSIM.

    Raises:
        DataError: the result holds no metrics.
    """
    values = metric_values(run_folder)
    rounds = sorted({number for _, number, metric in values if metric in _SHOWN})
    sites = sorted({site for site, _, metric in values if metric in _SHOWN and site != ALL_SITES})
    lines = ["global model after   " + "".join(f"{name:>16}" for name in [*sites, "mean"])]
    for number in rounds:
        cells = [_cell(values, site, number) for site in [*sites, ALL_SITES]]
        lines.append(f"{number} round(s)".ljust(21) + "".join(f"{cell:>16}" for cell in cells))
    return "\n".join(lines)


def metric_values(run_folder: Path) -> dict[tuple[str, int, str], float]:
    """The server's record: (site, round, metric) to value.

    Raises:
        DataError: the result holds no metrics.
    """
    path = run_folder / FILE_NAME
    if not path.is_file():
        raise DataError(f"{path}: missing; the job ended before its first validation")
    rows = read_metrics(path)
    return {(site, number, metric): value for site, number, metric, value in rows}


def _cell(values: dict[tuple[str, int, str], float], site: str, number: int) -> str:
    psnr, ssim = (values.get((site, number, metric)) for metric in _SHOWN)
    return "-" if psnr is None or ssim is None else f"{psnr:.2f} / {ssim:.3f}"
