"""All privacy mechanisms and the committed jobs that show them, found by walking this package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import jobs.privacy as package
from fedi2i.catalogue import members
from fedi2i.epsilon import stated_epsilon
from fedi2i.errors import ConfigError
from fedi2i.typed_config import allowed_values, check_values, choose, nearest, record_from
from jobs.privacy.interface import PrivacyMechanism
from lightning_modules.privacy.accountant import epsilon
from lightning_modules.strategies.catalogue import STRATEGIES, STRATEGY_JOBS, StrategyJob
from lightning_modules.strategies.interface import YES

if TYPE_CHECKING:
    from jobs.writing.federation import FederatedExperiment
    from jobs.writing.topologies.parts import Config, ServerSide, SiteSide
    from lightning_modules.configuration import ExperimentConfig
    from lightning_modules.privacy.accountant import Release

NONE = "none"

MECHANISMS: dict[str, PrivacyMechanism] = {
    mechanism.name: mechanism for mechanism in members(package, "MECHANISM").values()
}
"""Every privacy mechanism by name."""


@dataclass(frozen=True)
class NoSettings:
    """No mechanism, no settings."""


@dataclass(frozen=True)
class PrivacyConfig:
    """The privacy mechanism of a job.

    Attributes:
        mechanism: ``none`` or one of ``MECHANISMS``.
        settings: the mechanism's own settings.
    """

    mechanism: str = NONE
    settings: Any = field(default_factory=NoSettings)

    @property
    def acts(self) -> bool:
        """Whether the job carries a mechanism."""
        return self.mechanism != NONE

    @property
    def record(self) -> PrivacyMechanism | None:
        """What is known of the mechanism."""
        return MECHANISMS.get(self.mechanism)

    def releases(self, experiment: ExperimentConfig, rounds: int) -> list[Release]:
        """What a site releases in some rounds; nothing where no epsilon is promised."""
        if self.record is None or self.record.releases is None:
            return []
        return self.record.releases(self.settings, experiment, rounds)

    def epsilon(self, experiment: ExperimentConfig, rounds: int) -> float | None:
        """The epsilon that a site spends in some rounds; None where no epsilon is promised."""
        released = self.releases(experiment, rounds)
        return epsilon(released, self.settings.delta) if released else None


@dataclass(frozen=True)
class PrivacyJob:
    """A committed job: a strategy's job with a privacy mechanism.

    Attributes:
        strategy_job: the strategy's job.
        label: as reports show it.
        mechanism: its mechanism.
    """

    strategy_job: str
    label: str
    mechanism: PrivacyMechanism

    @property
    def changes(self) -> dict[str, Any]:
        """What it changes in the strategy's job, as an experiment file holds it."""
        return {
            "privacy": {"mechanism": self.mechanism.name, **self.mechanism.values},
            "federation": dict(self.mechanism.federation),
            "experiment": dict(self.mechanism.experiment),
        }


PRIVACY_JOBS: dict[str, PrivacyJob] = {
    f"{name}_{mechanism.ending}": PrivacyJob(
        name, f"{strategy.label}, {mechanism.label}", mechanism
    )
    for mechanism in MECHANISMS.values()
    for name, strategy in STRATEGIES.items()
    if mechanism.name in strategy.mechanisms.shown
}
"""Every committed job with a privacy mechanism by name, from the strategies' records."""


def privacy_from(values: Mapping[str, Any], where: str) -> PrivacyConfig:
    """The privacy mechanism that an experiment names, with its settings filled in and checked.

    Args:
        values: ``mechanism``, and settings that differ from the defaults.
        where: the file the values came from, for messages.

    Raises:
        ConfigError: an unknown mechanism, a setting of another one, or a value out of range.
    """
    given = dict(values)
    name = str(given.pop("mechanism", NONE))
    choose(name, [NONE, *MECHANISMS], f"{where}: privacy.mechanism")
    settings = MECHANISMS[name].settings if name in MECHANISMS else NoSettings
    _refuse_foreign_settings(name, given, where)
    record = record_from(settings, given, where, "privacy.")
    check_values(record, where, "privacy.")
    return PrivacyConfig(name, record)


