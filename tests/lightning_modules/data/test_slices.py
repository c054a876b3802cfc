"""Training slices: from stored values to what networks see, of the right subjects."""

from __future__ import annotations

import numpy as np
import torch
from constant_slices import BOTH, constant_split, stored_values

from lightning_modules.data.slices import (
    TrainingSlices,
    from_network,
    to_intensity,
    to_network,
)

MIXED = constant_split(100, (3, ("source",)), (2, BOTH), (1, ("target",)))


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
    sites = [
        constant_split(100, (1, BOTH), (2, BOTH)),
        constant_split(200, (1, BOTH)),
        constant_split(300),
    ]
    pooled = TrainingSlices([*sites, constant_split(400, (2, BOTH))])
    assert len(pooled) == 6
    batch = pooled.batch(np.array([5, 0, 3, 2, 4]))
    assert stored_values(batch["source"]) == [401, 100, 200, 102, 400]
    assert stored_values(batch["target"]) == [1401, 1100, 1200, 1102, 1400]
    assert batch["source"].shape == (5, 1, 2, 3)


def test_pairs_are_those_of_subjects_that_have_both_domains() -> None:
    slices = TrainingSlices([MIXED, constant_split(500, (1, BOTH))])
    assert len(slices) == 3
    batch = slices.batch(np.arange(3))
    assert stored_values(batch["source"]) == [103, 104, 500]
    assert stored_values(batch["target"]) == [1103, 1104, 1500]


def test_a_domain_by_itself_has_the_slices_of_every_subject_that_has_it_and_no_zeros() -> None:
    pairs = TrainingSlices([MIXED, constant_split(500, (1, ("target",)))])
    source, target = pairs.of(("source",)), pairs.of(("target",))
    assert (len(source), len(target)) == (5, 4)
    only_source, only_target = source.batch(np.arange(5)), target.batch(np.arange(4))
    assert only_source.keys() == {"source"}
    assert only_target.keys() == {"target"}
    assert stored_values(only_source["source"]) == [100, 101, 102, 103, 104]
    assert stored_values(only_target["target"]) == [1103, 1104, 1105, 1500]


def test_there_may_be_no_slice_at_all() -> None:
    assert len(TrainingSlices([])) == 0
    assert len(TrainingSlices([constant_split(1)])) == 0
    assert len(TrainingSlices([constant_split(1, (3, ("source",)))])) == 0
