"""Applying permutations, against examples worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from matching_networks import NETWORKS, REGISTERED, Case, compose, equal, random_state, shuffles

from fedi2i.errors import ConfigError
from lightning_modules.matching.channel_groups import ChannelGroups, Segment
from lightning_modules.matching.permutations import (
    identity,
    moved_fraction,
    permute,
    permute_tensor,
)

# A layer that makes 3 channels, and one that reads a pinned channel, those 3, and 2 others.
GROUPS = ChannelGroups(
    axes={
        "make.weight": {0: (Segment("a", 3),), 1: (Segment(None, 1),)},
        "read.weight": {
            0: (Segment(None, 1),),
            1: (Segment(None, 1), Segment("a", 3), Segment("b", 2)),
        },
        "flat.weight": {0: (Segment("b", 2, width=2), Segment("a", 3))},
    },
    sizes={"a": 3, "b": 2},
    order=("a", "b"),
    pinned=(),
    scalars=("steps",),
    dead_biases=(),
    buffers=(),
)
STATE = {
    "make.weight": np.array([[1.0], [2.0], [3.0]], np.float32),
    "read.weight": np.array([[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]], np.float32),
    "flat.weight": np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], np.float32),
    "steps": np.array(7),
}
SHIFT = {"a": np.array([1, 2, 0]), "b": np.array([1, 0])}


def test_the_channel_at_place_i_is_the_one_that_was_at_place_p_of_i() -> None:
    aligned = permute(STATE, GROUPS, SHIFT)
    assert aligned["make.weight"].ravel().tolist() == [2.0, 3.0, 1.0]
    assert aligned["read.weight"].ravel().tolist() == [0.0, 2.0, 3.0, 1.0, 5.0, 4.0]
    assert aligned["flat.weight"].tolist() == [3.0, 4.0, 1.0, 2.0, 6.0, 7.0, 5.0]
    assert aligned["steps"] is STATE["steps"]


def test_the_given_state_is_not_changed() -> None:
    before = {key: value.copy() for key, value in STATE.items()}
    permute(STATE, GROUPS, SHIFT)
    assert equal(before, STATE)


def test_groups_that_are_not_named_keep_their_order() -> None:
    aligned = permute(STATE, GROUPS, {"b": SHIFT["b"]})
    assert aligned["make.weight"] is STATE["make.weight"]
    assert aligned["read.weight"].ravel().tolist() == [0.0, 1.0, 2.0, 3.0, 5.0, 4.0]


def test_identities_give_back_the_same_arrays_without_copying() -> None:
    for permutations in ({}, identity(GROUPS)):
        aligned = permute(STATE, GROUPS, permutations)
        assert all(aligned[key] is STATE[key] for key in STATE)


def test_a_part_of_a_state_may_be_permuted_alone() -> None:
    assert list(permute({"steps": STATE["steps"]}, GROUPS, SHIFT)) == ["steps"]


def test_adam_moments_move_with_their_parameter() -> None:
    moments = np.array([[10.0], [20.0], [30.0]])
    moved = permute_tensor("make.weight", moments, GROUPS, SHIFT)
    assert moved.ravel().tolist() == [20.0, 30.0, 10.0]
    assert permute_tensor("make.weight", moments, GROUPS, {}) is moments


@pytest.mark.parametrize(
    ("state", "permutations", "complaint"),
    [
        ({"other.weight": np.zeros(3)}, {}, "'other.weight' is no tensor of this network"),
        (STATE, {"c": np.arange(3)}, "'c', which is no group"),
        (STATE, {"a": np.arange(2)}, "'a' has 3 channels"),
        (STATE, {"a": np.array([0, 0, 1])}, "'a' has 3 channels"),
        (STATE, {"a": np.array([1, 2, 3])}, "'a' has 3 channels"),
        ({"make.weight": np.zeros((4, 1))}, {}, r"\[4, 1\], but axis 0 holds 3"),
        ({"read.weight": np.zeros(1)}, {}, r"\[1\], but axis 1 holds 6"),
    ],
)
def test_what_does_not_fit_the_groups_is_refused(
    state: dict[str, np.ndarray], permutations: dict[str, np.ndarray], complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        permute(state, GROUPS, permutations)


@pytest.mark.parametrize("case", NETWORKS.values(), ids=NETWORKS.keys())
def test_i10_two_permutations_one_after_the_other_are_their_composition(case: Case) -> None:
    groups = case.groups_found()
    state = random_state(case.example(), seed=1)
    first, second = shuffles(groups, 1), shuffles(groups, 2)
    one_after_the_other = permute(permute(state, groups, first), groups, second)
    assert equal(one_after_the_other, permute(state, groups, compose(first, second)))


def test_the_fraction_that_moved_is_counted_per_group() -> None:
    moved = moved_fraction({"a": np.array([0, 2, 1, 3]), "b": np.arange(3)})
    assert moved == {"a": 0.5, "b": 0.0}


def test_permuted_weights_are_the_same_numbers() -> None:
    case = REGISTERED["U-Net, batch norm"]
    groups, state = case.groups_found(), random_state(case.example(), seed=1)
    aligned = permute(state, groups, shuffles(groups, 1))
    moved = 0
    for key, value in state.items():
        assert aligned[key].dtype == value.dtype
        assert np.array_equal(np.sort(aligned[key], None), np.sort(value, None))
        moved += not np.array_equal(aligned[key], value)
    assert moved > 10
