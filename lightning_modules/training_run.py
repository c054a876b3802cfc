"""Train one arm without a federation: on one site's data, or on all sites' data pooled."""

from __future__ import annotations

import csv
import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from lightning_modules.configuration import ExperimentConfig
from lightning_modules.hardware import Hardware
from lightning_modules.learner import Learner, State
from lightning_modules.local_state import LocalStateStore
from lightning_modules.networks.generator import UNetGenerator
from lightning_modules.training_slices import TrainingSlices
from lightning_modules.validation import load_generator, validate
from partitions.atomic_file import replacing
from partitions.errors import DataError
from partitions.preparation import PreparedSite
from partitions.typed_config import as_dict

logger = logging.getLogger(__name__)

MODEL_FILE = "model.pt"
METRICS_FILE = "metrics.csv"
_PROGRESS_FILE = "progress.pt"

Row = tuple[str, int, str, float]


@dataclass(frozen=True)
class Arm:
    """What is trained on what.

    Attributes:
        name: name of the arm; seeds its slice order.
        sites: whose training slices are used, and on whose validation patients it is followed.
        steps: optimizer steps per round.
    """

    name: str
    sites: Sequence[PreparedSite]
    steps: int


def train_arm(experiment: ExperimentConfig, arm: Arm, hardware: Hardware, out: Path) -> Path:
    """Train all rounds of an arm; continues after the last finished round of a broken run.

    The learner, the initial networks and the number of steps per site and round are those of the
    federated arms. Writes ``metrics.csv`` (site, round, metric, value) and ``model.pt``.

    Returns:
        The path of ``model.pt``.
    """
    slices = TrainingSlices([site.split("train") for site in arm.sites])
    store = LocalStateStore(out / "state")
    learner = Learner(experiment, arm.name, slices, hardware, store, steps=arm.steps)
    fingerprint = _fingerprint(experiment, arm)
    first_round, state, rows = _resume(out, fingerprint, learner)
    generator = UNetGenerator(experiment.model.generator)
    learned_on = arm.sites[0].site if len(arm.sites) == 1 else "all"
    for round_number in range(first_round, experiment.training.rounds):
        rows += _validation_rows(generator, state, arm, hardware, round_number)
        result = learner.train(state, round_number)
        state = result.state
        metrics = {**result.metrics, "time/train_seconds": result.seconds}
        rows += [(learned_on, round_number, name, metrics[name]) for name in sorted(metrics)]
        _save_progress(out, fingerprint, round_number + 1, state, rows)
        logger.info(
            "%s: round %d of %d, L1 %.4f",
            arm.name,
            round_number + 1,
            experiment.training.rounds,
            metrics["train/l1"],
        )
    rows += _validation_rows(generator, state, arm, hardware, experiment.training.rounds)
    _write_metrics(out / METRICS_FILE, rows)
    with replacing(out / MODEL_FILE) as temporary:
        torch.save({"model": state}, temporary)
    return out / MODEL_FILE


def _validation_rows(
    generator: UNetGenerator, state: State, arm: Arm, hardware: Hardware, round_number: int
) -> list[Row]:
    load_generator(generator, state)
    per_site = {
        site.site: validate(generator, site.split("val"), hardware)
        for site in sorted(arm.sites, key=lambda site: site.site)
    }
    rows = [
        (site, round_number, name, metrics[name])
        for site, metrics in per_site.items()
        for name in sorted(metrics)
    ]
    names = sorted({row[2] for row in rows})
    return rows + [
        ("all", round_number, name, fmean(row[3] for row in rows if row[2] == name))
        for name in names
    ]


def _fingerprint(experiment: ExperimentConfig, arm: Arm) -> str:
    content = {
        "experiment": as_dict(experiment),
        "arm": arm.name,
        "steps": arm.steps,
        "data": [site.content_hash for site in arm.sites],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _resume(out: Path, fingerprint: str, learner: Learner) -> tuple[int, State, list[Row]]:
    path = out / _PROGRESS_FILE
    if path.is_file():
        progress = _read_progress(path)
        if progress["fingerprint"] == fingerprint:
            logger.info("continuing after %d finished round(s)", progress["rounds"])
            return progress["rounds"], progress["state"], [tuple(row) for row in progress["rows"]]
    return 0, learner.initial_state(), []


def _read_progress(path: Path) -> dict[str, Any]:
    try:
        progress: dict[str, Any] = torch.load(path, weights_only=True)
    except Exception as error:  # torch raises many unrelated types on damaged files
        raise DataError(f"{path}: damaged; delete it to train this arm from its start") from error
    return progress


def _save_progress(out: Path, fingerprint: str, rounds: int, state: State, rows: list[Row]) -> None:
    with replacing(out / _PROGRESS_FILE) as temporary:
        torch.save(
            {
                "fingerprint": fingerprint,
                "rounds": rounds,
                "state": state,
                "rows": [list(row) for row in rows],
            },
            temporary,
        )


def _write_metrics(path: Path, rows: list[Row]) -> None:
    with (
        replacing(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as stream,
    ):
        writer = csv.writer(stream)
        writer.writerow(("site", "round", "metric", "value"))
        writer.writerows(rows)
