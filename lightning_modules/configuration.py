"""The experiment: everything a run is made of, as frozen records read from one small YAML file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fedi2i.errors import ConfigError
from fedi2i.typed_config import (
    LEFT_OUT_WHILE_UNSET,
    as_dict,
    check_values,
    merged,
    number,
    read_yaml,
    record_from,
    word,
)
from lightning_modules.contrasts import SitePair, check_contrasts, site_pair
from lightning_modules.data.source_view import check_patch
from lightning_modules.metrics.presets.catalogue import DEFAULT, PREPARED, PRESETS, needs_scans
from lightning_modules.metrics.presets.interface import HOUNSFIELD
from lightning_modules.model_configuration import ModelConfig
from lightning_modules.model_networks import shared_networks
from lightning_modules.networks.configuration import (
    check_levels,
)
from lightning_modules.networks.generators.catalogue import GENERATORS, refuse_slices_alone
from lightning_modules.networks.generators.interface import named
from lightning_modules.source_contrasts import check_source_contrasts, shown_contrasts
from lightning_modules.strategies.catalogue import StrategyConfig, strategy_from, strategy_values
from partitions.preparation.configuration import NONE, PreparationConfig

OPTIMIZERS = ("adam", "sgd")
OPTIMIZER_STATES = ("reset", "keep")
PRECISIONS = ("auto", "fp32", "bf16")
SCHEDULES = ("constant", "linear", "cosine")
OF_OUR_OPTIMIZERS = (
    "learning_rate_generator",
    "learning_rate_discriminator",
    "beta1",
    "beta2",
    "optimizer",
)
"""Settings of training that say nothing of a module of a lab's own: it has its own optimizers."""


@dataclass(frozen=True)
class DataConfig:
    """Which data set, by name, and how its scans are prepared. Sites map the name to a folder.

    Attributes:
        dataset: its name.
        preparation: how scans become slices, and which pair of sequences the finished model is for.
        pairs: source and target of the sites that hold another pair.
    """

    dataset: str = "demo"
    preparation: PreparationConfig = field(default_factory=PreparationConfig)
    pairs: tuple[SitePair, ...] = field(default=(), metadata=LEFT_OUT_WHILE_UNSET)

    def __post_init__(self) -> None:
        """Accept mappings, as YAML gives them."""
        object.__setattr__(self, "pairs", tuple(map(site_pair, self.pairs)))

    def preparation_at(self, site: str) -> PreparationConfig:
        """How a site's scans are prepared: as everybody's, but for its own pair."""
        for own in self.pairs:
            if own.site == site:
                return replace(self.preparation, source=own.source, target=own.target)
        return self.preparation


@dataclass(frozen=True)
class AugmentationConfig:
    """How training slices are changed, anew in every step; see ``lightning_modules/data``.

    What moves pixels does the same to both slices of a pair. What changes values is for the source
    alone: scanners differ in it, and the target's values are what the model has to give.

    Attributes:
        flip: probability that a slice is mirrored, columns in reverse order.
        rotation: largest angle in degrees, to either side.
        translation: largest shift along rows and along columns, as a part of the side.
        scaling: a slice is enlarged or reduced by at most the factor 1 + this.
        contrast: intensities in [0, 1] of the source get an exponent from 1 / (1 + this) to
            1 + this.
        brightness: they are multiplied by 1 / (1 + this) to 1 + this.
        noise: largest standard deviation of the normal noise on them.
    """

    flip: float = number(0.0, most=1.0)
    rotation: float = number(0.0, most=180.0)
    translation: float = number(0.0, most=0.5)
    scaling: float = number(0.0, most=1.0)
    contrast: float = number(0.0, most=4.0)
    brightness: float = number(0.0, most=1.0)
    noise: float = number(0.0, most=1.0)

    @property
    def bends(self) -> bool:
        """Whether slices are resampled."""
        return any((self.rotation, self.translation, self.scaling))

    @property
    def recolours(self) -> bool:
        """Whether the source's values change."""
        return any((self.contrast, self.brightness, self.noise))

    @property
    def is_off(self) -> bool:
        """Whether slices stay as they are."""
        return not (self.flip or self.bends or self.recolours)


