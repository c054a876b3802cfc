"""Training slices and the order in which they are drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lightning_modules.training_slices import (
    RoundBatches,
    SliceOrder,
    TrainingSlices,
    from_network,
    to_intensity,
    to_network,
)
from partitions.preparation import PreparedSplit


def _split(first: int, slices: int) -> PreparedSplit:
    """Slice ``i`` is constant: its source is ``first + i``, its target 1000 more."""
    source = np.arange(first, first + slices, dtype=np.uint16)[:, None, None]
    source = np.broadcast_to(source, (slices, 2, 3))
    return PreparedSplit(source, source + 1000, np.ones(source.shape, np.uint8), None, ())


def _stored(batch: torch.Tensor) -> list[int]:
    """The stored value of each constant slice in a batch."""
    assert torch.equal(batch.amax((1, 2, 3)), batch.amin((1, 2, 3)))
    return [round(float((value + 1) / 2 * 65535)) for value in batch[:, 0, 0, 0].double()]


def test_stored_extremes_are_zero_and_one_and_reach_the_network_as_minus_one_and_one() -> None:
    stored = np.array([[[0, 65535]]], dtype=np.uint16)
    intensity = to_intensity(stored)
    assert intensity.dtype == torch.float32
    assert intensity.flatten().tolist() == [0.0, 1.0]
    network = to_network(intensity)
    assert network.shape == (1, 1, 1, 2)
    assert network.flatten().tolist() == [-1.0, 1.0]


def test_every_stored_value_survives_the_way_to_the_network_and_back() -> None:
    stored = np.arange(65536, dtype=np.uint16).reshape(4, 128, 128)
    back = from_network(to_network(to_intensity(stored))).double().numpy() * 65535
    np.testing.assert_array_equal(np.rint(back).astype(np.uint16), stored)


def test_what_leaves_the_network_is_float32_also_in_half_precision() -> None:
    assert from_network(torch.zeros(1, 1, 2, 2, dtype=torch.bfloat16)).dtype == torch.float32


def test_pooled_batches_return_the_slices_of_every_site_in_the_order_asked_for() -> None:
    pooled = TrainingSlices([_split(100, 3), _split(200, 1), _split(300, 0), _split(400, 2)])
    assert len(pooled) == 6
    batch = pooled.batch(np.array([5, 0, 3, 2, 4]))
    assert _stored(batch["source"]) == [401, 100, 200, 102, 400]
    assert _stored(batch["target"]) == [1401, 1100, 1200, 1102, 1400]
    assert batch["source"].shape == (5, 1, 2, 3)


def test_a_round_yields_its_batches_in_order() -> None:
    batches = list(RoundBatches(TrainingSlices([_split(0, 4)]), np.array([[3, 1], [0, 3]])))
    assert [_stored(batch["source"]) for batch in batches] == [[3, 1], [0, 3]]


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
