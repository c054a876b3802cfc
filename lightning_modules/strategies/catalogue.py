"""All strategies and their committed jobs, found by walking this package."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import lightning_modules.strategies as package
from fedi2i.catalogue import members
from fedi2i.errors import ConfigError
from fedi2i.typed_config import allowed_values, check_values, choose, nearest, record_from
from lightning_modules.strategies.interface import NoSettings, Paper, Strategy

INITIALISATIONS = ("shared", "independent")


@dataclass(frozen=True)
class StrategyConfig:
    """The strategy of an experiment.

    Attributes:
        name: one of ``STRATEGIES``.
        initialisation: ``shared`` starts every site from the server's model; ``independent`` lets
            every site draw its own first weights, as FedMA's authors do.
        settings: the strategy's own settings.
    """

    name: str = "fedavg"
    initialisation: str = "shared"
    settings: Any = field(default_factory=NoSettings)

    @property
    def record(self) -> Strategy:
        """What is known of the strategy."""
        return STRATEGIES[self.name]


@dataclass(frozen=True)
class StrategyJob:
    """A committed job: a strategy with the values that make it this job and no other.

    Attributes:
        name: the job's name.
        label: as reports show it.
        does: what it adds to FedAvg; with the label in front a sentence.
        acts: whether its action is expected to show.
        paper: where it comes from.
        values: the strategy's name, and what differs from its defaults.
        strategy: the strategy.
    """

    name: str
    label: str
    does: str
    acts: bool
    paper: Paper
    values: Mapping[str, Any]
    strategy: Strategy

    @property
    def experiment(self) -> dict[str, Any]:
        """The values as a federated experiment file holds them."""
        return {"experiment": {"strategy": dict(self.values)}}

    @property
    def is_default(self) -> bool:
        """Whether this is the strategy's own job and no variant of it."""
        return self.name == self.strategy.name

    @property
    def is_fedavg(self) -> bool:
        """Whether it equals FedAvg from the same start, by the record's own words."""
        same = self.strategy.fedavg_at is not None and not self.strategy.fedavg_at
        return same and not set(self.values) - {"name"}

    @property
    def starts_independently(self) -> bool:
        """Whether every site draws its own first weights."""
        return self.values.get("initialisation") == "independent"

    @property
    def distinctions(self) -> frozenset[str]:
        """What makes jobs of this strategy different jobs, and so is no tuning."""
        variants = (variant.values for variant in self.strategy.variants)
        return frozenset({"name", "initialisation", *(key for v in variants for key in v)})


def _found() -> dict[str, Strategy]:
    strategies: list[Strategy] = list(members(package, "STRATEGY").values())
    strategies.sort(key=lambda strategy: not strategy.reference)  # stable: the rest by name
    return {strategy.name: strategy for strategy in strategies}


def _jobs(strategy: Strategy) -> list[StrategyJob]:
    name = {"name": strategy.name}
    first = StrategyJob(
        strategy.name,
        strategy.label,
        strategy.does,
        strategy.acts,
        strategy.paper,
        {**name, **strategy.values},
        strategy,
    )
    others = [
        StrategyJob(
            variant.name,
            variant.label,
            variant.does,
            strategy.acts if variant.acts is None else variant.acts,
            variant.paper or strategy.paper,
            {**name, **variant.values},
            strategy,
        )
        for variant in strategy.variants
    ]
    return [first, *others]


STRATEGIES: dict[str, Strategy] = _found()
"""Every strategy by name, the one that others are compared with first."""

STRATEGY_JOBS: dict[str, StrategyJob] = {
    job.name: job for strategy in STRATEGIES.values() for job in _jobs(strategy)
}
"""Every committed job by name."""

EXTRAS: tuple[str, ...] = tuple(
    sorted({kind for strategy in STRATEGIES.values() for kind in strategy.site.extras})
)
"""All kinds of arrays that any strategy's sites send besides their models."""


def strategy_job(name: str) -> StrategyJob:
    """A committed job.

    Raises:
        ConfigError: there is no such job.
    """
    if name not in STRATEGY_JOBS:
        raise ConfigError(f"unknown strategy '{name}'; {nearest(name, STRATEGY_JOBS)}")
    return STRATEGY_JOBS[name]


def grid_of(name: str) -> tuple[Mapping[str, Any], ...]:
    """The settings to try for one committed job.

    A comparison of strategies is fair only if each had the same chance to be tuned, so every grid
    has four points, and the authors' is one of them (``Strategy.published``).

    Raises:
        ConfigError: there is no such job, or its strategy has no grid.
    """
    grid = strategy_job(name).strategy.grid
    if not grid:
        tuned = [job for job, entry in STRATEGY_JOBS.items() if entry.strategy.grid]
        raise ConfigError(f"strategy '{name}' has no grid; these have one: {', '.join(tuned)}")
    return grid


def with_companions(names: Sequence[str]) -> tuple[str, ...]:
    """The jobs to compare: those asked for, then those that belong into a comparison with them.

    Raises:
        ConfigError: there is no such job.
    """
    needed = [other for name in names for other in strategy_job(name).strategy.compared_with]
    return tuple(dict.fromkeys([*names, *needed]))


def strategy_from(values: Mapping[str, Any], where: str) -> StrategyConfig:
    """The strategy that an experiment names, with its own settings filled in and checked.

    Args:
        values: ``name``, ``initialisation`` and settings that differ from the defaults.
        where: the file or argument the values came from, for messages.

    Raises:
        ConfigError: an unknown strategy, a setting of another strategy, or a value out of range.
    """
    given = dict(values)
    name = choose(str(given.pop("name", "fedavg")), STRATEGIES, f"{where}: strategy.name")
    start = str(given.pop("initialisation", "shared"))
    choose(start, INITIALISATIONS, f"{where}: strategy.initialisation")
    strategy = STRATEGIES[name]
    if start == "independent" and not strategy.may_start_independently:
        able = [other.name for other in STRATEGIES.values() if other.may_start_independently]
        raise ConfigError(
            f"{where}: strategy.initialisation 'independent' is meant for {', '.join(able)}; "
            f"'{name}' starts from the server's model"
        )
    given = {key: value for key, value in given.items() if value is not None}
    _refuse_foreign_settings(strategy, given, where)
    settings = record_from(strategy.settings, given, where, "strategy.")
    check_values(settings, where, "strategy.")
    return StrategyConfig(name, start, settings)


def strategy_values(config: StrategyConfig) -> dict[str, Any]:
    """The strategy as plain values, all spelled out."""
    return {
        "name": config.name,
        "initialisation": config.initialisation,
        **dataclasses.asdict(config.settings),
    }


def settings_of(strategy: Strategy) -> list[str]:
    """Names of a strategy's own settings."""
    return [entry.name for entry, _ in allowed_values(strategy.settings)]


def _refuse_foreign_settings(strategy: Strategy, given: Mapping[str, Any], where: str) -> None:
    own = settings_of(strategy)
    every = {key for other in STRATEGIES.values() for key in settings_of(other)}
    for key in given:
        if key in own:
            continue
        owners = [other.name for other in STRATEGIES.values() if key in settings_of(other)]
        if not owners:
            known = {*every, "name", "initialisation"}
            raise ConfigError(f"{where}: unknown key 'strategy.{key}'; {nearest(str(key), known)}")
        raise ConfigError(
            f"{where}: strategy.{key} belongs to {', '.join(owners)}, "
            f"but strategy.name is '{strategy.name}'"
        )
