"""FedPer: a part of the generators stays at the site."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fedi2i.errors import ConfigError
from fedi2i.typed_config import word
from lightning_modules.strategies.fedavg import WeightedMean
from lightning_modules.strategies.interface import (
    YES,
    LocalInputs,
    Mechanisms,
    Paper,
    SiteRule,
    Strategy,
)

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class FedPerSettings:
    """Which part stays."""

    local_part: str = word(
        "encoder", "encoder", "decoder", meaning="part of the generators that stays at the site"
    )


def local_generator_parts(inputs: LocalInputs) -> tuple[str, ...]:
    """Prefixes of the generators' encoders, or of everything else in them.

    Every generator says itself which of its modules encode.

    Raises:
        ConfigError: no generator is shared.
    """
    prefixes: list[str] = []
    for name in inputs.shared:
        if inputs.roles[name] != "generator":
            continue
        generator: Any = inputs.networks[name]
        encoder = generator.encoder_modules()
        paths = encoder if inputs.settings.local_part == "encoder" else _others(generator, encoder)
        prefixes += [f"{name}.{path}" for path in paths]
    if not prefixes:
        raise ConfigError("strategy 'fedper': no generator is shared, so no part of one can stay")
    return tuple(prefixes)


def _others(network: nn.Module, known: tuple[str, ...]) -> list[str]:
    """Paths of the modules with parameters or buffers of their own that are not under ``known``."""
    return [
        path
        for path, module in network.named_modules()
        if (list(module.parameters(recurse=False)) or list(module.buffers(recurse=False)))
        and not any(path == prefix or path.startswith(f"{prefix}.") for prefix in known)
    ]


STRATEGY = Strategy(
    name="fedper",
    label="FedPer",
    does="keeps a part of the generator at the site",
    paper=Paper(
        "Arivazhagan et al. 2019",
        "arXiv:1912.00818",
        "arivazhagan2019fedper",
        "w = (shared base, personal part)",
    ),
    settings=FedPerSettings,
    server=WeightedMean,
    site=SiteRule(local_parts=local_generator_parts, local_text="a local part"),
    acts=False,
    mechanisms=Mechanisms(update_level_dp=YES),
)
