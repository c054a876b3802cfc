"""The generator: a MONAI U-Net from source slice to target slice."""

from __future__ import annotations

import torch
from monai.networks.nets import UNet
from torch import Tensor, nn

from lightning_modules.configuration import GeneratorConfig
from lightning_modules.networks.normalisation import monai_norm


class UNetGenerator(nn.Module):
    """U-Net followed by tanh.

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
