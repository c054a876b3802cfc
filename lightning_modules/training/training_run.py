"""Train one arm without a federation: on one site's data, or on all sites' data pooled."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from fedi2i.digest import digest, file_digest
from fedi2i.errors import DataError
from fedi2i.metric_files import MetricRow, write_metrics
from lightning_modules.configuration import ExperimentConfig, experiment_values
from lightning_modules.data.slices import TrainingSlices
from lightning_modules.evaluation.validation import load_translator, validate
from lightning_modules.metrics.presets.catalogue import on_prepared_slices
from lightning_modules.networks.building import build_translator
from lightning_modules.networks.modulation import for_site
from lightning_modules.sharing.tensor_file import read_tensors, write_tensors
from lightning_modules.strategies.catalogue import StrategyConfig
from lightning_modules.training.hardware import Hardware
from lightning_modules.training.learner import Learner, Report, State
from lightning_modules.training.local_state import LocalStateStore
from lightning_modules.translation.model_card import card_of, training_record
from lightning_modules.translation.model_file import (
    KEPT_ROUNDS,
    SUFFIX,
    ModelFile,
    Weights,
    weights_of_pair,
    write_model,
)
from lightning_modules.translation.unlike_training import slice_distances, source_intensities
from partitions.preparation import PreparedSite

logger = logging.getLogger(__name__)

MODEL_FILE = "model.pt"
METRICS_FILE = "metrics.csv"
_PROGRESS_FILE = "progress.pt"

Earlier = dict[int, Weights]
"""The translators of a run's last rounds, by the number of rounds."""


@dataclass(frozen=True)
class Arm:
    """What is trained on what.

    Attributes:
        name: name of the arm; seeds its slice order.
        sites: whose training slices are used, and on whose validation patients it is followed.
        steps: optimizer steps per round.
        start: a finished model, as the server or a training wrote it, to begin with; by default
            the experiment's first weights. Networks that it lacks begin with these.
    """

    name: str
    sites: Sequence[PreparedSite]
    steps: int
    start: Path | None = None


def train_arm(
    experiment: ExperimentConfig,
    arm: Arm,
    hardware: Hardware,
    out: Path,
    report: Report | None = None,
) -> Path:
    """Train all rounds of an arm; continues after the last finished round of a broken run.

    The learner, the initial networks and the number of steps per site and round are those of the
    federated arms. Writes ``metrics.csv`` (site, round, metric, value), ``model.pt``, and the file
    that ``fedi2i translate`` takes (``model.safetensors``, and its card as ``model.json``).

    Args:
        experiment: the experiment.
        arm: what is trained on what.
        hardware: where.
        out: the arm's folder.
        report: called with (tag, value, step) as training goes on; it may raise to end it.

    Returns:
        The path of ``model.pt``.
    """
    # An arm without a federation has no strategy, whatever the experiment's federated arms have.
    experiment = replace(experiment, strategy=StrategyConfig())
    slices = TrainingSlices([site.split("train") for site in arm.sites])
    store = LocalStateStore(out / "state")
    learner = Learner(experiment, arm.name, slices, hardware, store, steps=arm.steps)
    _warn_of_untrained(arm, learner, experiment.model.described.names)
    fingerprint = _fingerprint(experiment, arm)
    first_round, state, rows, earlier = _resume(out, fingerprint, learner)
    if arm.start and not first_round:
        state = _begun_with(arm.start, state)
    validation = _Validation(experiment, arm, hardware)
    learned_on = arm.sites[0].site if len(arm.sites) == 1 else "all"
    for round_number in range(first_round, experiment.training.rounds):
        rows += validation.rows(state, round_number)
        result = learner.train(state, round_number, report)
        # What this arm could not train stays as it was, so that the model stays whole.
        state = {**state, **result.state}
        metrics = {**result.metrics, "time/train_seconds": result.seconds}
        rows += [(learned_on, round_number, name, metrics[name]) for name in sorted(metrics)]
        earlier = _with_last(earlier, experiment, state, round_number + 1)
        _save_progress(out, fingerprint, round_number + 1, state, rows, earlier)
        logger.info(
            "%s: round %d of %d, generator's loss %.4f",
            arm.name,
            round_number + 1,
            experiment.training.rounds,
            metrics["train/loss_generator"],
        )
    rows += validation.rows(state, experiment.training.rounds)
    write_metrics(out / METRICS_FILE, rows)
    write_tensors(out / MODEL_FILE, {"model": state})
    _write_translation_model(experiment, arm, out, state, rows, earlier)
    return out / MODEL_FILE


