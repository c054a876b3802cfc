"""The metrics of a downloaded result, as a table."""

from __future__ import annotations

import csv
from pathlib import Path

from partitions.errors import DataError

_SHOWN = ("val/psnr", "val/ssim")
_ALL = "all"
"""The server's rows for the mean over sites."""


def metrics_table(run_folder: Path) -> str:
    """A row per round of the global model, a column per site: PSNR in dB, then SSIM.

    Raises:
        DataError: the result holds no metrics.
    """
    values = read_metrics(run_folder)
    rounds = sorted({number for _, number, metric in values if metric in _SHOWN})
    sites = sorted({site for site, _, metric in values if metric in _SHOWN and site != _ALL})
    lines = ["global model after   " + "".join(f"{name:>16}" for name in [*sites, "mean"])]
    for number in rounds:
        cells = [_cell(values, site, number) for site in [*sites, _ALL]]
        lines.append(f"{number} round(s)".ljust(21) + "".join(f"{cell:>16}" for cell in cells))
    return "\n".join(lines)


def read_metrics(run_folder: Path) -> dict[tuple[str, int, str], float]:
    """The server's record: (site, round, metric) to value.

    Raises:
        DataError: the result holds no metrics.
    """
    path = run_folder / "metrics.csv"
    if not path.is_file():
        raise DataError(f"{path}: missing; the job ended before its first validation")
    with path.open(newline="", encoding="utf-8") as stream:
        return {
            (row["site"], int(row["round"]), row["metric"]): float(row["value"])
            for row in csv.DictReader(stream)
        }


def _cell(values: dict[tuple[str, int, str], float], site: str, number: int) -> str:
    psnr, ssim = (values.get((site, number, metric)) for metric in _SHOWN)
    return "-" if psnr is None or ssim is None else f"{psnr:.2f} / {ssim:.3f}"
