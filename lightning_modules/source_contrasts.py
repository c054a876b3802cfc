"""Sources of several contrasts: what an experiment must say of them, and refusals."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from fedi2i.errors import ConfigError, DataError
from partitions.manifest import SiteManifest
from partitions.preparation.configuration import PreparationConfig

if TYPE_CHECKING:
    from lightning_modules.configuration import ExperimentConfig
    from lightning_modules.model_configuration import ModelConfig


def shown_contrasts(model: ModelConfig, preparation: PreparationConfig) -> ModelConfig:
    """The model, which is told how many contrasts of the source it is shown.

    Raises:
        ConfigError: it was told another number.
    """
    found = len(preparation.contrasts)
    if model.source_contrasts not in (1, found):
        raise ConfigError(
            f"model.source_contrasts is {model.source_contrasts}, but data.preparation names "
            f"{found} of the source; leave the key out, as it follows from the other"
        )
    return model if model.source_contrasts == found else replace(model, source_contrasts=found)


def check_source_contrasts(experiment: ExperimentConfig, where: str) -> None:
    """Refuse what several contrasts of a source do not go with.

    Raises:
        ConfigError: naming the key, what is wrong and what to do.
    """
    model = experiment.model
    if model.source_contrasts == 1:
        if model.contrast_dropout:
            raise ConfigError(
                f"{where}: model.contrast_dropout is {model.contrast_dropout:g}, but the source is "
                "one contrast; name others in data.preparation.further_sources, or leave it out"
            )
        return
    several = f"{where}: data.preparation.further_sources gives the source several contrasts, and"
    if not model.described.paired or model.described.conditional:
        raise ConfigError(
            f"{several} '{model.name}' translates from one contrast that it also translates to; "
            "take 'pix2pix' or 'regression'"
        )
    for key, value in (("neighbours", model.neighbours), ("patch", list(model.patch))):
        if value:
            raise ConfigError(
                f"{several} model.{key} {value} is for a source of one; leave one of both out"
            )


def refuse_several_contrasts(experiment: ExperimentConfig, where: str, reason: str) -> None:
    """Refuse a source of several contrasts, where somebody knows of one alone.

    Args:
        experiment: the experiment.
        where: the file or command, for the message.
        reason: what knows of one contrast alone, as a clause.

    Raises:
        ConfigError: the source has several.
    """
    if experiment.model.source_contrasts > 1:
        raise ConfigError(
            f"{where}: the source has several contrasts (data.preparation.further_sources), and "
            f"{reason}; leave the key out"
        )


def refuse_unheld(preparation: PreparationConfig, manifests: Iterable[SiteManifest]) -> None:
    """Refuse a contrast of the source that no patient has to train on.

    A site may lack a contrast, if another one has it.

    Args:
        preparation: of the experiment.
        manifests: of the sites that train.

    Raises:
        DataError: naming the contrast.
    """
    missing = unheld(preparation, manifests)
    if missing:
        raise DataError(
            f"data.preparation names '{missing[0]}' as a contrast of the source, and no training "
            f"patient of any site has it beside '{preparation.target}'; correct its name, or "
            "leave it out"
        )


def unheld(preparation: PreparationConfig, manifests: Iterable[SiteManifest]) -> list[str]:
    """Those of several contrasts of the source that no patient has to train on.

    Args:
        preparation: of the experiment.
        manifests: of the sites that train.

    Returns:
        Their names in the order of the key; none where the source is one contrast.
    """
    if not preparation.further_sources:
        return []
    held = {
        name
        for manifest in manifests
        for record in manifest.subjects
        if record.split == "train" and preparation.target in record.files
        for name in record.files
    }
    return [name for name in preparation.contrasts.values() if name not in held]
