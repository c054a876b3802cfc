"""The controls of the matching study, on tiny networks: what every matching must do."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from matching_networks import REGISTERED, State, equal, load, random_state

from lightning_modules.matching.matching import MatchSettings, match
from lightning_modules.matching.merging.activations import match_activations
from lightning_modules.matching.merging.averages import barrier, between
from lightning_modules.matching.merging.controls import (
    inverse,
    moved,
    planted,
    random_permutations,
    recovered,
)
from lightning_modules.matching.merging.joint import block_coordinate, frank_wolfe
from lightning_modules.matching.network_groups import channel_groups
from lightning_modules.matching.permutations import Permutations, identity, permute
from lightning_modules.networks.configuration import GeneratorConfig
from lightning_modules.networks.generators.catalogue import build_generator

NETWORK = build_generator(GeneratorConfig(channels=(8, 16, 24)))
SLICES = torch.randn(6, 1, 16, 16, generator=torch.Generator().manual_seed(0))
GROUPS = channel_groups(NETWORK, (SLICES[:1],))
PARTS = (0.0, 0.25, 0.5, 0.75, 1.0)


def _forward(one: State, other: State) -> Permutations:
    return match(one, other, GROUPS, MatchSettings(sweeps=0)).permutations


def _descent(one: State, other: State) -> Permutations:
    return match(one, other, GROUPS, MatchSettings(sweeps=20)).permutations


def _joint(one: State, other: State) -> Permutations:
    start = {"one": identity(GROUPS), "other": _forward(one, other)}
    return frank_wolfe({"one": one, "other": other}, GROUPS, start).permutations["other"]


def _coordinate(one: State, other: State) -> Permutations:
    start = {"one": identity(GROUPS), "other": _forward(one, other)}
    return block_coordinate({"one": one, "other": other}, GROUPS, start).permutations["other"]


def _activations(one: State, other: State) -> Permutations:
    networks = [build_generator(GeneratorConfig(channels=(8, 16, 24))) for _ in range(2)]
    pair = (load(networks[0], one), load(networks[1], other))
    return match_activations(pair, GROUPS, SLICES)


Matching = Callable[[State, State], Permutations]
MATCHINGS = pytest.mark.parametrize(
    "matching", [_forward, _descent, _joint, _coordinate, _activations]
)


def _loss(state: State) -> float:
    with torch.no_grad():
        return float(load(NETWORK, state)(SLICES).abs().mean())


@MATCHINGS
def test_a_network_and_itself_move_no_channel(matching: Matching) -> None:
    state = random_state(NETWORK, 1)
    assert moved(matching(state, state)) == 0.0


@MATCHINGS
def test_a_planted_permutation_is_undone_bit_for_bit_and_the_barrier_is_exactly_0(
    matching: Matching,
) -> None:
    for seed in range(3):
        state = random_state(NETWORK, seed)
        copy, back = planted(state, GROUPS, seed)
        assert not equal(copy, state)
        found = matching(state, copy)
        assert recovered(found, back) == 1.0
        aligned = permute(copy, GROUPS, found)
        assert equal(aligned, state)
        losses = [_loss(between(state, aligned, part)) for part in PARTS]
        assert barrier(PARTS, losses) == 0.0


@pytest.mark.parametrize(("noise", "forward", "descent"), [(1, 0.98, 1.0), (2, 0.8, 0.98)])
def test_under_noise_descent_recovers_what_the_forward_pass_misses(
    noise: float, forward: float, descent: float
) -> None:
    hits = []
    for seed in range(4):
        state = random_state(NETWORK, seed)
        copy, back = planted(state, GROUPS, seed, noise)
        hits.append([recovered(m(state, copy), back) for m in (_forward, _descent, _joint)])
    means = np.mean(hits, axis=0)
    assert means[0] >= forward
    assert means[1] >= max(descent, means[0])
    assert means[2] >= means[0]


def test_a_random_permutation_of_a_network_changes_its_output_by_rounding_alone() -> None:
    state = random_state(NETWORK, 4)
    shuffled = permute(state, GROUPS, random_permutations(GROUPS, 4))
    with torch.no_grad():
        one, other = (load(NETWORK, s)(SLICES) for s in (state, shuffled))
    assert not equal(state, shuffled)
    assert float((one - other).abs().max()) <= 1e-6
    assert float(one.abs().max()) > 1e-3


@MATCHINGS
def test_a_shuffled_site_leaves_its_aligned_weights_unchanged_to_the_last_bit(
    matching: Matching,
) -> None:
    one, other = random_state(NETWORK, 5), random_state(NETWORK, 6)
    aligned = permute(other, GROUPS, matching(one, other))
    for seed in range(2):
        shuffled = permute(other, GROUPS, random_permutations(GROUPS, seed))
        assert equal(permute(shuffled, GROUPS, matching(one, shuffled)), aligned)


def test_planting_is_seeded_and_counts_are_fractions_of_channels() -> None:
    state = random_state(REGISTERED["U-Net"].example(), 1)
    groups = REGISTERED["U-Net"].groups_found()
    one, back = planted(state, groups, 3, 0.5)
    again, _ = planted(state, groups, 3, 0.5)
    assert equal(one, again)
    assert not equal(one, planted(state, groups, 4, 0.5)[0])
    there = inverse(back)
    assert recovered(back, back) == 1.0
    still = sum(int((p == np.arange(len(p))).sum()) for p in there.values())
    assert moved(there) == 1.0 - still / sum(groups.sizes.values())
