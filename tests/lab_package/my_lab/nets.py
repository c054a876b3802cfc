"""Networks of a lab: plain modules of torch."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MyGenerator(nn.Module):
    """Convolutions down, residual blocks, nearest neighbours up.

    Args:
        channels: of the first level; the second has twice as many.
        blocks: residual blocks at the second level.
    """

    def __init__(self, channels: int = 8, blocks: int = 2) -> None:
        super().__init__()
        wide = 2 * channels
        self.encoder = nn.Sequential(
            *_layer(1, channels, 7),
            nn.Conv2d(channels, wide, 3, stride=2, padding=1),
            nn.InstanceNorm2d(wide, affine=True),
            nn.ReLU(),
            *(MyBlock(wide) for _ in range(blocks)),
        )
        self.decoder = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="nearest"),
            *_layer(wide, channels, 3),
            nn.Conv2d(channels, 1, 7, padding=3),
        )

    def forward(self, source: Tensor) -> Tensor:
        """Translate slices (n, 1, rows, columns)."""
        translated: Tensor = self.decoder(self.encoder(source))
        return translated

    def encoder_modules(self) -> tuple[str, ...]:
        """What FedPer shares and LG-FedAvg keeps."""
        return ("encoder",)


class MyBlock(nn.Module):
    """Two convolutions beside the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_layer(channels, channels, 3), nn.Conv2d(channels, channels, 3, padding=1)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Add the layers' output to their input."""
        changed: Tensor = self.layers(features)
        return features + changed


class MyDiscriminator(nn.Module):
    """Judges patches of a pair of slices."""

    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(2, channels, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(channels, 1, 4, stride=2, padding=1),
        )

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Logits (n, 1, rows / 4, columns / 4)."""
        logits: Tensor = self.layers(torch.cat([source, target], dim=1))
        return logits


def _layer(channels: int, out_channels: int, kernel: int) -> tuple[nn.Module, ...]:
    return (
        nn.Conv2d(channels, out_channels, kernel, padding=kernel // 2),
        nn.InstanceNorm2d(out_channels, affine=True),
        nn.ReLU(),
    )
