"""A federation without messages: the jobs' learners and server rules, one after the other.

What NVFlare's simulator does in processes this does in a loop, with the same bits and without the
simulator's start. It serves searches of many short runs, not measurements of traffic or time.
Runs with processes around them have privacy filters and limits of the sites; here there are none.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedi2i.digest import digest
from fedi2i.errors import ConfigError
from fedi2i.files import write_text
from jobs.writing.federation import FederatedExperiment
from jobs.writing.hostile_sites import HostileSites
from jobs.writing.job_folder import run_name
from lightning_modules.combining.updates import SiteUpdate, Weights, network_of, networks_of
from lightning_modules.configuration import ExperimentConfig
from lightning_modules.data.slices import TrainingSlices
from lightning_modules.evaluation.validation import load_translator, validate
from lightning_modules.metrics.presets.catalogue import on_prepared_slices
from lightning_modules.networks.building import build_networks, build_translator
from lightning_modules.networks.modulation import for_site
from lightning_modules.strategies.interface import STAR, ServerRule, ServerView
from lightning_modules.training.hardware import Hardware
from lightning_modules.training.learner import Learner
from lightning_modules.training.local_state import LocalStateStore
from lightning_modules.training.participation import EVERYBODY, Participation
from partitions.manifest import read_manifest
from partitions.preparation import PreparedSite, prepare_site

Tamper = Callable[[str, Weights, Weights], Weights]
"""From a site's name, the weights it received and those it trained to what it sends."""


class PlainLoop:
    """All sites of a star and its server in this process.

    Args:
        experiment: the experiment.
        sites: prepared sites by name.
        folder: where the sites keep what they keep from round to round.
        hardware: what the sites train on.
        tamper: changes what a site sends; by default all are honest.
        learner_arguments: further arguments of every site's ``Learner``.
        participation: who misses rounds or does a part of them; by default every site answers in
            every round.
        least: the fewest sites of a round; by default all.

    Attributes:
        weights: the global model.
        round_number: the next round.
        took_part: the sites of every finished round.
        samples: what each site stated in the last round it took part in.

    Raises:
        ConfigError: a strategy of another topology, with independent starts, or whose server needs
            channel groups.
    """

    def __init__(
        self,
        experiment: ExperimentConfig,
        sites: Mapping[str, PreparedSite],
        folder: Path,
        hardware: Hardware,
        tamper: Tamper | None = None,
        learner_arguments: Mapping[str, Any] | None = None,
        participation: Participation = EVERYBODY,
        least: int | None = None,
    ) -> None:
        self._participation = participation
        self._least = len(sites) if least is None else least
        self.took_part: list[tuple[str, ...]] = []
        self.samples: dict[str, float] = {}
        self._rule = _server_rule(experiment)
        networks = build_networks(experiment.model, experiment.seed)
        parameters = {name for name, _ in networks.named_parameters()}
        self._view = ServerView(
            sites=tuple(sorted(sites)),
            is_parameter=parameters.__contains__,
            sites_keep_optimizers=experiment.training.optimizer_state == "keep",
        )
        self._experiment = experiment
        self._preset = on_prepared_slices(experiment.preset).in_rounds
        self._prepared = dict(sites)
        self._hardware = hardware
        self._tamper = tamper
        self._learners = {
            name: Learner(
                experiment,
                name,
                TrainingSlices([prepared.split("train")]),
                hardware,
                LocalStateStore(folder / name),
                participation.steps(name, experiment.training.steps),
                **(learner_arguments or {}),
            )
            for name, prepared in sorted(sites.items())
        }
        first = next(iter(self._learners.values())).initial_state()
        self.weights: Weights = {key: value.numpy() for key, value in first.items()}
        self.round_number = 0

    def run(self, rounds: int) -> Weights:
        """Train rounds; returns the global model."""
        for _ in range(rounds):
            arrays = self._rule.extras_for_sites(self._view)
            there = self._participation.present(
                self._view.sites, self._least, self._experiment.seed, self.round_number
            )
            updates = [self._update(name, arrays) for name in there]
            self._view.round_number = self.round_number
            self.weights = self._combined(updates)
            self.took_part.append(there)
            self.round_number += 1
        return self.weights

    def validation(self) -> dict[str, float]:
        """Metrics on the validation patients as means over sites.

        ``val/...`` belong to the global model, completed by what each site keeps to itself;
        ``personal/...`` to the sites' own models where the strategy has such beside the global one.
        """
        found: dict[str, list[float]] = {}
        for name in self._learners:
            for metric, value in self.validation_at(name).items():
                found.setdefault(metric, []).append(value)
        return {metric: fmean(values) for metric, values in found.items()}

    def validation_at(self, site: str) -> dict[str, float]:
        """The same of one site."""
        learner, accepted = self._learners[site], self._last_round_of(site)
        state = learner.complete(_tensors(self.weights), self.round_number, accepted)
        models = {"val": state, "personal": learner.personal(self.round_number, accepted)}
        return {
            f"{prefix}/{metric.partition('/')[2]}": value
            for prefix, model in models.items()
            if model
            for metric, value in self._measured(site, model).items()
        }

    def _measured(self, site: str, model: Mapping[str, Tensor]) -> dict[str, float]:
        config = self._experiment.model
        prepared = self._prepared[site]
        generator = build_translator(config)
        load_translator(generator, model, config.described.translator)
        generator = for_site(generator, prepared)
        patients = prepared.split("val")
        return validate(generator, patients, self._hardware, self._preset, config.view)

    def _last_round_of(self, site: str) -> int:
        """The last round that a site took part in, -1 for none."""
        return max((n for n, there in enumerate(self.took_part) if site in there), default=-1)

    def _update(self, site: str, arrays: Weights) -> SiteUpdate:
        result = self._learners[site].train(
            _tensors(self.weights),
            self.round_number,
            extras=_tensors(arrays),
            accepted_round=self._last_round_of(site),
        )
        sent = {key: value.numpy() for key, value in result.state.items()}
        if self._tamper:
            sent = self._tamper(site, self.weights, sent)
        extras = {key: value.numpy() for key, value in result.extras.items()}
        self.samples[site] = float(result.samples)
        return SiteUpdate(site, sent, float(result.samples), extras)

    def _combined(self, updates: list[SiteUpdate]) -> Weights:
        combined: Weights = {}
        for network in networks_of(self.weights):
            before = {k: value for k, value in self.weights.items() if network_of(k) == network}
            parts = [update.for_network(network) for update in updates]
            trained = [part for part in parts if part.weights]
            if trained:
                before = self._rule.combine(network, trained, before, self._view)
            combined |= before
        return {key: combined[key] for key in self.weights}


