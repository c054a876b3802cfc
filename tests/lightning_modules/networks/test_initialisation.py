"""Initial weights hang on the seed alone, whatever layers a network is made of."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from fedi2i.errors import ConfigError
from lightning_modules.networks.initialisation import initialise

DRAWN: dict[str, Callable[[], nn.Module]] = {
    "Conv1d": lambda: nn.Conv1d(3, 5, 3),
    "Conv2d": lambda: nn.Conv2d(3, 5, 3),
    "Conv3d": lambda: nn.Conv3d(3, 5, 3),
    "ConvTranspose1d": lambda: nn.ConvTranspose1d(3, 5, 3),
    "ConvTranspose2d": lambda: nn.ConvTranspose2d(3, 5, 3, bias=False),
    "ConvTranspose3d": lambda: nn.ConvTranspose3d(3, 5, 3),
    "Linear": lambda: nn.Linear(4, 6),
    "Bilinear": lambda: nn.Bilinear(3, 4, 5),
    "Embedding": lambda: nn.Embedding(9, 4, padding_idx=2),
    "EmbeddingBag": lambda: nn.EmbeddingBag(9, 4),
    "attention": lambda: nn.MultiheadAttention(8, 2, add_bias_kv=True),
    "attention with other keys": lambda: nn.MultiheadAttention(8, 2, kdim=4, vdim=6),
    "transformer": lambda: nn.TransformerEncoderLayer(8, 2, 16),
}
CONSTANT: dict[str, tuple[Callable[[], nn.Module], float]] = {
    "BatchNorm1d": (lambda: nn.BatchNorm1d(4), 1.0),
    "BatchNorm3d": (lambda: nn.BatchNorm3d(4), 1.0),
    "InstanceNorm2d": (lambda: nn.InstanceNorm2d(4, affine=True), 1.0),
    "GroupNorm": (lambda: nn.GroupNorm(2, 4), 1.0),
    "LayerNorm": (lambda: nn.LayerNorm(4), 1.0),
    "RMSNorm": (lambda: nn.RMSNorm(4), 1.0),
    "PReLU": (lambda: nn.PReLU(), 0.25),
}


class _Scale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))


REFUSED: dict[str, tuple[Callable[[], nn.Module], str, str]] = {
    "a layer of our own": (_Scale, "_Scale", "scale"),
    "LSTM": (lambda: nn.LSTM(3, 4), "LSTM", "weight_ih_l0"),
    "spectral norm": (lambda: spectral_norm(nn.Linear(3, 4)), "ParametrizationList", "original"),
    "old spectral norm": (
        lambda: nn.utils.spectral_norm(nn.Conv2d(1, 2, 3)),
        "Conv2d",
        "weight_orig",
    ),
    "lazy": (partial(nn.LazyConv2d, 4, 3), "LazyConv2d", "weight"),
}


def _state(make: Callable[[], nn.Module], outside: int, seed: int = 11) -> dict[str, Tensor]:
    torch.manual_seed(outside)
    network = nn.Sequential(make())
    initialise(network, seed)
    return network.state_dict()


@pytest.mark.parametrize("kind", DRAWN)
def test_a_layer_gets_its_weights_from_the_seed_and_not_from_the_process(kind: str) -> None:
    one, same, other = (_state(DRAWN[kind], *draws) for draws in ((1, 11), (2, 11), (1, 12)))
    assert one
    for key, value in one.items():
        assert torch.equal(value, same[key]), key
    assert any(not torch.equal(value, other[key]) for key, value in one.items())


@pytest.mark.parametrize("kind", DRAWN)
def test_weights_are_as_small_as_the_rule_says_and_biases_are_zero(kind: str) -> None:
    for key, value in _state(DRAWN[kind], outside=1).items():
        name = key.rpartition(".")[2]
        if name in ("bias", "in_proj_bias"):
            assert not value.any(), key
        elif "norm" in key:
            assert torch.equal(value, torch.ones_like(value))
        else:
            assert 0.0 < float(value.square().mean().sqrt()) < 0.05, key


@pytest.mark.parametrize("kind", CONSTANT)
def test_a_layer_that_scales_starts_at_its_constant(kind: str) -> None:
    make, constant = CONSTANT[kind]

    def spoilt() -> nn.Module:
        layer = make()
        for parameter in layer.parameters():
            nn.init.normal_(parameter)
        return layer

    state = _state(spoilt, outside=1)
    assert torch.equal(state["0.weight"], torch.full_like(state["0.weight"], constant))
    assert not state.get("0.bias", torch.zeros(1)).any()


def test_the_row_of_an_embedding_that_stands_for_padding_is_zero() -> None:
    weight = _state(DRAWN["Embedding"], outside=1)["0.weight"]
    assert not weight[2].any()
    assert weight[1].any()


@pytest.mark.parametrize("kind", REFUSED)
def test_a_layer_without_a_rule_is_refused_by_name_and_nothing_is_changed(kind: str) -> None:
    make, layer, parameter = REFUSED[kind]
    network = nn.Sequential(nn.Conv2d(1, 1, 1), make())
    before = network[0].weight.clone()
    with pytest.raises(ConfigError) as error:
        initialise(network, 11)
    (sentence,) = str(error.value).splitlines()
    assert f"is a {layer}, for whose parameter '{parameter}'" in sentence
    assert "use another layer, or write the rule" in sentence
    assert torch.equal(network[0].weight, before)


def test_another_process_draws_the_same_weights() -> None:
    # Every kind of layer in one network, in a process of its own with another random state.
    code = (
        "from tests.lightning_modules.networks import test_initialisation as cases\n"
        "print(cases.digest_of_all(outside=1))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == digest_of_all(outside=2)


def digest_of_all(outside: int) -> str:
    """Digest of the weights of one network that holds every kind of layer."""
    torch.manual_seed(outside)
    torch.randn(outside)
    makers = [*DRAWN.values(), *(make for make, _ in CONSTANT.values())]
    network = nn.ModuleList([make() for make in makers])
    initialise(network, 11)
    content = b"".join(value.numpy().tobytes() for value in network.state_dict().values())
    return hashlib.sha256(content).hexdigest()
