"""The discriminator: a MONAI PatchGAN that judges patches of (source, target) pairs."""

from __future__ import annotations

import torch
from monai.networks.nets import PatchDiscriminator
from torch import Tensor, nn

from lightning_modules.configuration import DiscriminatorConfig
from lightning_modules.networks.normalisation import monai_norm


class PatchGAN(nn.Module):
    """Conditional PatchGAN (Isola et al. 2017).

    Shapes: source and target (batch, 1, rows, columns) to logits (batch, 1, rows', columns').
    """

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.patches = PatchDiscriminator(
            spatial_dims=2,
            channels=config.channels,
            in_channels=2,
            out_channels=1,
            num_layers_d=config.layers,
            norm=monai_norm(config.norm),
            activation="LEAKYRELU",
            last_conv_kernel_size=4,
        )

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Logits per patch; MONAI also returns inner features, which are not used."""
        logits: Tensor = self.patches(torch.cat([source, target], dim=1))[-1]
        return logits
