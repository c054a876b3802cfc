"""I9: networks trained from different starts on the same data, averaged as they are or matched."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from matching_networks import State, load, state_of, weighted_mean
from torch import Tensor, nn

from lightning_modules.matching.alignment import align
from lightning_modules.matching.network_groups import channel_groups
from lightning_modules.matching.permutations import permute


def _network() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 12, 3, padding=1), nn.InstanceNorm2d(12, affine=True), nn.ReLU()),
        *(nn.Conv2d(12, 12, 3, padding=1), nn.InstanceNorm2d(12, affine=True), nn.ReLU()),
        nn.Conv2d(12, 1, 3, padding=1),
    )


def _slices(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Smooth random images, and their edges with another contrast."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 1, 5, 5, generator=generator)
    source = torch.tanh(nn.functional.interpolate(coarse, 16, mode="bicubic"))
    padded = nn.functional.pad(source, (1, 1, 1, 1), mode="replicate")
    across = (padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]).abs()
    along = (padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]).abs()
    return source, torch.tanh(2.0 * (across + along) - source)


@functools.cache
def _trained(seed: int) -> State:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _network()
    source, target = _slices(256, seed=0)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    draw = torch.Generator().manual_seed(seed)
    for _ in range(150):
        batch = torch.randint(len(source), (8,), generator=draw)
        loss = (network(source[batch]) - target[batch]).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return state_of(network)


def _error(state: State) -> float:
    source, target = _slices(128, seed=1)
    with torch.no_grad():
        return float((load(_network(), state)(source) - target).abs().mean())


@pytest.mark.parametrize("seeds", [(8, 9), (8, 9, 10)])
def test_i9_matching_before_averaging_gives_the_better_network(seeds: tuple[int, ...]) -> None:
    states = {f"site{seed}": _trained(seed) for seed in seeds}
    samples = dict.fromkeys(states, 1)
    groups = channel_groups(_network(), (torch.zeros(1, 1, 16, 16),))
    found = align(states, samples, groups)
    aligned = {site: permute(state, groups, found[site]) for site, state in states.items()}
    own = np.mean([_error(state) for state in states.values()])
    naive, matched = (_error(weighted_mean(s, samples)) for s in (states, aligned))
    assert own < 0.5 * naive  # they learnt, and the plain mean forgot
    assert matched < 0.85 * naive, (own, matched, naive)
    # Alignment alone changes no site's network.
    for site in states:
        assert _error(aligned[site]) == pytest.approx(_error(states[site]), abs=1e-5)