def _server_rule(experiment: ExperimentConfig) -> ServerRule:
    strategy, start = experiment.strategy.record, experiment.strategy.initialisation
    alone = strategy.topology == STAR and start == "shared"
    if strategy.server is None or strategy.server.matches_channels or not alone:
        raise ConfigError(
            f"strategy '{strategy.name}' needs more than sites and the server of a star: run it in "
            "NVFlare's simulator"
        )
    return strategy.server(experiment.strategy.settings)


def _tensors(weights: Weights) -> dict[str, Tensor]:
    return {key: torch.as_tensor(np.array(value)) for key, value in weights.items()}


def loop_of(job: FederatedExperiment, data: Path, folder: Path, hardware: Hardware) -> PlainLoop:
    """The loop of a job, with its absent and hostile sites.

    Args:
        job: experiment and federation.
        data: folder that holds one folder per site.
        folder: receives what the sites keep.
        hardware: what the sites train on.
    """
    federation, experiment = job.federation, job.experiment
    sites = {
        site: prepare_site(
            read_manifest(data / site),
            experiment.data.preparation_at(site),
            data / site / "prepared",
            progress=False,
        )
        for site in federation.sites
    }
    return PlainLoop(
        experiment,
        sites,
        folder,
        hardware,
        HostileSites(federation.hostile, experiment.seed) if federation.hostile else None,
        participation=federation.participation,
        least=federation.needed,
    )


def validation_in_this_process(
    job: FederatedExperiment, data: Path, data_key: str, folder: Path
) -> dict[str, float]:
    """Train a job to its end in this process, unless that was done before.

    Args:
        job: experiment and federation.
        data: folder that holds one folder per site.
        data_key: changes with the data.
        folder: receives ``validation.json``, which a second call with the same settings and data
            reads, and what the sites keep.

    Returns:
        The metrics of the final model, see ``PlainLoop.validation``.

    Raises:
        ConfigError: the job has what only runs with messages have.
    """
    federation = job.federation
    if job.privacy.acts or federation.compression != "none" or federation.initial_model:
        raise ConfigError(
            "a run in this process has no privacy mechanism, no compression and no initial model: "
            "run this experiment in NVFlare's simulator"
        )
    record, key = folder / "validation.json", digest(f"{run_name(folder.name, job)}/{data_key}")
    if record.exists():
        known = json.loads(record.read_text(encoding="utf-8"))
        if known["key"] == key:
            return {name: float(value) for name, value in known["metrics"].items()}
    loop = loop_of(job, data, folder / "sites", Hardware("cpu", "32-true", 1))
    loop.run(job.experiment.training.rounds)
    metrics = loop.validation()
    write_text(record, json.dumps({"key": key, "metrics": metrics}) + "\n")
    return metrics
