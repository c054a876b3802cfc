"""All generators, found by walking this package; none of them imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import lightning_modules.networks.generators as package
from fedi2i.catalogue import members
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
        ConfigError: there is none of this kind, or this machine does not allow it.
    """
    if config.is_own:
        from lightning_modules.networks.own_network import own_generator

        return own_generator(config)
    generator = GENERATORS[choose(config.kind, GENERATORS, "model.generator.kind")]
    return generator.build(config, view.channels)
