"""The ResNet generator of CycleGAN."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from monai.networks.layers.utils import get_norm_layer
from torch import Tensor, nn

from lightning_modules.configuration import GeneratorConfig
from lightning_modules.networks.normalisation import monai_norm


class ResNetGenerator(nn.Module):
    """Convolutions down, residual blocks, transposed convolutions up, tanh.

    Johnson et al., ECCV 2016, doi:10.1007/978-3-319-46475-6_43, with CycleGAN's reflection padding
    and 7x7 ends (Zhu et al., ICCV 2017, appendix 7.2). ``channels`` are those of the levels, each
    half as large as the one before; ``residual_units`` blocks run at the lowest level.

    Shapes: (batch, 1, rows, columns) to the same; values in [-1, 1] to (-1, 1). Rows and columns
    must be divisible by 2 ** (levels - 1).
    """

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        channels = tuple(config.channels)
        norm = _norm(config.norm)
        levels = list(pairwise(channels))
        self.stem = nn.Sequential(
            nn.ReflectionPad2d(3), nn.Conv2d(1, channels[0], 7), norm(channels[0]), nn.ReLU()
        )
        self.down = nn.Sequential(*(_down(upper, lower, norm) for upper, lower in levels))
        self.blocks = nn.Sequential(
            *(
                ResidualBlock(channels[-1], norm, config.dropout)
                for _ in range(config.residual_units)
            )
        )
        self.up = nn.Sequential(*(_up(lower, upper, norm) for upper, lower in reversed(levels)))
        self.head = nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(channels[0], 1, 7))

    def forward(self, source: Tensor) -> Tensor:
        """Translate source slices."""
        return torch.tanh(self.head(self.up(self.blocks(self.down(self.stem(source))))))

    def encoder_modules(self) -> tuple[str, ...]:
        """Paths of the modules that lead down, the residual blocks included."""
        return ("stem", "down", "blocks")


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside the identity; shapes stay as they are."""

    def __init__(self, channels: int, norm: Callable[[int], nn.Module], dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            norm(channels),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            norm(channels),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Add the layers' output to their input."""
        changed: Tensor = self.layers(features)
        return features + changed


def _down(upper: int, lower: int, norm: Callable[[int], nn.Module]) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(upper, lower, 3, stride=2, padding=1), norm(lower), nn.ReLU())


def _up(lower: int, upper: int, norm: Callable[[int], nn.Module]) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(lower, upper, 3, stride=2, padding=1, output_padding=1),
        norm(upper),
        nn.ReLU(),
    )


def _norm(name: str) -> Callable[[int], nn.Module]:
    def layer(channels: int) -> nn.Module:
        built: nn.Module = get_norm_layer(monai_norm(name), spatial_dims=2, channels=channels)
        return built

    return layer
