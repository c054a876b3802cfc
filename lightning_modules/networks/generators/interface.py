"""What a generator offers: its name, what it refuses in a configuration, and its network.

Reading a configuration imports the files of all generators, so none of them imports torch or MONAI
before its network is built. Layer classes of our own stand in
``lightning_modules/networks/layers.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from fedi2i.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lightning_modules.networks.configuration import GeneratorConfig

Size = tuple[int, ...]
"""Rows and columns of the prepared slices, or slices, rows and columns of a patch."""


class Translator(Protocol):
    """What the network of a generator offers; it is an ``nn.Module`` besides."""

    def forward(self, source: Tensor) -> Tensor:
        """Translate slices.

        Shapes: (batch, channels, rows, columns) to (batch, 1, rows, columns), with the channels of
        ``SourceView``; values in [-1, 1] to [-1, 1]. Patches of volumes have slices before rows.
        """

    def encoder_modules(self) -> tuple[str, ...]:
        """Paths of the submodules that encode; all others with parameters decode.

        FedPer shares the encoder and keeps the decoder at the site, LG-FedAvg the reverse.
        """


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
        build: the network, see ``Translator``, from the configuration and the number of its input
            channels. Initial weights are drawn later by ``initialise``, which must have a rule for
            every layer with parameters.
        takes_volumes: whether ``build`` takes 3 as a third argument, the spatial dimensions, and
            then builds a network of volumes.
    """

    kind: str
    summary: str
    refuse: Callable[[GeneratorConfig, Size], None]
    build: Callable[..., nn.Module]
    takes_volumes: bool = False


def refuse_indivisible(config: GeneratorConfig, size: Size) -> None:
    """Refuse slices that cannot be halved once for every level below the first.

    Raises:
        ConfigError: a side of the slices is not divisible.
    """
    divisor = lowest_level_divisor(config)
    if any(side % divisor for side in size):
        raise ConfigError(
            f"{named(size)} must be divisible by {divisor} for a generator of "
            f"{len(config.channels)} levels"
        )


def named(size: Size) -> str:
    """A size with the key that it stands under."""
    key = "model.patch" if len(size) == 3 else "data.preparation.size"
    return f"{key} {list(size)}"


def lowest_level_divisor(config: GeneratorConfig) -> int:
    """How many times smaller the slices are at the lowest level of a network that halves them."""
    divisor: int = 2 ** (len(config.channels) - 1)
    return divisor