@dataclass(frozen=True)
class TrainingConfig:
    """Local training; the same for federated, local-only and centralised arms.

    Attributes:
        rounds: communication rounds (other arms train the same number of stretches).
        steps: optimizer steps of each network per site and round.
        batch_size: slices per step.
        optimizer: ``adam``, or ``sgd`` without momentum (for checks against theory).
        optimizer_state: ``reset`` starts every round with fresh Adam moments, so that a site keeps
            nothing between rounds; ``keep`` carries them over. docs/strategies.md compares both.
        precision: ``auto`` picks bf16 only where the hardware multiplies it natively.
        schedule: learning rates over the whole run, see ``lightning_modules/training/schedule.py``.
        warm_up: share of every round's steps over which learning rates rise to their full value.
            With ``optimizer_state: reset`` Adam's first steps of a round have the size of the rate
            whatever the gradient is.
        augmentation: how slices are changed in every step; off unless set.
    """

    rounds: int = number(6, above=True, most=100_000)
    steps: int = number(150, above=True, most=1_000_000)
    batch_size: int = number(2, above=True, most=4096)
    learning_rate_generator: float = number(2e-3, above=True, most=1000.0)
    learning_rate_discriminator: float = number(5e-4, above=True, most=1000.0)
    beta1: float = number(0.5, high=1.0)
    beta2: float = number(0.999, high=1.0)
    optimizer: str = word("adam", *OPTIMIZERS)
    optimizer_state: str = word("reset", *OPTIMIZER_STATES)
    precision: str = word("auto", *PRECISIONS)
    schedule: str = word("constant", *SCHEDULES, left_out=True)
    warm_up: float = number(0.0, high=1.0, left_out=True)
    augmentation: AugmentationConfig = field(
        default_factory=AugmentationConfig, metadata=LEFT_OUT_WHILE_UNSET
    )

    def rates(self) -> dict[str, float]:
        """The full learning rate of each role of a network."""
        return {
            "generator": self.learning_rate_generator,
            "discriminator": self.learning_rate_discriminator,
        }


@dataclass(frozen=True)
class ExperimentConfig:
    """One experiment. An experiment file holds only what differs from these defaults.

    Attributes:
        preset: by which published evaluation patients are measured.
    """

    seed: int = 2026
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    preset: str = word(DEFAULT, *PRESETS, left_out=True)
    sharing: str = "generator+discriminator"
    # Read by ``strategy_from``: which settings there are depends on the strategy's name.
    strategy: StrategyConfig = field(
        default_factory=StrategyConfig, metadata={"omegaconf_ignore": True}
    )

    def __post_init__(self) -> None:
        """Tell the model how many contrasts of the source there are."""
        object.__setattr__(self, "model", shown_contrasts(self.model, self.data.preparation))


def experiment_from(values: Mapping[str, Any], where: str) -> ExperimentConfig:
    """Build and check an experiment from a mapping.

    Args:
        values: what differs from the defaults.
        where: file or argument the values came from, for messages.

    Raises:
        ConfigError: an unknown key or value, a wrong type, or a number out of range.
    """
    others = {key: value for key, value in values.items() if key != "strategy"}
    experiment = record_from(ExperimentConfig, others, where)
    chosen = values.get("strategy") or {}
    if not isinstance(chosen, Mapping):
        raise ConfigError(f"{where}: 'strategy' holds keys of its own, not {chosen!r}")
    experiment = replace(experiment, strategy=strategy_from(chosen, where))
    check_values(experiment, where)
    experiment.model.check_module(where)
    _check_sharing(experiment, where)
    _check_model(experiment, where)
    check_contrasts(experiment, where)
    check_source_contrasts(experiment, where)
    _check_size(experiment, where)
    _check_preset(experiment, where)
    return experiment


def read_experiment(path: Path, overrides: Mapping[str, Any] | None = None) -> ExperimentConfig:
    """Read an experiment file and merge overrides (such as job arguments) over it.

    A file that also names a federation (``jobs/experiments``) is read for its experiment alone.
    """
    values = read_yaml(path)
    if set(values) <= {"federation", "experiment"}:
        values = values.get("experiment") or {}
    return experiment_from(merged(values, overrides or {}), str(path))


def experiment_values(experiment: ExperimentConfig) -> dict[str, Any]:
    """The experiment as plain values, all spelled out; settings that are not set are left out."""
    values = {**as_dict(experiment), "strategy": strategy_values(experiment.strategy)}
    if experiment.model.module.is_own:
        training = values["training"].items()
        values["training"] = {k: value for k, value in training if k not in OF_OUR_OPTIMIZERS}
    return values


def _check_sharing(experiment: ExperimentConfig, where: str) -> None:
    try:
        shared_networks(experiment.model.described, experiment.sharing)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _check_model(experiment: ExperimentConfig, where: str) -> None:
    """What no single key is wrong about, but some of them together."""
    model = experiment.model
    if model.module.is_own:
        _check_own_optimizers(experiment.training, model.module.kind, where)
    if model.described.paired and experiment.data.preparation.pairing != "paired":
        raise ConfigError(
            f"{where}: model '{model.name}' trains on pairs of slices, but "
            f"data.preparation.pairing is '{experiment.data.preparation.pairing}'; set it to "
            "'paired' or take model 'cyclegan'"
        )
    if model.lambda_features:
        _check_features(model, where)
    if model.neighbours and not model.described.paired:
        raise ConfigError(
            f"{where}: model.neighbours is {model.neighbours}, but '{model.name}' brings a "
            "translation back to its source, and a translated slice has no translated neighbours; "
            "set it to 0, or take 'pix2pix' or 'regression'"
        )
    if model.name == "cyclegan" and model.lambda_cycle == 0:
        raise ConfigError(
            f"{where}: model.lambda_cycle is 0, but without the cycle nothing ties a translation "
            "of 'cyclegan' to its source; give a positive weight"
        )
    if model.patch and experiment.training.augmentation.bends:
        raise ConfigError(
            f"{where}: training.augmentation turns, shifts or scales, and beyond the border of a "
            "patch there is nothing to show; set rotation, translation and scaling to 0 beside "
            "model.patch"
        )
    if not model.described.paired and model.lambda_identity:
        _check_recoloured_identity(experiment, where)


