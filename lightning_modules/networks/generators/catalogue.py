"""All generators, found by walking this package; none of them imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import lightning_modules.networks.generators as package
from fedi2i.catalogue import members
from fedi2i.typed_config import choose
from lightning_modules.networks.generators.interface import Generator

if TYPE_CHECKING:
    from torch import nn

    from lightning_modules.configuration import GeneratorConfig

GENERATORS: Mapping[str, Generator] = members(package, "GENERATOR")
"""Every generator by its kind, which is the name of its file."""


def build_generator(config: GeneratorConfig) -> nn.Module:
    """The generator that a configuration names.

    Raises:
        ConfigError: there is none of this kind, or this machine does not allow it.
    """
    if config.is_own:
        from lightning_modules.networks.own_network import own_generator

        return own_generator(config)
    return GENERATORS[choose(config.kind, GENERATORS, "model.generator.kind")].build(config)
