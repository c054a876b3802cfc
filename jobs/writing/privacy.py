"""Which privacy mechanism a job carries, what it promises, and the committed jobs that show it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fedi2i.errors import ConfigError
from fedi2i.typed_config import check_values, number, record_from, switch, word
from lightning_modules.configuration import ExperimentConfig
from lightning_modules.model_networks import MODELS, shared_networks
from lightning_modules.privacy.accountant import Release, epsilon
from lightning_modules.privacy.ledger import BudgetSpentError
from lightning_modules.strategies.catalogue import STRATEGIES
from lightning_modules.strategies.interface import YES

NONE, UPDATE_NOISE = "none", "update_noise"
SENSITIVITY = 2.0
"""In clipping norms: sites are known to take part, so their data are replaced, not removed."""


@dataclass(frozen=True)
class PrivacyConfig:
    """The privacy mechanism of a job.

    A site's own policy counts before it: where the policy has the mechanism, the job's does
    nothing there.

    Attributes:
        mechanism: ``none``, or ``update_noise`` for update-level differential privacy.
        noise_multiplier: standard deviation of the noise as a multiple of the clipping norm.
        clipping_generator: norm to which the update of each generator is clipped.
        clipping_discriminator: the same for discriminators.
        epsilon: the most that a site spends; a job that would need more is refused.
        delta: the probability with which the guarantee may fail.
        share_metrics: whether validation metrics leave, outside the guarantee.
    """

    mechanism: str = word(NONE, NONE, UPDATE_NOISE, meaning="`none` or `update_noise`")
    noise_multiplier: float = number(0.01, above=True, meaning="noise as a multiple of clipping")
    clipping_generator: float = number(7.0, above=True, meaning="norm of a generator's update")
    clipping_discriminator: float = number(1.6, above=True, meaning="the same, discriminators")
    epsilon: float = number(1e6, above=True, meaning="the most that a site spends")
    delta: float = number(1e-5, high=1.0, above=True, meaning="how often the guarantee may fail")
    share_metrics: bool = switch(True, meaning="validation metrics leave, outside the guarantee")

    @property
    def acts(self) -> bool:
        """Whether the job carries a mechanism."""
        return self.mechanism != NONE


@dataclass(frozen=True)
class PrivacyJob:
    """A committed job: a strategy's job with a privacy mechanism.

    Attributes:
        strategy_job: the strategy's job.
        label: as reports show it.
        values: the ``privacy`` section of its experiment.
        federation: what its federation sets otherwise.
    """

    strategy_job: str
    label: str
    values: Mapping[str, Any]
    federation: Mapping[str, Any] = field(default_factory=dict)


def _shown(shown: str, ending: str, label: str, **values: Any) -> dict[str, PrivacyJob]:
    """The committed jobs of one mechanism: of the strategies whose records show it."""
    return {
        f"{name}_{ending}": PrivacyJob(
            strategy_job=name,
            label=f"{strategy.label}, {label}",
            values=values,
            federation={"min_sites": 3},  # one site's spent budget must not end it for the others
        )
        for name, strategy in STRATEGIES.items()
        if shown in strategy.mechanisms.shown
    }


PRIVACY_JOBS: dict[str, PrivacyJob] = {
    **_shown("update_level_dp", "dp", "noised updates", mechanism=UPDATE_NOISE),
}
"""Every committed job with a privacy mechanism by name."""


def privacy_from(values: Mapping[str, Any], where: str) -> PrivacyConfig:
    """The privacy section of an experiment file.

    Raises:
        ConfigError: an unknown key or a value that no mechanism can have.
    """
    config = record_from(PrivacyConfig, values, where, "privacy.")
    check_values(config, where, "privacy.")
    return config


def check_privacy(config: PrivacyConfig, experiment: ExperimentConfig, where: str) -> None:
    """Refuse a mechanism that this experiment would break, or a budget that it would exceed.

    Raises:
        ConfigError: naming the setting and the remedy.
    """
    if not config.acts:
        return
    strategy = experiment.strategy
    admits = strategy.record.mechanisms.update_level_dp
    if admits != YES:
        raise ConfigError(
            f"{where}: privacy.mechanism is '{config.mechanism}', which strategy "
            f"'{strategy.name}' does not admit: {admits}"
        )
    if strategy.initialisation == "independent":
        raise ConfigError(
            f"{where}: privacy.mechanism is '{config.mechanism}', but sites with first weights of "
            "their own send no update of a received model; take strategy.initialisation 'shared'"
        )
    _refuse_batch_norm(config, experiment, where)
    needed = epsilon_of(config, experiment, experiment.training.rounds)
    if needed > config.epsilon:
        raise BudgetSpentError(
            f"{where}: {experiment.training.rounds} rounds spend epsilon {needed:.4g} at delta "
            f"{config.delta:g}, and privacy.epsilon is {config.epsilon:g}; take more noise, fewer "
            "rounds or a larger budget"
        )


def epsilon_of(config: PrivacyConfig, experiment: ExperimentConfig, rounds: int) -> float:
    """The epsilon that a site spends in some rounds; 0 without a mechanism.

    Every shared network is a release of its own in every round.
    """
    if not config.acts:
        return 0.0
    networks = shared_networks(experiment.model.name, experiment.sharing)
    release = Release(config.noise_multiplier, SENSITIVITY, count=rounds * len(networks))
    return epsilon([release], config.delta)


def clipping(config: PrivacyConfig, experiment: ExperimentConfig) -> dict[str, float]:
    """The clipping norm of every shared network."""
    roles = MODELS[experiment.model.name].roles
    norms = {
        "generator": config.clipping_generator,
        "discriminator": config.clipping_discriminator,
    }
    networks = shared_networks(experiment.model.name, experiment.sharing)
    return {name: norms[roles[name]] for name in networks}


def _refuse_batch_norm(config: PrivacyConfig, experiment: ExperimentConfig, where: str) -> None:
    for name, norm in (
        ("generator", experiment.model.generator.norm),
        ("discriminator", experiment.model.discriminator.norm),
    ):
        if norm == "batch":
            raise ConfigError(
                f"{where}: model.{name}.norm is 'batch', whose running statistics are images' data "
                f"that '{config.mechanism}' does not bound; take 'instance'"
            )
