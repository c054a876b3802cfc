"""The order in which slices are drawn."""

from __future__ import annotations

import numpy as np
import pytest

from lightning_modules.data.slice_order import SliceOrder
from lightning_modules.seeding import derive_seed


@pytest.mark.parametrize(("slices", "batch_size"), [(12, 2), (7, 3), (5, 8)])
def test_every_epoch_visits_each_slice_exactly_once(slices: int, batch_size: int) -> None:
    sequence = SliceOrder(1, "north", slices, batch_size).indices(0, slices).reshape(-1, slices)
    assert len(sequence) == batch_size
    for epoch in sequence:
        assert sorted(epoch) == list(range(slices))


def test_epochs_are_shuffled_anew() -> None:
    epochs = SliceOrder(1, "north", 12, 2).indices(0, 60).reshape(-1, 12)
    assert len({tuple(epoch) for epoch in epochs}) == len(epochs)
    assert (epochs != np.arange(12)).any(axis=1).all()


@pytest.mark.parametrize("steps", [1, 4, 5])
def test_rounds_cut_the_sequence_of_one_long_run(steps: int) -> None:
    order = SliceOrder(1, "north", 7, 3)
    rounds = [order.indices(number * steps, steps) for number in range(20 // steps)]
    np.testing.assert_array_equal(np.concatenate(rounds), order.indices(0, 20))


def test_a_round_can_be_drawn_without_the_rounds_before_it() -> None:
    fresh = SliceOrder(1, "north", 7, 3).indices(40, 5)
    np.testing.assert_array_equal(fresh, SliceOrder(1, "north", 7, 3).indices(0, 45)[40:])


def test_arms_and_seeds_have_orders_of_their_own() -> None:
    orders = {
        tuple(SliceOrder(seed, arm, 30, 1).indices(0, 30).ravel())
        for seed in (1, 2)
        for arm in ("north", "east", "centralised")
    }
    assert len(orders) == 6


def test_the_global_random_state_does_not_enter_the_order() -> None:
    np.random.seed(1)
    one = SliceOrder(1, "north", 30, 2).indices(0, 15)
    np.random.seed(2)
    np.testing.assert_array_equal(one, SliceOrder(1, "north", 30, 2).indices(0, 15))


def test_a_domain_drawn_by_itself_has_an_order_of_its_own() -> None:
    orders = [
        tuple(SliceOrder(1, "north", 30, 1, domain).indices(0, 30).ravel())
        for domain in (None, "source", "target")
    ]
    assert len(set(orders)) == 3
    assert all(sorted(order) == list(range(30)) for order in orders)


def test_pairs_are_drawn_as_they_always_were() -> None:
    # Runs can only be repeated as long as this stays: a permutation of a derived seed per epoch.
    seed = derive_seed(7, "slice order", "north", 0)
    expected = np.random.default_rng(seed).permutation(12)
    assert SliceOrder(7, "north", 12, 4).indices(0, 3).ravel().tolist() == expected.tolist()
