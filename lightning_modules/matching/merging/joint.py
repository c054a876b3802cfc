"""Match all networks at once: Frank-Wolfe and block-coordinate ascent in one universe.

Both begin with permutations that were found pairwise and never end below them. Neither is best: of
solutions that are equally similar in their weights, one average may be better than another, so that
validation data should choose among them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lightning_modules.matching.channel_groups import ChannelGroups
from lightning_modules.matching.matching import assign
from lightning_modules.matching.merging.universe import (
    Matrices,
    Universe,
    as_seen_from,
    matrices_of,
    universe_of,
)
from lightning_modules.matching.permutations import (
    Permutations,
    State,
    check_permutations,
    identity,
)
from lightning_modules.matching.similarity import FloatArray

MOST_STEPS = 60
_SMALLEST_GAP = 1e-7
"""Of the Frank-Wolfe gap: how much a linear model of the objective still promises."""
_ROUNDING = 1e-13
_STEPS_OF_A_QUARTIC = np.linspace(0.0, 1.0, 5)


@dataclass(frozen=True)
class JointMatch:
    """Several networks in one order.

    Attributes:
        permutations: network -> group -> p with ``aligned[i] = network[p[i]]``, in the order of the
            first network, which keeps its own.
        objective: mean similarity of all pairs, in [-1, 1].
        steps: of Frank-Wolfe, or sweeps over networks and groups.
    """

    permutations: dict[str, Permutations]
    objective: float
    steps: int


def frank_wolfe(
    states: Mapping[str, State],
    groups: ChannelGroups,
    start: Mapping[str, Permutations],
    most_steps: int = MOST_STEPS,
) -> JointMatch:
    """Maximise the mean similarity of all pairs over doubly stochastic matrices, and round.

    Every step solves an assignment problem per network and group, and goes as far towards its
    solution as is best: along a line the objective is a polynomial of degree four, known exactly by
    five values (C2M3, arXiv:2405.17897, algorithm 1). The first network keeps its order, which
    leaves out no solution; were all free, two networks would step towards each other and past each
    other. If what rounding leaves is less similar than the start, the start is returned.

    Args:
        states: network -> its tensors by state_dict key; two or more.
        groups: the channel groups of all.
        start: network -> permutations to begin with; missing groups keep their order.
        most_steps: at most so many.

    Raises:
        ConfigError: fewer than two networks, shapes that do not fit, or no permutations.
        DataError: a tensor has entries that are not finite.
    """
    universe, begun = _begin(states, groups, start)
    present = [matrices_of(own) for own in begun]
    done = 0
    while done < most_steps:
        gradients = _gradients(universe, present, groups.order)
        target = [
            {group: matrices_of({group: assign(slope)})[group] for group, slope in own.items()}
            for own in gradients
        ]
        target[0] = present[0]
        if _gap(gradients, target, present) < _SMALLEST_GAP:
            break
        present = _between(present, target, _best_step(universe, present, target))
        done += 1
    rounded = [{group: assign(matrix) for group, matrix in own.items()} for own in present]
    return _result(universe, states, _better(universe, rounded, begun), done)


def block_coordinate(
    states: Mapping[str, State],
    groups: ChannelGroups,
    start: Mapping[str, Permutations],
    most_sweeps: int = MOST_STEPS,
) -> JointMatch:
    """Match one group of one network to the sum of all others, in turn, until nothing changes.

    Arguments, result and errors as for ``frank_wolfe``. The objective never decreases.
    """
    universe, begun = _begin(states, groups, start)
    orders = [dict(own) for own in begun]
    done = 0
    while done < most_sweeps:
        done += 1
        if not _sweep(universe, orders, groups.order):
            break
    return _result(universe, states, orders, done)


def _begin(
    states: Mapping[str, State], groups: ChannelGroups, start: Mapping[str, Permutations]
) -> tuple[Universe, list[Permutations]]:
    for own in start.values():
        check_permutations(own, groups)
    universe = universe_of(list(states.values()), groups)
    return universe, [{**identity(groups), **start.get(name, {})} for name in states]


def _gradients(
    universe: Universe, present: Sequence[Matrices], order: Sequence[str]
) -> list[dict[str, FloatArray]]:
    moved = [universe.aligned(i, own) for i, own in enumerate(present)]
    found = []
    for i, own in enumerate(present):
        rest = universe.others(i, moved)
        found.append({group: universe.gradient(i, own, rest, group) for group in order})
    return found


def _gap(
    gradients: Sequence[Mapping[str, FloatArray]],
    target: Sequence[Matrices],
    present: Sequence[Matrices],
) -> float:
    return math.fsum(
        float(np.vdot(slope, target[i][group] - present[i][group]))
        for i, own in enumerate(gradients)
        for group, slope in own.items()
    )


def _between(
    present: Sequence[Matrices], target: Sequence[Matrices], step: float
) -> list[Matrices]:
    return [
        {group: matrix + step * (goal[group] - matrix) for group, matrix in own.items()}
        for own, goal in zip(present, target, strict=True)
    ]


def _best_step(
    universe: Universe, present: Sequence[Matrices], target: Sequence[Matrices]
) -> float:
    """The best point between two sets of matrices, from 0 to 1."""
    values = [
        universe.objective(_between(present, target, float(step))) for step in _STEPS_OF_A_QUARTIC
    ]
    quartic = np.polynomial.Polynomial.fit(_STEPS_OF_A_QUARTIC, values, deg=4)
    turns = [float(root.real) for root in quartic.deriv().roots() if abs(root.imag) < 1e-9]
    candidates = [1.0, *(turn for turn in turns if 0.0 < turn < 1.0)]
    return max(candidates, key=lambda step: float(quartic(step)))


def _sweep(universe: Universe, orders: list[Permutations], groups: Sequence[str]) -> bool:
    """Improve every group of every network once; whether anything changed."""
    changed = False
    moved = [universe.aligned(i, matrices_of(own)) for i, own in enumerate(orders)]
    for i in range(len(orders)):
        rest = universe.others(i, moved)
        for group in groups:
            better = _improved(universe, i, orders[i], rest, group)
            changed |= better is not None
            orders[i] = better or orders[i]
        moved[i] = universe.aligned(i, matrices_of(orders[i]))
    return changed


def _improved(
    universe: Universe,
    network: int,
    order: Permutations,
    rest: Sequence[FloatArray],
    group: str,
) -> Permutations | None:
    """A better order of one group, all else kept; None if there is none."""
    slope = universe.gradient(network, matrices_of(order), rest, group)[:, order[group]]
    step = assign(slope)
    if np.array_equal(step, np.arange(len(step))):
        return None
    changed = {**order, group: order[group][step]}
    gain = float(slope[np.arange(len(step)), step].sum() - np.trace(slope))
    if universe.curved(group):
        gain = _product(universe, network, changed, rest) - _product(universe, network, order, rest)
    return changed if gain > _ROUNDING else None


def _product(
    universe: Universe, network: int, order: Permutations, rest: Sequence[FloatArray]
) -> float:
    """What one network adds to the objective."""
    moved = universe.aligned(network, matrices_of(order))
    return math.fsum(float(np.vdot(a, b)) for a, b in zip(moved, rest, strict=True))


def _better(
    universe: Universe, one: list[Permutations], other: list[Permutations]
) -> list[Permutations]:
    """The more similar of two solutions, the second one if they are equal."""
    values = [universe.objective([matrices_of(own) for own in both]) for both in (one, other)]
    return one if values[0] > values[1] + _ROUNDING else other


def _result(
    universe: Universe, states: Mapping[str, State], orders: list[Permutations], steps: int
) -> JointMatch:
    return JointMatch(
        permutations={
            name: as_seen_from(orders[0], own) for name, own in zip(states, orders, strict=True)
        },
        objective=universe.objective([matrices_of(own) for own in orders]),
        steps=steps,
    )
