"""Layers that networks are put together from, and the names of normalisation layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from monai.networks.layers.utils import get_norm_layer
from torch import Tensor, nn

MakeNorm = Callable[[int], nn.Module]
"""Makes a normalisation layer for a number of channels."""

_MONAI = {
    "instance": ("INSTANCE", {"affine": False}),
    "instance_affine": ("INSTANCE", {"affine": True}),
    "batch": ("BATCH", {}),
}


def monai_norm(name: str) -> tuple[str, dict[str, Any]]:
    """MONAI's layer name and arguments for ``instance``, ``instance_affine`` or ``batch``.

    Instance normalisation is the default for federated runs: it keeps no running statistics that
    averaging could spoil.
    """
    return _MONAI[name]


def norm_layer(name: str) -> MakeNorm:
    """What makes two-dimensional normalisation layers of a configured name."""

    def layer(channels: int) -> nn.Module:
        built: nn.Module = get_norm_layer(monai_norm(name), spatial_dims=2, channels=channels)
        return built

    return layer


def nearest_upsampling(
    channels: int, out_channels: int, bias: bool = True, spatial_dims: int = 2
) -> nn.Module:
    """Doubles the size by nearest neighbours; a convolution of width 3 follows.

    Every output pixel has as many terms as any other, so that no grid of period two is drawn (Odena
    et al., Distill 2016, doi:10.23915/distill.00003). It has as many weights as a transposed
    convolution of that width.

    Args:
        channels: of the input.
        out_channels: of the output.
        bias: whether the convolution has one.
        spatial_dims: 2 for slices, 3 for patches of volumes.
    """
    convolution = nn.Conv3d if spatial_dims == 3 else nn.Conv2d
    return nn.Sequential(
        nn.Upsample(scale_factor=2, mode="nearest"),
        convolution(channels, out_channels, 3, padding=1, bias=bias),
    )


def with_nearest_upsampling(network: nn.Module) -> nn.Module:
    """Put ``nearest_upsampling`` in the place of every transposed convolution of stride 2."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            up = (nn.ConvTranspose2d, nn.ConvTranspose3d)
            if isinstance(child, up) and set(child.stride) == {2}:
                sizes, bias = (child.in_channels, child.out_channels), child.bias is not None
                setattr(parent, name, nearest_upsampling(*sizes, bias, len(child.stride)))
    return network


class Stages(nn.Module):
    """The network of a generator: named stages, one after the other, and tanh at the end.

    Shapes: (batch, channels, rows, columns) to what the last stage gives; any values to (-1, 1).

    Args:
        stages: by name, which is the first part of the keys of the state_dict.
        encoder: paths of the modules that encode, see ``Translator.encoder_modules``.
    """

    def __init__(self, stages: Mapping[str, nn.Module], encoder: tuple[str, ...]) -> None:
        super().__init__()
        for name, stage in stages.items():
            self.add_module(name, stage)
        self._encoder = encoder

    def forward(self, source: Tensor) -> Tensor:
        """Translate source slices."""
        features = source
        for stage in self.children():
            features = stage(features)
        return torch.tanh(features)

    def encoder_modules(self) -> tuple[str, ...]:
        """Paths of the modules that encode."""
        return self._encoder


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside the identity; shapes stay as they are."""

    def __init__(self, channels: int, norm: MakeNorm, dropout: float) -> None:
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


class Residual(nn.Module):
    """Layers beside the identity; they must keep the shape of what they are given."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, features: Tensor) -> Tensor:
        """Add the layers' output to their input."""
        changed: Tensor = self.layers(features)
        return features + changed
