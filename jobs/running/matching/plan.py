"""The matching study as its YAML file says it: starts, widths, numbers of models, merges."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fedi2i import __version__
from fedi2i.errors import ConfigError
from fedi2i.typed_config import (
    as_dict,
    check_values,
    choose,
    nearest,
    number,
    read_yaml,
    record_from,
    word,
)
from jobs.writing.federation import FederatedExperiment, read_federated_experiment
from lightning_modules.configuration import ExperimentConfig, experiment_values
from lightning_modules.contrasts import refuse_conditional
from lightning_modules.matching.merging.merges import MERGES
from lightning_modules.networks.configuration import MOST_CHANNELS
from lightning_modules.source_contrasts import refuse_several_contrasts

KIND = "matching"
INDEPENDENT, SHARED = "independent", "shared"
BEST_SINGLE, CHOSEN = "best-single", "chosen"
"""What else may begin the rounds: the model with the smallest validation error, or the merge."""
_COMMON = re.compile(r"(common|one-site)-(\d{1,2})")
MOST_MODELS = 64


@dataclass(frozen=True)
class Start:
    """Where models begin that are then trained apart.

    Attributes:
        name: ``independent`` (first weights of their own), ``shared`` (the same first weights),
            ``common-5`` (5 % of the steps together, on the slices of all sites) or ``one-site-5``
            (5 % of the steps at the first site alone).
    """

    name: str

    @property
    def percent(self) -> int:
        """Of all steps, how many are common."""
        found = _COMMON.fullmatch(self.name)
        return int(found.group(2)) if found else 0

    @property
    def at_one_site(self) -> bool:
        """Whether one site alone takes the common steps."""
        return self.name.startswith("one-site")

    def common_steps(self, steps: int) -> int:
        """How many of a model's steps are common."""
        return round(steps * self.percent / 100)


@dataclass(frozen=True)
class RoundsConfig:
    """Federated averaging after the merge.

    Attributes:
        count: rounds.
        steps: optimizer steps of each site per round.
        starts: of the models that are merged.
        models: how many are merged.
        merges: what the rounds begin with: merges, ``chosen`` (the merge with the smallest
            validation error) or ``best-single`` (the best single model, handed to every site).
    """

    count: int = number(6, most=1000)
    steps: int = number(50, above=True, most=1_000_000)
    starts: tuple[str, ...] = (INDEPENDENT,)
    models: int = number(4, low=2, most=MOST_MODELS)
    merges: tuple[str, ...] = ("plain", "converged", "joint", CHOSEN, BEST_SINGLE)


@dataclass(frozen=True)
class MatchingConfig:
    """A matching study, as its YAML file says it.

    Attributes:
        kind: tells this file from those of other studies.
        title: heading of the report.
        experiment: the experiment file, from the folder of the study's file.
        settings: what differs from that file, as nested values of ``experiment``.
        seeds: all models are trained anew for each.
        steps: optimizer steps of every model, the common ones included.
        width: factor of the generator's channels.
        starts: at this width.
        models: how many models are merged, the first ones of the sites in their order.
        other_widths: further widths, for independent pairs.
        other_models: further numbers of independent models; sites train several of them if there
            are more models than sites.
        merges: ways of merging.
        path_points: points along a path between two models, its ends not counted.
        activation_slices: training slices on which activations are compared.
        rounds: averaging after the merge.
    """

    kind: str = word(KIND, KIND)
    title: str = "FedI2I matching study"
    experiment: str = "../experiments/demo.yaml"
    settings: dict[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] = (101, 102, 103, 104, 105)
    steps: int = number(900, above=True, most=1_000_000)
    width: float = number(1.0, above=True, most=64.0)
    starts: tuple[str, ...] = (INDEPENDENT, SHARED)
    models: tuple[int, ...] = (2, 4)
    other_widths: tuple[float, ...] = ()
    other_models: tuple[int, ...] = ()
    merges: tuple[str, ...] = tuple(MERGES)
    path_points: int = number(7, above=True, most=999)
    activation_slices: int = number(200, above=True, most=100_000)
    rounds: RoundsConfig = field(default_factory=RoundsConfig)


