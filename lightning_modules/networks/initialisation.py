"""Seeded initial weights, the same in every process."""

from __future__ import annotations

import torch
from torch import nn


def initialise(module: nn.Module, seed: int, std: float = 0.02) -> None:
    """Draw convolution weights from N(0, std^2) and set biases to zero, as pix2pix does.

    Source: Isola et al. 2017, section 6.2 of the supplement. Affine normalisation layers get
    weight one and bias zero: MONAI's PatchDiscriminator draws them from the global random state,
    which differs between processes. The global random state is left as it was.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                layer.weight.normal_(0.0, std, generator=generator)
                if layer.bias is not None:
                    layer.bias.zero_()
            elif isinstance(layer, nn.BatchNorm2d | nn.InstanceNorm2d) and layer.affine:
                layer.weight.fill_(1.0)
                layer.bias.zero_()