def _check_own_optimizers(training: TrainingConfig, module: str, where: str) -> None:
    unset = TrainingConfig()
    for key in OF_OUR_OPTIMIZERS:
        if getattr(training, key) != getattr(unset, key):
            raise ConfigError(
                f"{where}: training.{key} says nothing of a module of your own, whose "
                f"configure_optimizers() makes the optimizers; tell '{module}' under "
                "model.module.args"
            )


def _check_features(model: ModelConfig, where: str) -> None:
    if model.name != "pix2pix":
        raise ConfigError(
            f"{where}: model.lambda_features weighs what the discriminator of 'pix2pix' sees, and "
            f"model '{model.name}' has no such term; leave it out"
        )
    if model.discriminator.is_own:
        raise ConfigError(
            f"{where}: model.lambda_features needs the inner layers of a discriminator, and a "
            "network of your own gives its logits alone; leave it out, or take this project's "
            "discriminator"
        )


def _check_recoloured_identity(experiment: ExperimentConfig, where: str) -> None:
    if experiment.training.augmentation.recolours:
        raise ConfigError(
            f"{where}: training.augmentation changes the source's values, and the identity term of "
            f"'{experiment.model.name}' would teach the generator to keep such changes; set "
            "model.lambda_identity to 0, or contrast, brightness and noise"
        )


def _check_preset(experiment: ExperimentConfig, where: str) -> None:
    """Metrics are computed in the target's unit."""
    target = experiment.data.preparation.target_scaling
    if PRESETS[experiment.preset].in_hu and target.unit != HOUNSFIELD:
        raise ConfigError(
            f"{where}: preset '{experiment.preset}' measures HU, but the target is scaled by "
            f"'{target.kind}'; set data.preparation.target_scaling to a window in HU, or take "
            f"preset '{DEFAULT}'"
        )
    _check_native_grid(experiment, where)
    if target.unit == HOUNSFIELD and not PRESETS[experiment.preset].in_hu:
        known = ", ".join(name for name, preset in PRESETS.items() if preset.in_hu)
        raise ConfigError(
            f"{where}: the target is in HU, which preset '{experiment.preset}' does not measure; "
            f"name one of {known} under 'preset'"
        )


def _check_native_grid(experiment: ExperimentConfig, where: str) -> None:
    """What cannot be measured on the scan as it is stored, or not over the preset's range."""
    preset, preparation = PRESETS[experiment.preset], experiment.data.preparation
    if not preset.in_hu:
        return
    if needs_scans(preset) and preparation.registration != NONE:
        raise ConfigError(
            f"{where}: preset '{experiment.preset}' compares with the target as it is stored, "
            f"which is not on the source's grid; take '{experiment.preset}{PREPARED}', or lay the "
            "scans on one grid before they are brought in"
        )
    window, measured = preparation.target_scaling.limits(), preset.facts["clip"]
    if window[0] > measured[0] or window[1] < measured[1]:
        raise ConfigError(
            f"{where}: the target's window from {window[0]:g} to {window[1]:g} HU is narrower than "
            f"that of preset '{experiment.preset}', {measured[0]:g} to {measured[1]:g} HU: what is "
            "cut off could never be translated; widen data.preparation.target_scaling"
        )


def _check_size(experiment: ExperimentConfig, where: str) -> None:
    generator, discriminator = experiment.model.generator, experiment.model.discriminator
    if experiment.model.module.is_own:
        check_patch(experiment.model.view, experiment.data.preparation.size, where)
        return
    check_levels(generator, where)
    discriminator.check_own("discriminator", where)
    view, prepared = experiment.model.view, experiment.data.preparation.size
    check_patch(view, prepared, where)
    size = view.sides(prepared)
    if not generator.is_own:
        try:
            if view.patch:
                refuse_slices_alone(generator)
            GENERATORS[generator.kind].refuse(generator, size)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from error
    if discriminator.is_own:
        return
    layers = discriminator.layers
    # Every strided layer halves the slice; two 4x4 convolutions follow, and patches must remain.
    if min(size) < 3 * 2**layers:
        raise ConfigError(
            f"{where}: {named(size)} is too small for a discriminator of {layers} layers; take "
            "fewer of them"
        )