@dataclass(frozen=True)
class Cell:
    """What is merged: models of one seed, start and width.

    Attributes:
        seed: of all its models.
        start: their start.
        width: factor of the generator's channels.
        models: how many.
    """

    seed: int
    start: Start
    width: float
    models: int

    @property
    def name(self) -> str:
        """For file names and progress."""
        return f"seed-{self.seed}/x{self.width:g}/{self.start.name}/{self.models}-models"


@dataclass(frozen=True)
class MatchingStudy:
    """A matching study that can be run.

    Attributes:
        config: what its file says.
        job: experiment and federation.
    """

    config: MatchingConfig
    job: FederatedExperiment

    @property
    def cells(self) -> list[Cell]:
        """Everything that is merged, seed by seed."""
        return [cell for seed in self.config.seeds for cell in self._cells_of(seed)]

    def _cells_of(self, seed: int) -> Iterator[Cell]:
        config, independent = self.config, Start(INDEPENDENT)
        for start in config.starts:
            for models in config.models:
                yield Cell(seed, Start(start), config.width, models)
        for width in config.other_widths:
            yield Cell(seed, independent, width, 2)
        for models in config.other_models:
            yield Cell(seed, independent, config.width, models)

    @property
    def rounds_cells(self) -> list[Cell]:
        """The merges after which rounds are run."""
        config, rounds = self.config, self.config.rounds
        if not rounds.count:
            return []
        return [
            Cell(seed, Start(start), config.width, rounds.models)
            for seed in config.seeds
            for start in rounds.starts
        ]

    def members(self, models: int) -> list[tuple[str, str]]:
        """Name and site of each model: ``north``, and ``north 2`` for a site's second one."""
        sites = self.job.federation.sites
        found = []
        for place in range(models):
            again, site = divmod(place, len(sites))
            name = sites[site] if not again else f"{sites[site]} {again + 1}"
            found.append((name, sites[site]))
        return found

    def experiment(self, seed: int, width: float) -> ExperimentConfig:
        """The experiment of one seed and width.

        Every network is trained where its model is; what is merged is for the study to say.
        """
        experiment = self.job.experiment
        model, training = experiment.model, experiment.training
        channels = tuple(round(width * count) for count in model.generator.channels)
        return replace(
            experiment,
            seed=seed,
            sharing="+".join(model.described.names),
            model=replace(model, generator=replace(model.generator, channels=channels)),
            training=replace(training, optimizer_state="reset", precision="fp32"),
        )

    def design(self, manifests: Mapping[str, str]) -> dict[str, Any]:
        """What may not change once the first model is trained.

        Args:
            manifests: site to the hash of its data.
        """
        config = {key: value for key, value in as_dict(self.config).items() if key != "seeds"}
        return {
            **{key: value for key, value in config.items() if key not in ("kind", "settings")},
            "release": __version__,
            "experiment": {**experiment_values(self.job.experiment), "seed": None},
            "sites": list(self.job.federation.sites),
            "unseen": list(self.job.federation.unseen),
            "manifests": dict(manifests),
        }


def is_matching_study(path: Path) -> bool:
    """Whether a study's file is of this kind.

    Raises:
        ConfigError: it cannot be read.
    """
    return read_yaml(path).get("kind") == KIND


def read_matching_study(path: Path, seeds: Sequence[int] = ()) -> MatchingStudy:
    """Read a matching study's file and the experiment that it names.

    Args:
        path: the YAML file.
        seeds: take these in the place of the file's.

    Raises:
        ConfigError: an unknown key, start or merge, a value out of range or named twice, or an
            experiment whose model cannot be merged.
    """
    where = str(path)
    config = record_from(MatchingConfig, read_yaml(path), where)
    check_values(config, where)
    if seeds:
        config = replace(config, seeds=tuple(seeds))
    _check(config, where)
    experiment = (path.parent / config.experiment).resolve()
    job = read_federated_experiment(experiment, {"experiment": config.settings})
    study = MatchingStudy(config, job)
    _check_job(study, where)
    return study


