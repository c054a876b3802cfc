"""What a job is made from: an experiment and the federation it runs in, read from one YAML file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf.errors import OmegaConfBaseException

from lightning_modules.configuration import ExperimentConfig, experiment_from
from partitions.errors import ConfigError
from partitions.typed_config import merged, nearest, read_yaml, record_from

DEFAULT_FILE = Path(__file__).parent / "experiments" / "demo.yaml"

STRATEGY_SETTINGS: dict[str, dict[str, Any]] = {
    "fedavg": {},
    "fedprox": {"mu_generator": 0.03, "mu_discriminator": 0.01},
}
"""Settings of each strategy's committed job; docs/strategies.md says how they were chosen."""

_SITE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
"""Names become folders, and NVFlare joins them with dots."""


@dataclass(frozen=True)
class FederationConfig:
    """Who takes part.

    Attributes:
        sites: names of the sites that train.
        unseen: sites that only test the finished models.
        min_sites: fewest sites that make a round; by default all of them.
    """

    sites: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()
    min_sites: int | None = None

    @property
    def needed(self) -> int:
        """Fewest sites that make a round."""
        return len(self.sites) if self.min_sites is None else self.min_sites


@dataclass(frozen=True)
class FederatedExperiment:
    """An experiment and its federation."""

    federation: FederationConfig = field(default_factory=FederationConfig)
    experiment: ExperimentConfig = field(default_factory=ExperimentConfig)


def read_federated_experiment(
    path: Path, overrides: Mapping[str, Any] | None = None
) -> FederatedExperiment:
    """Read an experiment file with the keys ``federation`` and ``experiment``.

    Raises:
        ConfigError: unknown keys, impossible values, or sites that do not add up.
    """
    content = read_yaml(path)
    known = {"federation", "experiment"}
    for key, value in content.items():
        if key not in known:
            raise ConfigError(f"{path}: unknown key '{key}'; {nearest(str(key), known)}")
        if not isinstance(value, Mapping):
            raise ConfigError(f"{path}: {key} is '{value}'; write 'key: value' lines below it")
    try:
        values = merged(content, overrides or {})
    except (OmegaConfBaseException, TypeError) as error:
        raise ConfigError(f"{path}: {str(error).splitlines()[0]}") from error
    federation = record_from(FederationConfig, values.get("federation", {}), f"{path}: federation")
    _check_federation(federation, str(path))
    experiment = experiment_from(values.get("experiment", {}), f"{path}: experiment")
    return FederatedExperiment(federation, experiment)


def strategy_overrides(strategy: str) -> dict[str, Any]:
    """The experiment's values for one of the committed strategies.

    Raises:
        ConfigError: there is no such strategy.
    """
    if strategy not in STRATEGY_SETTINGS:
        raise ConfigError(f"unknown strategy '{strategy}'; {nearest(strategy, STRATEGY_SETTINGS)}")
    return {"strategy": {"name": strategy, **STRATEGY_SETTINGS[strategy]}}


def _check_federation(federation: FederationConfig, where: str) -> None:
    names = [*federation.sites, *federation.unseen]
    if not federation.sites:
        raise ConfigError(f"{where}: federation.sites is empty; name the sites that train")
    for name in names:
        if not _SITE_NAME.fullmatch(name) or name == "server":
            raise ConfigError(
                f"{where}: '{name}' cannot be a site's name in federation; use letters, digits, "
                "'_' and '-', and not the name 'server'"
            )
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"{where}: site '{twice[0]}' is named twice in federation")
    if not 1 <= federation.needed <= len(federation.sites):
        raise ConfigError(
            f"{where}: federation.min_sites is {federation.min_sites}; it must be from 1 to the "
            f"number of sites, {len(federation.sites)}"
        )
