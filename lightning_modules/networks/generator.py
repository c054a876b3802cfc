"""The U-Net generator, and the choice between the generators."""

from __future__ import annotations

import torch
from monai.networks.layers.simplelayers import SkipConnection
from monai.networks.nets import UNet
from torch import Tensor, nn

from lightning_modules.configuration import GeneratorConfig
from lightning_modules.networks.normalisation import monai_norm
from lightning_modules.networks.resnet_generator import ResNetGenerator


def build_generator(config: GeneratorConfig) -> nn.Module:
    """The generator that a configuration names."""
    return ResNetGenerator(config) if config.kind == "resnet" else UNetGenerator(config)


class UNetGenerator(nn.Module):
    """MONAI's U-Net followed by tanh.

    Shapes: (batch, 1, rows, columns) to the same; values in [-1, 1] to (-1, 1). Rows and columns
    must be divisible by 2 ** (levels - 1).
    """

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.unet = UNet(
            spatial_dims=2,
            in_channels=1,
            out_channels=1,
            channels=tuple(config.channels),
            strides=(2,) * (len(config.channels) - 1),
            num_res_units=config.residual_units,
            norm=monai_norm(config.norm),
            act="LEAKYRELU",
            dropout=config.dropout,
        )

    def forward(self, source: Tensor) -> Tensor:
        """Translate source slices."""
        return torch.tanh(self.unet(source))

    def encoder_modules(self) -> tuple[str, ...]:
        """Paths of the modules that lead down, the bottleneck included."""
        paths, path, level = [], "unet.model", self.unet.model
        # MONAI nests levels: each is (down, skip around the level below, up).
        while isinstance(level, nn.Sequential) and isinstance(level[1], SkipConnection):
            paths.append(f"{path}.0")
            path, level = f"{path}.1.submodule", level[1].submodule
        return (*paths, path)