def _check(config: MatchingConfig, where: str) -> None:
    _check_lists(config, where)
    for start in (*config.starts, *config.rounds.starts):
        _check_start(start, config.steps, where)
    _check_merges(config, where)
    for models in (*config.models, *config.other_models):
        if not 2 <= models <= MOST_MODELS:
            raise ConfigError(f"{where}: {models} models; merge from 2 to {MOST_MODELS}")


def _check_lists(config: MatchingConfig, where: str) -> None:
    """Nothing is named twice, and what must be there is."""
    needed: dict[str, tuple[Any, ...]] = {
        "seeds": config.seeds,
        "starts": config.starts,
        "models": config.models,
        "merges": config.merges,
        "rounds.starts": config.rounds.starts,
        "rounds.merges": config.rounds.merges,
    }
    # What else is measured stands beside what is measured anyway.
    others: dict[str, tuple[Any, ...]] = {
        "other_widths": (config.width, *config.other_widths),
        "other_models": (*config.models, *config.other_models),
    }
    for key, values in {**needed, **others}.items():
        twice = [value for value in values if values.count(value) > 1]
        if twice:
            raise ConfigError(
                f"{where}: {key} names {twice[0]} twice, or it is measured anyway; name every one "
                "once"
            )
        if not values:
            raise ConfigError(f"{where}: {key} is empty; name one or more")


def _check_merges(config: MatchingConfig, where: str) -> None:
    for merge in config.merges:
        choose(merge, MERGES, f"{where}: merges")
    for merge in config.rounds.merges:
        choose(merge, (*config.merges, CHOSEN, BEST_SINGLE), f"{where}: rounds.merges")


def _check_start(name: str, steps: int, where: str) -> None:
    if name in (INDEPENDENT, SHARED):
        return
    if not _COMMON.fullmatch(name) or not Start(name).percent:
        known = (INDEPENDENT, SHARED, "common-5", "one-site-5")
        raise ConfigError(
            f"{where}: unknown start '{name}'; {nearest(name, known)} "
            "(the number is the common part of the steps in percent, from 1 to 99)"
        )
    if not 0 < Start(name).common_steps(steps) < steps:
        raise ConfigError(
            f"{where}: start '{name}' of {steps} steps leaves no step to one of its parts; take "
            "more steps or another part"
        )


def _check_job(study: MatchingStudy, where: str) -> None:
    job, config = study.job, study.config
    described = job.experiment.model.described
    if not described.paired:
        raise ConfigError(
            f"{where}: model '{job.experiment.model.name}' trains without pairs, whose error "
            "nobody can measure along a path; take pix2pix or regression"
        )
    refuse_conditional(job.experiment, where, "this study merges generators of one pair")
    refuse_several_contrasts(job.experiment, where, "this study merges generators of one pair")
    if "seed" in config.settings or "strategy" in config.settings:
        raise ConfigError(f"{where}: settings name a seed or a strategy; this study has its own")
    if len(job.federation.sites) < 2:
        raise ConfigError(f"{where}: the experiment names one site; models of two or more differ")
    if job.experiment.model.of_pair.is_own:
        raise ConfigError(
            f"{where}: this study trains generators of several widths, and what makes "
            f"'{job.experiment.model.of_pair.kind}' wider nobody can say; take one of ours"
        )
    if job.experiment.model.patch:
        raise ConfigError(
            f"{where}: the experiment has model.patch, and this study compares models of slices; "
            "take an experiment without it"
        )
    for width in (config.width, *config.other_widths):
        channels = [width * count for count in job.experiment.model.generator.channels]
        # The bounds first: no number and infinity are no whole numbers to ask for.
        if any(not 2 <= count <= MOST_CHANNELS or count != int(count) for count in channels):
            raise ConfigError(
                f"{where}: width {width:g} makes {channels} channels; take a factor that makes "
                f"whole numbers from 2 to {MOST_CHANNELS}"
            )
