"""FedPer: the generators' encoder is shared, their decoder stays at the site."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fedi2i.errors import ConfigError
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


def decoders(inputs: LocalInputs) -> tuple[str, ...]:
    """Prefixes of everything in the shared generators that does not encode.

    The paper shares the first layers ("base") and keeps the last ones ("personalisation layers")
    at the site; a generator's first layers are its encoder.

    Raises:
        ConfigError: no generator is shared.
    """
    return tuple(
        f"{name}.{path}"
        for name, generator in shared_generators(inputs, "fedper").items()
        for path in _others(generator, encoder_of(name, generator))
    )


def shared_generators(inputs: LocalInputs, strategy: str) -> dict[str, Any]:
    """The shared generators by name; every generator says itself which of its modules encode.

    Args:
        inputs: the networks, and which are shared.
        strategy: for the message.

    Raises:
        ConfigError: no generator is shared.
    """
    names = [name for name in inputs.shared if inputs.roles[name] == "generator"]
    if not names:
        raise ConfigError(
            f"strategy '{strategy}': no generator is shared, so no part of one can stay"
        )
    return {name: inputs.networks[name] for name in names}


def encoder_of(name: str, generator: Any) -> tuple[str, ...]:
    """Paths of the modules of a generator that encode.

    Raises:
        ConfigError: it does not say which.
    """
    if not hasattr(generator, "encoder_modules"):
        raise ConfigError(
            f"'{name}', a {type(generator).__name__}, does not say which of its modules encode, "
            "and FedPer and LG-FedAvg share one part of a generator; give it a method "
            "encoder_modules(), or take another strategy"
        )
    paths: tuple[str, ...] = generator.encoder_modules()
    return paths


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
    does="keeps the generators' decoders at the site",
    paper=Paper(
        "Arivazhagan et al. 2019",
        "arXiv:1912.00818",
        "arivazhagan2019fedper",
        "w = (shared first layers, personal last layers)",
    ),
    server=WeightedMean,
    site=SiteRule(local_parts=decoders, local_text="its own decoder"),
    acts=False,
    mechanisms=Mechanisms(
        update_level_dp=YES, patient_level_dp=YES, encryption=YES, secure_aggregation=YES
    ),
)
