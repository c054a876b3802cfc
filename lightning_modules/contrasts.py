"""Sites with different pairs of contrasts: what an experiment must say of them, and refusals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fedi2i.errors import ConfigError
from fedi2i.site_names import check_site_names
from fedi2i.typed_config import nearest, record_from

if TYPE_CHECKING:
    from lightning_modules.configuration import ExperimentConfig
    from lightning_modules.model_configuration import ModelConfig

_MODEL = "conditional"
_LEAST_LEVELS = 3
"""Of a generator: what makes the outermost level of a U-Net's decoder has no normalisation."""


@dataclass(frozen=True)
class SitePair:
    """The sequences that a site holds, as its manifest names them."""

    site: str = ""
    source: str = ""
    target: str = ""


def site_pair(value: SitePair | Mapping[str, Any]) -> SitePair:
    """The record of an entry of ``data.pairs``.

    Raises:
        ConfigError: an unknown key, or a value of the wrong type.
    """
    if isinstance(value, SitePair):
        return value
    return record_from(SitePair, value, "data.pairs")


def check_contrasts(experiment: ExperimentConfig, where: str) -> None:
    """Refuse pairs and contrasts that do not fit each other, the model or the strategy.

    Raises:
        ConfigError: naming the key, what is wrong and what to do.
    """
    model = experiment.model
    if not model.described.conditional:
        _refuse_without_codes(experiment, where)
        return
    _check_names(model.contrasts, where)
    preparation = experiment.data.preparation
    _check_pair((preparation.source, preparation.target), model, f"{where}: data.preparation")
    _check_sites([pair.site for pair in experiment.data.pairs], f"{where}: data.pairs")
    for pair in experiment.data.pairs:
        _check_pair((pair.source, pair.target), model, f"{where}: data.pairs of '{pair.site}'")
    if preparation.source_scaling != preparation.target_scaling:
        raise ConfigError(
            f"{where}: data.preparation.source_scaling and .target_scaling differ, but a contrast "
            f"is the source at one site of '{model.name}' and the target at another; give both the "
            "same"
        )
    _check_generator(model, where)
    rule = experiment.strategy.record.server
    if rule is not None and rule.matches_channels:
        raise ConfigError(
            f"{where}: strategy '{experiment.strategy.name}' finds no channel that it may move in "
            f"a generator of '{model.name}', whose modulation reads codes, and would be FedAvg; "
            "take 'fedavg'"
        )


def refuse_conditional(experiment: ExperimentConfig, where: str, reason: str) -> None:
    """Refuse a model whose sites hold different pairs, where somebody knows of one pair alone.

    Args:
        experiment: the experiment.
        where: the file or command, for the message.
        reason: what knows of one pair alone, as a clause.

    Raises:
        ConfigError: the model is told by codes which contrasts it translates.
    """
    if experiment.model.described.conditional:
        raise ConfigError(
            f"{where}: model '{experiment.model.name}' translates between several contrasts, and "
            f"{reason}; take 'pix2pix' or 'regression'"
        )


def _refuse_without_codes(experiment: ExperimentConfig, where: str) -> None:
    for key, value in (
        ("model.contrasts", experiment.model.contrasts),
        ("data.pairs", experiment.data.pairs),
    ):
        if value:
            raise ConfigError(
                f"{where}: {key} is for a model that is told which contrasts it translates, and "
                f"'{experiment.model.name}' is not; take model '{_MODEL}', or leave the key out"
            )


def _check_names(contrasts: Sequence[str], where: str) -> None:
    twice = sorted({name for name in contrasts if contrasts.count(name) > 1})
    if twice:
        raise ConfigError(f"{where}: model.contrasts names '{twice[0]}' twice; name each once")
    if len(contrasts) < 2:
        raise ConfigError(
            f"{where}: model.contrasts is {list(contrasts)}; name all sequences that the sites of "
            f"a '{_MODEL}' model hold, such as [t1, t2, flair]"
        )


def _check_sites(sites: Sequence[str], where: str) -> None:
    check_site_names(sites, where)
    twice = sorted({site for site in sites if sites.count(site) > 1})
    if twice:
        raise ConfigError(f"{where} names site '{twice[0]}' twice; a site has one pair")


def _check_pair(pair: Sequence[str], model: ModelConfig, where: str) -> None:
    if pair[0] == pair[1]:
        raise ConfigError(
            f"{where} has source '{pair[0]}' and target '{pair[1]}'; write two different sequences"
        )
    for name in pair:
        if name not in model.contrasts:
            raise ConfigError(
                f"{where} names '{name}', which model.contrasts does not; "
                f"{nearest(name, model.contrasts)}"
            )


def _check_generator(model: ModelConfig, where: str) -> None:
    if model.generator.is_own:
        raise ConfigError(
            f"{where}: model '{model.name}' modulates the normalisation of this project's "
            "generators, and a network of your own has its own; take 'unet' or 'resnet'"
        )
    if model.generator.kind == "srresnet" or len(model.generator.channels) < _LEAST_LEVELS:
        raise ConfigError(
            f"{where}: model.generator has no normalisation behind its encoder, where model "
            f"'{model.name}' is told its target; take kind 'unet' or 'resnet' and three levels or "
            "more"
        )
    if model.generator.norm != "instance":
        raise ConfigError(
            f"{where}: model.generator.norm is '{model.generator.norm}', but model '{model.name}' "
            "modulates instance normalisation; set it to 'instance'"
        )
    if model.patch:
        raise ConfigError(
            f"{where}: model.patch is {list(model.patch)}, but model '{model.name}' is one of "
            "slices; leave it out"
        )
    if model.neighbours:
        raise ConfigError(
            f"{where}: model.neighbours is {model.neighbours}, but '{model.name}' translates what "
            "it has translated, and a translated slice has no translated neighbours; set it to 0"
        )
