"""``metrics.csv``: what every arm of a run writes, one row per site, round and metric."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

from fedi2i.errors import DataError
from fedi2i.files import write_csv

FILE_NAME = "metrics.csv"
COLUMNS = ("site", "round", "metric", "value")

TRAFFIC = "traffic/"
SENT, RECEIVED = f"{TRAFFIC}bytes_sent", f"{TRAFFIC}bytes_received"
"""Bytes of arrays to and from a site in a round, as the server counts them."""

SAMPLES = "data/samples"
"""Training slices that a site states in a round: its weight in a mean weighed by samples."""

SOURCE_LEVELS = tuple(round(0.05 + 0.1 * n, 2) for n in range(10))
"""The parts of a training patient's pixels that lie below the percentiles in ``SOURCE``."""
SOURCE = tuple(f"source/p{round(100 * level):02d}" for level in SOURCE_LEVELS)
"""Percentiles of the prepared source scans, each a mean over a site's training patients."""
SOURCE_SPREAD = "source/spread"
"""The mean distance of a site's training patients from these percentiles, on the same scale."""

MetricRow = tuple[str, int, str, float]
"""Site (or ``all``, ``server``), round, metric, value."""


def write_metrics(path: Path, rows: Iterable[MetricRow]) -> None:
    """Write the rows atomically."""
    write_csv(path, COLUMNS, rows)


def read_metrics(path: Path) -> list[MetricRow]:
    """The rows of a metrics file, in file order.

    Raises:
        DataError: the file is missing or is not such a table.
    """
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            rows = csv.reader(stream)
            if tuple(next(rows, ())) != COLUMNS:
                raise ValueError(f"its first line is not {','.join(COLUMNS)}")
            return [(site, int(number), name, float(text)) for site, number, name, text in rows]
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: no metrics of an arm ({error}); run the arm again") from error