def base_job(name: str) -> StrategyJob:
    """The strategy's job behind the name of a committed job, with or without a mechanism.

    Raises:
        ConfigError: there is no such job.
    """
    if name not in PRIVACY_JOBS and name not in STRATEGY_JOBS:
        known = [*STRATEGY_JOBS, *PRIVACY_JOBS]
        raise ConfigError(f"unknown strategy '{name}'; {nearest(name, known)}")
    return STRATEGY_JOBS[PRIVACY_JOBS[name].strategy_job if name in PRIVACY_JOBS else name]


def description(job: FederatedExperiment) -> dict[str, Any]:
    """What a run's record says of its mechanism; empty without one.

    ``epsilon`` is what all rounds of the run spend at ``delta``, None where none is promised, and
    ``releases`` what it was counted from.
    """
    mechanism, rounds = job.privacy.record, job.experiment.training.rounds
    if mechanism is None:
        return {}
    return {
        "mechanism": mechanism.name,
        "label": mechanism.label,
        "promise": mechanism.promise,
        "guarantees": mechanism.guarantees,
        "unit": mechanism.unit,
        "relation": mechanism.relation,
        "delta": getattr(job.privacy.settings, "delta", None),
        "epsilon": epsilon_of(job, rounds),
        "releases": [asdict(release) for release in job.privacy.releases(job.experiment, rounds)],
        "settings": asdict(job.privacy.settings),
    }


def privacy_values(config: PrivacyConfig) -> dict[str, Any]:
    """The mechanism as plain values, all spelled out."""
    return {"mechanism": config.mechanism, **asdict(config.settings)}


def check_privacy(job: FederatedExperiment, where: str) -> None:
    """Refuse a mechanism that this experiment would break, or a budget that it would exceed.

    Raises:
        ConfigError: naming the setting and the remedy.
    """
    mechanism = job.privacy.record
    if mechanism is None:
        return
    strategy = job.experiment.strategy
    admits = getattr(strategy.record.mechanisms, mechanism.admitted_by)
    if admits != YES:
        raise ConfigError(
            f"{where}: privacy.mechanism is '{mechanism.name}', which strategy "
            f"'{strategy.name}' does not admit: {admits}"
        )
    mechanism.refuse(job, where)


def epsilon_of(job: FederatedExperiment, rounds: int) -> float | None:
    """The epsilon that a site spends in some rounds, as a run's files state it.

    None where no epsilon is promised.
    """
    spent = job.privacy.epsilon(job.experiment, rounds)
    return None if spent is None else stated_epsilon(spent)


def arriving(run: str, job: FederatedExperiment) -> list[Config]:
    """The mechanism's filters at a site that see the global model."""
    mechanism = job.privacy.record
    return mechanism.arriving(run, job) if mechanism and mechanism.arriving else []


def leaving(run: str, job: FederatedExperiment) -> list[Config]:
    """The mechanism's filters at a site that see its answer before the gate does."""
    mechanism = job.privacy.record
    return mechanism.leaving(run, job) if mechanism and mechanism.leaving else []


def with_mechanism_at_server(side: ServerSide, job: FederatedExperiment) -> ServerSide:
    """The server's side of a job as the mechanism changes it."""
    mechanism = job.privacy.record
    return mechanism.server(side, job) if mechanism and mechanism.server else side


def with_mechanism_at_site(side: SiteSide, job: FederatedExperiment) -> SiteSide:
    """The sites' side of a job as the mechanism changes it."""
    mechanism = job.privacy.record
    return mechanism.site(side, job) if mechanism and mechanism.site else side


def _refuse_foreign_settings(name: str, given: Mapping[str, Any], where: str) -> None:
    own = _settings_of(name)
    every = {key for other in MECHANISMS for key in _settings_of(other)}
    for key in given:
        if key in own:
            continue
        owners = [other for other in MECHANISMS if key in _settings_of(other)]
        if not owners:
            known = {*every, "mechanism"}
            raise ConfigError(f"{where}: unknown key 'privacy.{key}'; {nearest(str(key), known)}")
        raise ConfigError(
            f"{where}: privacy.{key} belongs to {', '.join(owners)}, "
            f"but privacy.mechanism is '{name}'"
        )


def _settings_of(name: str) -> list[str]:
    mechanism = MECHANISMS.get(name)
    return [entry.name for entry, _ in allowed_values(mechanism.settings)] if mechanism else []
