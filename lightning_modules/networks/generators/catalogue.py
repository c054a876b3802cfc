"""All generators, found by walking this package; none of them imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import lightning_modules.networks.generators as package
from fedi2i.catalogue import members
from fedi2i.errors import ConfigError
from fedi2i.typed_config import choose
from lightning_modules.data.source_view import ONE_SLICE, SourceView
from lightning_modules.networks.generators.interface import Generator

if TYPE_CHECKING:
    from torch import nn

    from lightning_modules.networks.configuration import GeneratorConfig

GENERATORS: Mapping[str, Generator] = members(package, "GENERATOR")
"""Every generator by its kind, which is the name of its file."""


def build_generator(config: GeneratorConfig, view: SourceView = ONE_SLICE) -> nn.Module:
    """The generator that a configuration names.

    Args:
        config: the generator's settings.
        view: what it is shown of the source, see ``ModelConfig.view``. A network of a lab's own has
            as many input channels as its own arguments say, which ``own_check`` tries.

    Raises:
        ConfigError: there is none of this kind, it cannot be built for volumes, or this machine
            does not allow it.
    """
    if config.is_own:
        from lightning_modules.networks.own_network import own_generator

        return own_generator(config)
    generator = GENERATORS[choose(config.kind, GENERATORS, "model.generator.kind")]
    if view.patch:
        refuse_slices_alone(config)
        return generator.build(config, view.channels, view.spatial_dims)
    return generator.build(config, view.channels)


def refuse_slices_alone(config: GeneratorConfig) -> None:
    """Refuse one of this project's generators that can be built for slices alone.

    Raises:
        ConfigError: naming those that can be built for volumes.
    """
    if not GENERATORS[config.kind].takes_volumes:
        others = ", ".join(f"'{kind}'" for kind, one in GENERATORS.items() if one.takes_volumes)
        raise ConfigError(
            f"model.patch trains networks of volumes, and a '{config.kind}' is one of slices; take "
            f"{others} or a network of your own"
        )
