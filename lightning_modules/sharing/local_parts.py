"""The parts of shared networks that a strategy keeps at the site, found by module and not by name.

Matching names fails without a word where a network calls its layers otherwise (``model.1.2`` in
place of ``norm``), so FedBN asks every module what it is, and FedPer asks the generator which of
its modules encode.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fedi2i.errors import ConfigError
from lightning_modules.configuration import ExperimentConfig
from lightning_modules.model_networks import MODELS, shared_networks
from lightning_modules.sharing.scope import SharingScope

if TYPE_CHECKING:
    from torch import nn


def sharing_scope(
    experiment: ExperimentConfig, networks: nn.ModuleDict | None = None
) -> SharingScope:
    """The scope of an experiment: its shared networks without what its strategy keeps local.

    Args:
        experiment: the experiment.
        networks: its networks, where they are at hand; else they are built.
    """
    names = shared_networks(experiment.model.name, experiment.sharing)
    if experiment.strategy.name not in ("fedbn", "fedper"):
        return SharingScope(names)
    # Imported here, as most strategies keep nothing local and need not wait for MONAI.
    from lightning_modules.networks.building import build_networks

    built = networks or build_networks(experiment.model, experiment.seed)
    if experiment.strategy.name == "fedbn":
        return SharingScope(names, _normalisation_layers(built, names))
    return SharingScope(names, _local_generator_parts(built, names, experiment))


def _normalisation_layers(networks: nn.ModuleDict, names: tuple[str, ...]) -> tuple[str, ...]:
    """Prefixes of all normalisation layers that hold anything at all.

    Instance normalisation without affine parameters holds nothing, so that FedBN is FedAvg there.
    """
    from torch import nn
    from torch.nn.modules.batchnorm import _NormBase

    norms = (_NormBase, nn.GroupNorm, nn.LayerNorm)
    return tuple(
        f"{name}.{path}"
        for name in names
        for path, module in networks[name].named_modules()
        if isinstance(module, norms) and module.state_dict()
    )


def _local_generator_parts(
    networks: nn.ModuleDict, names: tuple[str, ...], experiment: ExperimentConfig
) -> tuple[str, ...]:
    roles = MODELS[experiment.model.name].roles
    prefixes: list[str] = []
    for name in names:
        if roles[name] != "generator":
            continue
        generator: Any = networks[name]
        encoder = generator.encoder_modules()
        if experiment.strategy.local_part == "encoder":
            prefixes += [f"{name}.{path}" for path in encoder]
        else:
            prefixes += [f"{name}.{path}" for path in _others(generator, encoder)]
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