def _write_translation_model(
    experiment: ExperimentConfig,
    arm: Arm,
    out: Path,
    state: State,
    rows: Sequence[MetricRow],
    earlier: Earlier,
) -> None:
    rounds = experiment.training.rounds
    record = training_record(experiment, arm.name, rows, arm.name, rounds)
    record = replace(
        record,
        data={site.site: site.content_hash for site in arm.sites},
        samples={site.site: len(TrainingSlices([site.split("train")])) for site in arm.sites},
    )
    # What a source looks like is known of the sites that read what the finished model reads.
    source = experiment.data.preparation.source
    splits = [site.split("train") for site in arm.sites if site.config.source == source]
    weights = _translator_of(experiment, state)
    card = card_of(experiment, record, source_intensities(splits), slice_distances(splits))
    write_model((out / MODEL_FILE).with_suffix(SUFFIX), ModelFile(card, weights, earlier))


def _with_last(
    earlier: Earlier, experiment: ExperimentConfig, state: State, rounds: int
) -> Earlier:
    """The translators of the run's last rounds, as far as it has come to them."""
    if rounds <= experiment.training.rounds - KEPT_ROUNDS:
        return earlier
    return {**earlier, rounds: _translator_of(experiment, state)}


def _translator_of(experiment: ExperimentConfig, state: State) -> Weights:
    prefix = f"{experiment.model.described.translator}."
    weights = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    return weights_of_pair(weights, experiment.model, experiment.data.preparation)


def _warn_of_untrained(arm: Arm, learner: Learner, networks: Sequence[str]) -> None:
    left = [name for name in networks if name not in learner.trained]
    if left:
        logger.warning(
            "%s: its slices cannot train %s, which stay as they are drawn; without a federation "
            "they teach nothing",
            arm.name,
            ", ".join(left),
        )


class _Validation:
    """Follows an arm on the validation patients of its sites."""

    def __init__(self, experiment: ExperimentConfig, arm: Arm, hardware: Hardware) -> None:
        self._view = experiment.model.view
        self._generator = build_translator(experiment.model)
        self._translator = experiment.model.described.translator
        self._sites = sorted(arm.sites, key=lambda site: site.site)
        self._hardware = hardware
        self._preset = on_prepared_slices(experiment.preset).in_rounds

    def rows(self, state: State, round_number: int) -> list[MetricRow]:
        """Metrics of every site and their unweighted mean over sites, ``all``."""
        load_translator(self._generator, state, self._translator)
        per_site = {
            site.site: validate(
                for_site(self._generator, site),
                site.split("val"),
                self._hardware,
                self._preset,
                self._view,
            )
            for site in self._sites
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
        "experiment": experiment_values(experiment),
        "arm": arm.name,
        "steps": arm.steps,
        "data": [site.content_hash for site in arm.sites],
        **({"start": file_digest(arm.start)} if arm.start else {}),
    }
    return digest(content)


def _begun_with(path: Path, state: State) -> State:
    """The first state with the weights of a finished model in it.

    Raises:
        DataError: the file is damaged, or holds what the experiment's networks do not have.
    """
    refusal = "no model of this experiment; give the experiment that it was trained with"
    found: State = read_tensors(path, refusal, lambda content: dict(content["model"]))
    for key, value in found.items():
        if key not in state or state[key].shape != value.shape:
            raise DataError(f"{path}: '{key}' is {refusal}")
    return {**state, **found}


def _resume(
    out: Path, fingerprint: str, learner: Learner
) -> tuple[int, State, list[MetricRow], Earlier]:
    path = out / _PROGRESS_FILE
    if path.is_file():
        progress = _read_progress(path)
        if progress["fingerprint"] == fingerprint:
            logger.info("continuing after %d finished round(s)", progress["rounds"])
            rows = [tuple(row) for row in progress["rows"]]
            # A run that an older release began has kept none.
            return progress["rounds"], progress["state"], rows, progress.get("earlier", {})
    return 0, learner.initial_state(), [], {}


def _read_progress(path: Path) -> dict[str, Any]:
    return read_tensors(path, "damaged; delete it to train this arm from its start", dict)


def _save_progress(
    out: Path,
    fingerprint: str,
    rounds: int,
    state: State,
    rows: list[MetricRow],
    earlier: Earlier,
) -> None:
    progress = {
        "fingerprint": fingerprint,
        "rounds": rounds,
        "state": state,
        "rows": [list(row) for row in rows],
        "earlier": earlier,
    }
    write_tensors(out / _PROGRESS_FILE, progress)
