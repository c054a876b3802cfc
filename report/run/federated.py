"""Read a study that ran in a federation: numbers of every site, and no patient of any."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from fedi2i.errors import DataError
from report.run.metrics import Metric

FEDERATED_FILE = "federated_study.json"
SUMMARIES_FILE = "summaries.csv"
KEYS = ["arm", "seed", "site", "metric"]
NUMBERS = ["patients", "mean", "sd"]


@dataclass(frozen=True)
class FederatedStudy:
    """A study in a running federation, as far as its jobs have ended.

    Attributes:
        folder: where it was read from.
        title: heading of the page.
        created: when it was begun.
        reference: the arm that all others are compared with.
        primary: name of the primary outcome's metric.
        margin: of equivalence, in its unit.
        strategies: the jobs of every seed.
        seeds: all that have begun.
        sites: that trained.
        labels: arm to the name that the page shows, in the order of the tables.
        metrics: what sites may tell of.
        experiment: all settings.
        left_out: what a simulated study of the same file has besides.
        summaries: columns arm, seed, site, metric, patients, mean, sd.
    """

    folder: Path
    title: str
    created: str
    reference: str
    primary: str
    margin: float
    strategies: tuple[str, ...]
    seeds: tuple[int, ...]
    sites: tuple[str, ...]
    labels: Mapping[str, str]
    metrics: tuple[Metric, ...]
    experiment: Mapping[str, Any]
    left_out: tuple[str, ...]
    summaries: pd.DataFrame


def is_federated(folder: Path) -> bool:
    """Whether a folder holds a study that ran in a federation."""
    return (folder / FEDERATED_FILE).is_file()


def read_federated(folder: Path) -> FederatedStudy:
    """Read ``federated_study.json`` and ``summaries.csv``.

    Raises:
        DataError: one of them is missing or damaged, or no site has said anything yet.
    """
    path = folder / FEDERATED_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        design = content["design"]
        study = FederatedStudy(
            folder=folder,
            title=str(design["title"]),
            created=str(content["created"]),
            reference=str(design["reference"]),
            primary=str(design["primary_outcome"]["metric"]),
            margin=float(design["margin"]),
            strategies=tuple(map(str, design["strategies"])),
            seeds=tuple(map(int, content["seeds"])),
            sites=tuple(map(str, content["sites"])),
            labels={str(arm): str(label) for arm, label in content["labels"].items()},
            metrics=tuple(map(_metric, content["metrics"])),
            experiment=dict(design["experiment"]),
            left_out=tuple(map(str, content["left_out"])),
            summaries=_summaries(folder / SUMMARIES_FILE),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: damaged ({error}); run the study again") from error
    _check(study)
    return study


def _metric(entry: Mapping[str, Any]) -> Metric:
    decimals = entry["decimals"]
    return Metric(
        name=str(entry["name"]),
        label=str(entry["label"]),
        unit=str(entry["unit"]),
        higher_is_better=entry["better"] == "higher",
        decimals=None if decimals is None else int(decimals),
    )


def _summaries(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise DataError(f"{path}: missing; no job of this study has ended yet")
    try:
        table = pd.read_csv(path, dtype={"arm": str, "site": str, "metric": str})
    except ValueError as error:
        raise DataError(f"{path}: cannot be read as CSV ({error}); run the study again") from error
    if list(table.columns) != [*KEYS, *NUMBERS]:
        raise DataError(f"{path}: has other columns than {','.join([*KEYS, *NUMBERS])}")
    if table.empty:
        raise DataError(
            f"{path}: no site has said anything of its test patients; 'studies.share' is false at "
            "all of them, they have fewer patients than they ask for, or no job has ended"
        )
    wrong = table[NUMBERS].map(lambda value: not math.isfinite(float(value))).any(axis=1)
    if wrong.any() or table.duplicated(KEYS).any():
        raise DataError(f"{path}: a number is missing or stands twice; run the study again")
    return table


def _check(study: FederatedStudy) -> None:
    known: dict[str, set[Any]] = {
        "arm": set(study.labels),
        "seed": set(study.seeds),
        "site": set(study.sites),
        "metric": {metric.name for metric in study.metrics},
    }
    for column, names in known.items():
        others = sorted(set(study.summaries[column]) - names)
        if others:
            raise DataError(
                f"{study.folder / SUMMARIES_FILE}: {column} '{others[0]}' is not listed in "
                f"{FEDERATED_FILE}; run the study again"
            )
