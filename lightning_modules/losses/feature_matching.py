"""The perceptual loss that needs no weights from elsewhere: features of the model's own judge."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import l1_loss


def feature_matching(real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
    """How far apart a discriminator sees the real slices and their translations.

    The sum over its inner layers of the mean absolute difference of their features, which is the
    feature matching of pix2pixHD (Wang et al., CVPR 2018, arXiv:1711.11585). A network that was
    trained on other pictures, as a perceptual loss usually has, would have to be downloaded; this
    one knows the images at hand, and learns with the model.

    Args:
        real: features of pairs of source and target, layer after layer, each (batch, channels,
            rows, columns).
        fake: features of pairs of source and translation, of the same shapes.

    Returns:
        A scalar; gradients flow through ``fake`` alone.
    """
    terms = [l1_loss(one, other.detach()) for one, other in zip(fake, real, strict=True)]
    return torch.stack(terms).sum()
