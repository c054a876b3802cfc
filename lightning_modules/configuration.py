"""The experiment: everything a run is made of, as frozen records read from one small YAML file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from partitions.errors import ConfigError
from partitions.preparation.configuration import PreparationConfig
from partitions.typed_config import choose, merged, read_yaml, record_from

OPTIMIZER_STATES = ("reset", "keep")
PRECISIONS = ("auto", "fp32", "bf16")
ADVERSARIAL_LOSSES = ("lsgan", "bce")
NORMS = ("instance", "instance_affine", "batch")
SCOPES = ("generator", "generator+discriminator")
STRATEGIES = ("fedavg", "fedprox")


@dataclass(frozen=True)
class DataConfig:
    """Which data set, by name, and how its scans are prepared. Sites map the name to a folder."""

    dataset: str = "demo"
    preparation: PreparationConfig = field(default_factory=PreparationConfig)


@dataclass(frozen=True)
class GeneratorConfig:
    """MONAI U-Net: feature channels per level (each level halves the resolution)."""

    channels: tuple[int, ...] = (16, 32, 64, 128)
    residual_units: int = 0
    norm: str = "instance"
    dropout: float = 0.0


@dataclass(frozen=True)
class DiscriminatorConfig:
    """MONAI PatchGAN: channels of its first layer and number of strided layers."""

    channels: int = 16
    layers: int = 3
    norm: str = "instance"


@dataclass(frozen=True)
class ModelConfig:
    """pix2pix: networks and loss (Isola et al., CVPR 2017, doi:10.1109/CVPR.2017.632)."""

    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    adversarial_loss: str = "lsgan"
    lambda_l1: float = 100.0


@dataclass(frozen=True)
class TrainingConfig:
    """Local training; the same for federated, local-only and centralised arms.

    Attributes:
        rounds: communication rounds (other arms train the same number of stretches).
        steps: optimizer steps of each network per site and round.
        batch_size: slices per step.
        optimizer_state: ``reset`` starts every round with fresh Adam moments, so that a site keeps
            nothing between rounds; ``keep`` carries them over. docs/strategies.md compares both.
        precision: ``auto`` picks bf16 only where the hardware multiplies it natively.
    """

    rounds: int = 6
    steps: int = 150
    batch_size: int = 2
    learning_rate_generator: float = 2e-3
    learning_rate_discriminator: float = 5e-4
    beta1: float = 0.5
    beta2: float = 0.999
    optimizer_state: str = "reset"
    precision: str = "auto"


@dataclass(frozen=True)
class StrategyConfig:
    """The federated strategy as far as sites take part in it.

    Attributes:
        name: ``fedavg`` or ``fedprox``.
        mu_generator: FedProx coefficient of the generator; 0 is FedAvg.
        mu_discriminator: FedProx coefficient of the discriminator; 0 is FedAvg.
    """

    name: str = "fedavg"
    mu_generator: float = 0.0
    mu_discriminator: float = 0.0


@dataclass(frozen=True)
class ExperimentConfig:
    """One experiment. An experiment file holds only what differs from these defaults."""

    seed: int = 2026
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    sharing: str = "generator+discriminator"
    strategy: StrategyConfig = field(default_factory=StrategyConfig)


def experiment_from(values: Mapping[str, Any], where: str) -> ExperimentConfig:
    """Build and check an experiment from a mapping.

    Args:
        values: what differs from the defaults.
        where: file or argument the values came from, for messages.

    Raises:
        ConfigError: an unknown key or value, a wrong type, or a number out of range.
    """
    experiment = record_from(ExperimentConfig, values, where)
    _check_choices(experiment, where)
    _check_ranges(experiment, where)
    return experiment


def read_experiment(path: Path, overrides: Mapping[str, Any] | None = None) -> ExperimentConfig:
    """Read an experiment file and merge overrides (such as job arguments) over it.

    A file that also names a federation (``jobs/experiments``) is read for its experiment alone.
    """
    values = read_yaml(path)
    if "experiment" in values and set(values) <= {"federation", "experiment"}:
        values = values["experiment"] or {}
    return experiment_from(merged(values, overrides or {}), str(path))


def _check_choices(experiment: ExperimentConfig, where: str) -> None:
    model, training = experiment.model, experiment.training
    choose(experiment.strategy.name, STRATEGIES, f"{where}: strategy.name")
    choose(experiment.sharing, SCOPES, f"{where}: sharing")
    choose(model.adversarial_loss, ADVERSARIAL_LOSSES, f"{where}: model.adversarial_loss")
    choose(model.generator.norm, NORMS, f"{where}: model.generator.norm")
    choose(model.discriminator.norm, NORMS, f"{where}: model.discriminator.norm")
    choose(training.optimizer_state, OPTIMIZER_STATES, f"{where}: training.optimizer_state")
    choose(training.precision, PRECISIONS, f"{where}: training.precision")


def _check_ranges(experiment: ExperimentConfig, where: str) -> None:
    training, strategy = experiment.training, experiment.strategy
    positive = {
        "training.rounds": training.rounds,
        "training.steps": training.steps,
        "training.batch_size": training.batch_size,
        "training.learning_rate_generator": training.learning_rate_generator,
        "training.learning_rate_discriminator": training.learning_rate_discriminator,
        "model.discriminator.channels": experiment.model.discriminator.channels,
        "model.discriminator.layers": experiment.model.discriminator.layers,
    }
    for key, value in positive.items():
        if not 0 < value < math.inf:  # also refuses nan
            raise ConfigError(f"{where}: {key} is {value}; it must be positive and finite")
    not_negative = {
        "model.lambda_l1": experiment.model.lambda_l1,
        "model.generator.residual_units": experiment.model.generator.residual_units,
        "strategy.mu_generator": strategy.mu_generator,
        "strategy.mu_discriminator": strategy.mu_discriminator,
    }
    for key, number in not_negative.items():
        if not 0 <= number < math.inf:
            raise ConfigError(f"{where}: {key} is {number}; it must be finite and not negative")
    below_one = {
        "model.generator.dropout": experiment.model.generator.dropout,
        "training.beta1": training.beta1,
        "training.beta2": training.beta2,
    }
    for key, number in below_one.items():
        if not 0 <= number < 1:
            raise ConfigError(f"{where}: {key} is {number}; it must be in [0, 1)")
    if strategy.name != "fedprox" and (strategy.mu_generator or strategy.mu_discriminator):
        raise ConfigError(
            f"{where}: strategy.mu_* belongs to 'fedprox', but strategy.name is '{strategy.name}'"
        )
    _check_size(experiment, where)


def _check_size(experiment: ExperimentConfig, where: str) -> None:
    channels = experiment.model.generator.channels
    if len(channels) < 2 or min(channels) <= 0:
        raise ConfigError(
            f"{where}: model.generator.channels is {list(channels)}; give two or more levels"
        )
    divisor = 2 ** (len(channels) - 1)
    size = experiment.data.preparation.size
    if any(side % divisor for side in size):
        raise ConfigError(
            f"{where}: data.preparation.size {list(size)} must be divisible by {divisor} for a "
            f"generator of {len(channels)} levels"
        )
    layers = experiment.model.discriminator.layers
    # Every strided layer halves the slice; two 4x4 convolutions follow, and patches must remain.
    if min(size) < 3 * 2**layers or max(size) == divisor:
        raise ConfigError(
            f"{where}: data.preparation.size {list(size)} is too small for a discriminator of "
            f"{layers} layers and a generator of {len(channels)} levels; take fewer of them"
        )
