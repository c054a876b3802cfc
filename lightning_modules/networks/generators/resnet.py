"""The ResNet generator of CycleGAN: convolutions down, residual blocks, convolutions up, tanh.

Johnson et al., ECCV 2016, doi:10.1007/978-3-319-46475-6_43, with CycleGAN's reflection padding
and 7x7 ends (Zhu et al., ICCV 2017, appendix 7.2).
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from fedi2i.errors import ConfigError
from lightning_modules.networks.generators.interface import (
    Generator,
    Size,
    lowest_level_divisor,
    refuse_indivisible,
)

if TYPE_CHECKING:
    from torch import nn

    from lightning_modules.networks.configuration import GeneratorConfig
    from lightning_modules.networks.layers import MakeNorm


def _refuse(config: GeneratorConfig, size: Size) -> None:
    refuse_indivisible(config, size)
    smallest = 2 * lowest_level_divisor(config)
    # A 3x3 convolution of the residual blocks is padded by reflection, which needs a neighbour.
    if min(size) < smallest:
        raise ConfigError(
            f"data.preparation.size {list(size)} leaves one row or column to the lowest of the "
            f"{len(config.channels)} levels of a 'resnet'; its sides must be at least {smallest}"
        )
    if config.residual_units == 0:
        raise ConfigError(
            "model.generator.residual_units is 0, but a 'resnet' is made of residual "
            "blocks; give at least 1 (CycleGAN's authors use 6 or 9)"
        )


def _build(config: GeneratorConfig, in_channels: int) -> nn.Module:
    """``channels`` are those of the levels; ``residual_units`` blocks run at the lowest level."""
    # Imported here, as reading a configuration should not wait for torch and MONAI.
    from torch import nn

    from lightning_modules.networks.layers import ResidualBlock, Stages, norm_layer

    channels = tuple(config.channels)
    norm = norm_layer(config.norm)
    levels = list(pairwise(channels))
    stages = {
        "stem": nn.Sequential(
            nn.ReflectionPad2d(3),
            nn.Conv2d(in_channels, channels[0], 7),
            norm(channels[0]),
            nn.ReLU(),
        ),
        "down": nn.Sequential(*(_down(upper, lower, norm) for upper, lower in levels)),
        "blocks": nn.Sequential(
            *(
                ResidualBlock(channels[-1], norm, config.dropout)
                for _ in range(config.residual_units)
            )
        ),
        "up": nn.Sequential(
            *(_up(lower, upper, norm, config.upsampling) for upper, lower in reversed(levels))
        ),
        "head": nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(channels[0], 1, 7)),
    }
    return Stages(stages, encoder=("stem", "down", "blocks"))


def _down(upper: int, lower: int, norm: MakeNorm) -> nn.Module:
    from torch import nn

    return nn.Sequential(nn.Conv2d(upper, lower, 3, stride=2, padding=1), norm(lower), nn.ReLU())


def _up(lower: int, upper: int, norm: MakeNorm, upsampling: str) -> nn.Module:
    from torch import nn

    from lightning_modules.networks.layers import nearest_upsampling

    twice = (
        nearest_upsampling(lower, upper)
        if upsampling == "nearest"
        else nn.ConvTranspose2d(lower, upper, 3, stride=2, padding=1, output_padding=1)
    )
    return nn.Sequential(twice, norm(upper), nn.ReLU())


GENERATOR = Generator(
    kind="resnet",
    summary="convolutions down, residual blocks, convolutions up (Johnson et al. 2016, CycleGAN)",
    refuse=_refuse,
    build=_build,
)
