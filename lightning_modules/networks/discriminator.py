"""The discriminators: MONAI PatchGANs that judge patches of slices or of pairs of slices.

In a model of volumes they judge blocks of voxels likewise.
"""

from __future__ import annotations

import torch
from monai.networks.nets import PatchDiscriminator
from torch import Tensor, nn

from lightning_modules.networks.configuration import DiscriminatorConfig
from lightning_modules.networks.layers import monai_norm


class PatchGAN(nn.Module):
    """Conditional PatchGAN of pix2pix (Isola et al. 2017).

    It judges a target beside all that the generator was shown, its neighbouring slices included:
    the paper's discriminator observes the generator's input (equation 1).

    Shapes: source (batch, channels, rows, columns) and target (batch, 1, rows, columns) to logits
    (batch, 1, rows', columns'); of volumes with slices before the rows.

    Args:
        config: its layers.
        source_channels: of the source, see ``SourceView``.
        spatial_dims: 2 for slices, 3 for patches of volumes.
    """

    def __init__(
        self, config: DiscriminatorConfig, source_channels: int = 1, spatial_dims: int = 2
    ) -> None:
        super().__init__()
        self.patches = _patches(config, source_channels + 1, spatial_dims)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Logits per patch of the pair."""
        return self.layers(source, target)[-1]

    def layers(self, source: Tensor, target: Tensor) -> list[Tensor]:
        """What every layer makes of the pair: (batch, channels, rows', columns'); logits last."""
        made: list[Tensor] = self.patches(torch.cat([source, target], dim=1))
        return made


class SlicePatchGAN(nn.Module):
    """PatchGAN of CycleGAN, which judges single slices (Zhu et al. 2017).

    Shapes: slices (batch, 1, rows, columns) to logits (batch, 1, rows', columns'); of volumes with
    slices before the rows.
    """

    def __init__(self, config: DiscriminatorConfig, spatial_dims: int = 2) -> None:
        super().__init__()
        self.patches = _patches(config, 1, spatial_dims)

    def forward(self, slices: Tensor) -> Tensor:
        """Logits per patch."""
        logits: Tensor = self.patches(slices)[-1]
        return logits


def _patches(
    config: DiscriminatorConfig, in_channels: int, spatial_dims: int
) -> PatchDiscriminator:
    return PatchDiscriminator(
        spatial_dims=spatial_dims,
        channels=config.channels,
        in_channels=in_channels,
        out_channels=1,
        num_layers_d=config.layers,
        norm=monai_norm(config.norm),
        activation="LEAKYRELU",
        last_conv_kernel_size=4,
    )
