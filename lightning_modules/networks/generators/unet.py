"""MONAI's U-Net, with concatenated skips, followed by tanh."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedi2i.errors import ConfigError
from lightning_modules.networks.generators.interface import (
    Generator,
    Size,
    lowest_level_divisor,
    named,
    refuse_indivisible,
)

if TYPE_CHECKING:
    from torch import nn

    from lightning_modules.networks.configuration import GeneratorConfig


def _refuse(config: GeneratorConfig, size: Size) -> None:
    refuse_indivisible(config, size)
    # Instance normalisation needs more than one pixel.
    if max(size) == lowest_level_divisor(config):
        raise ConfigError(
            f"{named(size)} is too small for a generator of "
            f"{len(config.channels)} levels, as one pixel is left at the lowest; take fewer levels"
        )


def _build(config: GeneratorConfig, in_channels: int, spatial_dims: int = 2) -> nn.Module:
    """A level for each of ``channels``; ``residual_units`` are those of every level."""
    # Imported here, as reading a configuration should not wait for torch and MONAI.
    from monai.networks.nets import UNet

    from lightning_modules.networks.layers import Stages, monai_norm, with_nearest_upsampling

    unet = UNet(
        spatial_dims=spatial_dims,
        in_channels=in_channels,
        out_channels=1,
        channels=tuple(config.channels),
        strides=(2,) * (len(config.channels) - 1),
        num_res_units=config.residual_units,
        norm=monai_norm(config.norm),
        act="LEAKYRELU",
        dropout=config.dropout,
    )
    if config.upsampling == "nearest":  # MONAI's has no argument for it
        with_nearest_upsampling(unet)
    return Stages({"unet": unet}, encoder=_encoder_of(unet))


def _encoder_of(unet: nn.Module) -> tuple[str, ...]:
    """Paths of the modules that lead down, the bottleneck included."""
    from monai.networks.layers.simplelayers import SkipConnection
    from torch import nn

    paths, path, level = [], "unet.model", unet.model
    # MONAI nests levels: each is (down, skip around the level below, up).
    while isinstance(level, nn.Sequential) and isinstance(level[1], SkipConnection):
        paths.append(f"{path}.0")
        path, level = f"{path}.1.submodule", level[1].submodule
    return (*paths, path)


GENERATOR = Generator(
    kind="unet",
    summary="U-Net of MONAI with concatenated skips (Ronneberger et al., MICCAI 2015)",
    refuse=_refuse,
    build=_build,
    takes_volumes=True,
)
