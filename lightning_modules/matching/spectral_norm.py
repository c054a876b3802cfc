"""Spectral normalisation of a layer's weight, in both forms that torch has.

The weight W is divided by an estimate u^T W v of its largest singular value (Miyato et al., ICLR
2018, arXiv:1802.05957), W being flattened to filters x rest. A permutation of W's channels permutes
u and v with it and leaves the estimate as it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.utils import parametrizations
from torch.nn.utils.parametrize import is_parametrized
from torch.nn.utils.spectral_norm import SpectralNorm


@dataclass(frozen=True)
class WeightNames:
    """Names of the tensors that make up a layer's weight, within the layer.

    Attributes:
        weight: the tensor of the weight's shape.
        left: the vector over axis ``axis`` of the weight; None without spectral normalisation.
        right: the vector over the other axes, flattened.
        axis: the weight's axis whose entries are the rows of the flattened weight.
    """

    weight: str
    left: str | None = None
    right: str | None = None
    axis: int = 0


def weight_names(layer: nn.Module) -> WeightNames | None:
    """How a layer holds its weight; None if it is changed by something other than this norm."""
    hooks = [*layer._forward_pre_hooks.values(), *layer._forward_hooks.values()]
    if "forward" in vars(layer):
        return None
    if is_parametrized(layer):
        return None if hooks else _parametrized(layer)
    if not hooks:
        return WeightNames("weight")
    if len(hooks) == 1 and isinstance(hooks[0], SpectralNorm) and hooks[0].name == "weight":
        return WeightNames("weight_orig", "weight_u", "weight_v", hooks[0].dim)
    return None


def _parametrized(layer: nn.Module) -> WeightNames | None:
    lists: Any = layer.parametrizations
    if set(lists.keys()) != {"weight"} or len(lists["weight"]) != 1:
        return None
    norm = lists["weight"][0]
    if not isinstance(norm, parametrizations._SpectralNorm):
        return None
    prefix = "parametrizations.weight"
    return WeightNames(f"{prefix}.original", f"{prefix}.0._u", f"{prefix}.0._v", norm.dim)
