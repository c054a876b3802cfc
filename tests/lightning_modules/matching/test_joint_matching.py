"""Matching several networks at once: the objective by its definition, planted orders, controls."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations, permutations, product

import numpy as np
import pytest
from matching_networks import (
    REGISTERED,
    Case,
    Recurrent,
    State,
    compose,
    equal,
    invert,
    mlp,
    noisy,
    random_state,
    shuffles,
)

from fedi2i.errors import ConfigError
from lightning_modules.matching.channel_groups import ChannelGroups
from lightning_modules.matching.merging.joint import JointMatch, block_coordinate, frank_wolfe
from lightning_modules.matching.merging.universe import matrices_of, universe_of
from lightning_modules.matching.permutations import Permutations, identity, permute
from lightning_modules.matching.similarity import compare, similarity
from lightning_modules.networks.configuration import GeneratorConfig
from lightning_modules.networks.generators.catalogue import build_generator

CASE = REGISTERED["U-Net"]
WIDE = Case(lambda: build_generator(GeneratorConfig(channels=(8, 12, 16))), ((1, 1, 16, 16),), 4)
CURVED = Case(lambda: Recurrent(4), ((2, 2, 8, 8),), 1)
SMALL = Case(lambda: mlp((3, 3, 2)), ((4, 3),), 1)
SOLVERS = pytest.mark.parametrize("solver", [frank_wolfe, block_coordinate])
Solver = Callable[..., JointMatch]


def _networks(case: Case, count: int, noise: float) -> dict[str, State]:
    """One network under noise, each copy in an order of its own."""
    groups, base = case.groups_found(), random_state(case.example(), 0)
    return {
        f"site-{n}": permute(noisy(base, noise, n), groups, shuffles(groups, n))
        for n in range(count)
    }


def _mean_similarity(
    states: dict[str, State], groups: ChannelGroups, found: dict[str, Permutations]
) -> float:
    """The objective by the pairwise similarity, which is another implementation."""
    moved = {name: permute(state, groups, found[name]) for name, state in states.items()}
    pairs = combinations(moved.values(), 2)
    return float(np.mean([similarity(compare(a, b, groups), {}) for a, b in pairs]))


@pytest.mark.parametrize("case", [CASE, CURVED, REGISTERED["residual U-Net"]])
def test_the_objective_is_the_mean_similarity_of_all_pairs(case: Case) -> None:
    groups = case.groups_found()
    states = {str(n): random_state(case.example(), n) for n in range(3)}
    found = {name: shuffles(groups, int(name)) for name in states}
    universe = universe_of(list(states.values()), groups)
    value = universe.objective([matrices_of(found[name]) for name in states])
    assert value == pytest.approx(_mean_similarity(states, groups, found), abs=1e-12)


@pytest.mark.parametrize("case", [CASE, CURVED])
def test_the_gradient_is_the_slope_of_the_objective(case: Case) -> None:
    groups = case.groups_found()
    universe = universe_of([random_state(case.example(), n) for n in range(3)], groups)
    rng = np.random.default_rng(0)
    matrices = [{g: rng.random((n, n)) for g, n in groups.sizes.items()} for _ in range(3)]
    group, step = groups.order[0], 1e-6
    moved = [universe.aligned(i, own) for i, own in enumerate(matrices)]
    slope = universe.gradient(1, matrices[1], universe.others(1, moved), group)
    for row, column in product(range(2), repeat=2):
        values = []
        for sign in (1, -1):
            changed = [dict(own) for own in matrices]
            changed[1][group] = matrices[1][group].copy()
            changed[1][group][row, column] += sign * step
            values.append(universe.objective(changed))
        assert slope[row, column] == pytest.approx((values[0] - values[1]) / 2 / step, abs=1e-7)


@SOLVERS
@pytest.mark.parametrize("count", [2, 4])
def test_what_is_wrong_with_a_planted_order_under_noise_is_put_right(
    solver: Solver, count: int
) -> None:
    groups, states = WIDE.groups_found(), _networks(WIDE, count, 0.3)
    right = {
        name: compose(invert(shuffles(groups, n)), shuffles(groups, 0))
        for n, name in enumerate(states)
    }
    for place, group in enumerate(groups.order):
        wrong = {name: dict(own) for name, own in right.items()}
        spoiled = f"site-{1 + place % (count - 1)}"
        wrong[spoiled][group] = np.roll(wrong[spoiled][group], 1)
        found = solver(states, groups, wrong).permutations
        assert list(found) == list(states)
        for name, own in found.items():
            assert all(np.array_equal(own[g], p) for g, p in right[name].items()), (group, name)


@SOLVERS
def test_identical_networks_stay_as_they_are(solver: Solver) -> None:
    groups, state = CASE.groups_found(), random_state(CASE.example(), 3)
    found = solver({"a": state, "b": state, "c": state}, groups, {})
    assert found.objective == pytest.approx(1.0, abs=1e-12)
    for own in found.permutations.values():
        assert all(np.array_equal(own[g], p) for g, p in identity(groups).items())


@SOLVERS
def test_the_result_is_never_below_the_start_and_says_its_own_objective(solver: Solver) -> None:
    groups = CASE.groups_found()
    for seed in range(2):
        states = {str(n): random_state(CASE.example(), 10 * seed + n) for n in range(3)}
        start = {name: shuffles(groups, seed) for name in states}
        found = solver(states, groups, start)
        assert found.objective >= _mean_similarity(states, groups, start) - 1e-12
        own = _mean_similarity(states, groups, found.permutations)
        assert found.objective == pytest.approx(own, abs=1e-12)
        kept = found.permutations["0"]
        assert all(np.array_equal(kept[g], p) for g, p in identity(groups).items())


@SOLVERS
def test_of_all_orders_of_three_tiny_networks_hardly_any_is_better(solver: Solver) -> None:
    groups = SMALL.groups_found()
    (group,) = groups.order
    orders = [np.asarray(p) for p in permutations(range(3))]
    ranks = []
    for seed in range(5):
        states = {str(n): random_state(SMALL.example(), 10 * seed + n, 1.0) for n in range(3)}
        values = [
            _mean_similarity(states, groups, {"0": {}, "1": {group: one}, "2": {group: other}})
            for one, other in product(orders, repeat=2)
        ]
        found = solver(states, groups, {}).objective
        ranks.append(sum(value > found + 1e-12 for value in values))
    assert np.median(ranks) <= 1
    assert max(ranks) < 9


@SOLVERS
def test_a_shuffled_site_leaves_the_aligned_weights_unchanged_to_the_last_bit(
    solver: Solver,
) -> None:
    groups, states = CASE.groups_found(), _networks(CASE, 3, 1.0)
    shuffle = shuffles(groups, 77)
    shuffled = {**states, "site-2": permute(states["site-2"], groups, shuffle)}
    start = {name: invert(shuffles(groups, n)) for n, name in enumerate(states)}
    follows = {**start, "site-2": compose(invert(shuffle), start["site-2"])}
    one = solver(states, groups, start).permutations
    other = solver(shuffled, groups, follows).permutations
    for name, state in states.items():
        assert equal(
            permute(state, groups, one[name]), permute(shuffled[name], groups, other[name])
        )


def test_one_network_alone_is_refused() -> None:
    with pytest.raises(ConfigError, match="give two or more"):
        frank_wolfe({"a": random_state(CASE.example(), 0)}, CASE.groups_found(), {})
