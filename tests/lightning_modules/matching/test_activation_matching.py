"""Channels matched by their activations: numpy's correlation, a planted order, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matching_networks import REGISTERED, invert, load, shuffles, state_of
from torch import Tensor, nn

from fedi2i.errors import ConfigError
from lightning_modules.matching.merging.activations import (
    activation_correlations,
    load_state,
    match_activations,
)
from lightning_modules.matching.network_groups import channel_groups
from lightning_modules.matching.permutations import permute

CASE = REGISTERED["U-Net"]


def _slices(count: int, seed: int = 0) -> Tensor:
    drawn = torch.randn(
        count, 1, 16, 16, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    return drawn


def test_correlations_are_numpy_s_over_all_slices_and_pixels() -> None:
    groups, slices = CASE.groups_found(), _slices(11)
    ours, theirs = CASE.network(1), CASE.network(2)
    found = activation_correlations((ours, theirs), groups, slices)
    first = groups.order[0]
    made = []
    for network in (ours, theirs):
        with torch.no_grad():
            output = network.get_submodule(first)(slices)
        made.append(output.transpose(0, 1).flatten(1).numpy())
    size = groups.sizes[first]
    assert found[first] == pytest.approx(np.corrcoef(*made)[:size, size:], abs=1e-9)
    assert set(found) == set(groups.order)


@pytest.mark.parametrize("name", ["U-Net", "ResNet-1, nearest", "residual U-Net, batch norm"])
def test_a_planted_order_is_undone(name: str) -> None:
    case = REGISTERED[name]
    groups, network = case.groups_found(), case.network(5)
    planted = shuffles(groups, 9)
    other = load(case.network(6), permute(state_of(network), groups, planted))
    found = match_activations((network, other), groups, _slices(6))
    assert all(np.array_equal(found[g], p) for g, p in invert(planted).items())


def test_equal_networks_move_nothing_and_keep_their_modes_and_hooks() -> None:
    groups, network = CASE.groups_found(), CASE.network(7)
    network.train()
    found = match_activations((network, network), groups, _slices(3))
    assert all(np.array_equal(p, np.arange(len(p))) for p in found.values())
    assert network.training
    assert not any(module._forward_hooks for module in network.modules())


def test_a_silent_channel_is_like_no_other_and_no_number_is_missing() -> None:
    groups, network = CASE.groups_found(), CASE.network(1)
    first = groups.order[0]
    with torch.no_grad():
        network.get_submodule(first).weight[1] = 0.0
    found = activation_correlations((network, CASE.network(2)), groups, _slices(4))[first]
    assert np.array_equal(found[1], np.zeros(groups.sizes[first]))
    assert np.isfinite(found).all()


def test_what_has_no_channels_side_by_side_is_refused_in_a_sentence() -> None:
    network = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))
    inputs = torch.randn(2, 3, 4)
    with pytest.raises(ConfigError, match="match this network by its weights"):
        match_activations((network, network), channel_groups(network, (inputs,)), inputs)
    with pytest.raises(ConfigError, match="give one or more"):
        match_activations((CASE.network(), CASE.network()), CASE.groups_found(), _slices(0))


def test_a_state_put_into_a_network_is_a_copy() -> None:
    state = state_of(CASE.network(1))
    network = load_state(CASE.network(2), state)
    with torch.no_grad():
        next(network.parameters()).add_(1.0)
    assert all(np.array_equal(v, state_of(CASE.network(1))[k]) for k, v in state.items())
