"""Read a matching study: what was said before, and its table of measured values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from fedi2i.errors import DataError

RECORD_FILE = "matching.json"
RESULTS_FILE = "matching.csv"
COLUMNS = ("seed", "start", "width", "sites", "merge", "quantity", "value", "split")
CHOSEN, PLAIN = "chosen", "plain"
MEAN_SINGLE, BEST_SINGLE, ENSEMBLE = "mean-single", "best-single", "ensemble"
INDEPENDENT, SHARED = "independent", "shared"

_MERGES = {
    PLAIN: "plain mean",
    "forward": "forward pass only",
    "two-sweeps": "two sweeps",
    "converged": "to convergence",
    "joint": "joint, Frank-Wolfe",
    "coordinate": "joint, block-coordinate",
    "activations": "activations",
    CHOSEN: "chosen on validation",
    MEAN_SINGLE: "mean of single models",
    BEST_SINGLE: "best single model",
    ENSEMBLE: "ensemble of outputs",
}


@dataclass(frozen=True)
class MatchingStudy:
    """A matching study.

    Attributes:
        folder: where it was read from.
        title: heading of the page.
        created: when the study was begun.
        computed: whether all images are computed, not acquired.
        design: everything that was fixed before the first model.
        table: a line per measured value, see ``COLUMNS``.
    """

    folder: Path
    title: str
    created: str
    computed: bool
    design: Mapping[str, Any]
    table: pd.DataFrame

    @property
    def seeds(self) -> list[int]:
        """In the order of the table."""
        return [int(seed) for seed in self.table["seed"].unique()]

    @property
    def width(self) -> float:
        """The width at which starts are compared."""
        return float(self.design["width"])

    def values(self, **where: object) -> pd.Series:
        """The values of one quantity by seed.

        Args:
            where: column to the one value that it must have.
        """
        found = self.table
        for column, value in where.items():
            found = found[found[column] == value]
        return found.set_index("seed")["value"]


def merge_label(name: str) -> str:
    """A merge or a rival, as readers see it."""
    return _MERGES.get(name, name)


def start_label(name: str) -> str:
    """A start, as readers see it."""
    kind, _, percent = name.rpartition("-")
    if kind == "common":
        return f"{percent} % common steps"
    if kind == "one-site":
        return f"{percent} % common steps at one site"
    return f"{name} first weights"


def is_matching(folder: Path) -> bool:
    """Whether a folder holds a matching study."""
    return (folder / RECORD_FILE).is_file()


def read_matching(folder: Path) -> MatchingStudy:
    """Read a finished matching study.

    Raises:
        DataError: the study is not finished, or a file is damaged.
    """
    path = folder / RECORD_FILE
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        design, created = dict(record["design"]), str(record["created"])
        title, _ = str(design["title"]), float(design["width"])
        computed = bool(record["computed"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: damaged ({error}); run the study into a new folder") from error
    return MatchingStudy(folder, title, created, computed, design, _table(folder / RESULTS_FILE))


def _table(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise DataError(f"{path}: missing; the same 'fedi2i study' command finishes the study")
    try:
        table = pd.read_csv(path, keep_default_na=False)
        if tuple(table.columns) != COLUMNS or table.empty:
            raise ValueError("other columns than a matching study has, or no line")
        kinds = {"seed": int, "sites": int, "width": float, "value": float}
        return table.astype(kinds)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: damaged ({error}); run the same study again") from error
