"""Seeded initial weights, the same in every process, for every layer that has a rule here."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from fedi2i.errors import ConfigError
from lightning_modules.networks.modulation import ContrastCodes, Modulation

_DRAWN = "drawn"
_UNIT = "drawn with a standard deviation of 1"
_WEIGHT_AND_BIAS: Mapping[str, float | str] = {"weight": _DRAWN, "bias": 0.0}

# What each parameter of a layer becomes: drawn from the normal distribution, or a constant.
# The first rule that fits counts.
_RULES: Mapping[tuple[type[nn.Module], ...], Mapping[str, float | str]] = {
    (ContrastCodes,): {"weight": _UNIT},
    (Modulation,): {"weight": 0.0, "bias": 0.0},
    (_ConvNd, nn.Linear, nn.Bilinear): _WEIGHT_AND_BIAS,
    (nn.Embedding, nn.EmbeddingBag): {"weight": _DRAWN},
    (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm): {"weight": 1.0, "bias": 0.0},
    (nn.PReLU,): {"weight": 0.25},
    # Its output projection is a linear layer and a module of its own.
    (nn.MultiheadAttention,): {
        "in_proj_weight": _DRAWN,
        "q_proj_weight": _DRAWN,
        "k_proj_weight": _DRAWN,
        "v_proj_weight": _DRAWN,
        "in_proj_bias": 0.0,
        "bias_k": _DRAWN,
        "bias_v": _DRAWN,
    },
}


def initialise(module: nn.Module, seed: int, std: float = 0.02) -> None:
    """Give every parameter its initial value.

    Weights of convolutions, linear layers, embeddings and attention are drawn from N(0, std^2),
    their biases are zero, as in pix2pix (Isola et al. 2017, section 6.2 of the supplement).
    Normalisation layers get weight one and bias zero, PReLU its usual 0.25, and the row of an
    embedding that stands for padding is zero. Codes of contrasts are drawn from N(0, 1), and what
    they modulate begins unmodulated. What a layer drew from the global random state when it was
    made is replaced, as that state differs between processes; it is left as it was.

    Raises:
        ConfigError: a parameter of some layer has no rule, so that its weights would differ
            between processes. Nothing is changed then.
    """
    rules = {
        parameter: _rule(path, layer, name, parameter)
        for path, layer in module.named_modules()
        for name, parameter in layer.named_parameters(recurse=False)
    }
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter, rule in rules.items():
            if isinstance(rule, float):
                parameter.fill_(rule)
            else:
                deviation = 1.0 if rule == _UNIT else std
                parameter.normal_(0.0, deviation, generator=generator)
        _clear_padding(module)


def _rule(path: str, layer: nn.Module, name: str, parameter: nn.Parameter) -> float | str:
    for types, rules in _RULES.items():
        lazy = isinstance(parameter, nn.UninitializedParameter)
        if isinstance(layer, types) and name in rules and not lazy:
            return rules[name]
    kind = type(layer).__name__
    raise ConfigError(
        f"'{path}' is a {kind}, for whose parameter '{name}' there is no rule that draws it from "
        "the experiment's seed; use another layer, or write the rule in "
        "lightning_modules/networks/initialisation.py"
    )


def _clear_padding(module: nn.Module) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.Embedding | nn.EmbeddingBag) and layer.padding_idx is not None:
            layer.weight[layer.padding_idx].zero_()
