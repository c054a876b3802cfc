"""The generators that a configuration can name: one file each, found by walking this folder.

Reading a configuration imports all of these files, so none of them imports torch or MONAI before
its network is built. Layer classes of our own stand in ``lightning_modules/networks/layers.py``.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from fedi2i.errors import ConfigError
from fedi2i.typed_config import choose

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lightning_modules.configuration import GeneratorConfig

Size = tuple[int, ...]
"""Rows and columns of the prepared slices."""


class Translator(Protocol):
    """What the network of a generator offers; it is an ``nn.Module`` besides."""

    def forward(self, source: Tensor) -> Tensor:
        """Translate slices.

        Shapes: (batch, 1, rows, columns) to the same; values in [-1, 1] to [-1, 1].
        """

    def encoder_modules(self) -> tuple[str, ...]:
        """Paths of the submodules that encode, for FedPer; all others with parameters decode."""


@dataclass(frozen=True)
class Generator:
    """One entry of this catalogue.

    Attributes:
        kind: what ``model.generator.kind`` calls it.
        summary: what it is, in some words and with its source.
        refuse: raises ``ConfigError`` for a configuration, and a size of the slices, that the
            network cannot be built for or cannot be trained with. It says which key is wrong and
            what to do; the caller adds the file. Norm, dropout and number of channels are checked
            already.
        build: the network, see ``Translator``. Initial weights are drawn later by
            ``initialise``, which must have a rule for every layer with parameters.
    """

    kind: str
    summary: str
    refuse: Callable[[GeneratorConfig, Size], None]
    build: Callable[[GeneratorConfig], nn.Module]


@cache
def generators() -> Mapping[str, Generator]:
    """All generators by kind, in the order of their names."""
    files = [
        import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)
    ]
    found: list[Generator] = [file.GENERATOR for file in files]
    return MappingProxyType({generator.kind: generator for generator in found})


def build_generator(config: GeneratorConfig) -> nn.Module:
    """The generator that a configuration names.

    Raises:
        ConfigError: there is none of this kind.
    """
    kind = choose(config.kind, generators(), "model.generator.kind")
    return generators()[kind].build(config)


def refuse_indivisible(config: GeneratorConfig, size: Size) -> None:
    """Refuse slices that cannot be halved once for every level below the first.

    Raises:
        ConfigError: a side of the slices is not divisible.
    """
    divisor = lowest_level_divisor(config)
    if any(side % divisor for side in size):
        raise ConfigError(
            f"data.preparation.size {list(size)} must be divisible by {divisor} for a "
            f"generator of {len(config.channels)} levels"
        )


def lowest_level_divisor(config: GeneratorConfig) -> int:
    """How many times smaller the slices are at the lowest level of a network that halves them."""
    divisor: int = 2 ** (len(config.channels) - 1)
    return divisor
