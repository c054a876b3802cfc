"""Batches of a learner: pairs, or each domain in an order of its own."""

from __future__ import annotations

import numpy as np
import pytest
from constant_slices import BOTH, constant_split, stored_values

from lightning_modules.data.batch_source import BatchSource
from lightning_modules.data.slice_order import SliceOrder
from lightning_modules.data.slices import Batch, TrainingSlices


def _slices(*subjects: tuple[int, tuple[str, ...]]) -> TrainingSlices:
    """The source of slice ``i`` is stored as ``i + 1``, its target as 1000 more; 0 is none."""
    return TrainingSlices([constant_split(1, *subjects)])


def _drawn(batches: list[Batch], domain: str) -> list[int]:
    return [value for batch in batches for value in stored_values(batch[domain])]


def _source(model: str, slices: TrainingSlices, arm: str = "north", seed: int = 1) -> BatchSource:
    return BatchSource(model, slices, seed, arm, batch_size=3)


def test_pix2pix_draws_pairs_in_the_order_of_its_arm() -> None:
    source = _source("pix2pix", _slices((6, BOTH)))
    batches = list(source.batches(0, 4))
    expected = SliceOrder(1, "north", 6, 3).indices(0, 4)
    assert _drawn(batches, "source") == (expected.ravel() + 1).tolist()
    assert _drawn(batches, "target") == (expected.ravel() + 1001).tolist()
    assert source.domains == BOTH
    assert source.samples == 6


def test_cyclegan_draws_source_and_target_independently_even_of_pairs() -> None:
    batches = list(_source("cyclegan", _slices((12, BOTH))).batches(0, 40))
    source = np.array(_drawn(batches, "source"))
    target = np.array(_drawn(batches, "target")) - 1000
    # Every epoch of twelve holds every slice once, and pairs meet as often as chance has it.
    for drawn in (source, target):
        assert all(sorted(epoch) == list(range(1, 13)) for epoch in drawn.reshape(-1, 12).tolist())
    met = int((source == target).sum())
    assert 1 <= met <= 30  # 10 of 120 on average, and 120 if they were drawn together
    assert abs(np.corrcoef(source, target)[0, 1]) < 0.3


def test_each_domain_is_drawn_from_the_subjects_that_have_it_and_never_a_zero() -> None:
    slices = _slices((4, ("source",)), (2, BOTH), (3, ("target",)))
    source = _source("cyclegan", slices)
    batches = list(source.batches(0, 20))
    assert set(_drawn(batches, "source")) == set(range(1, 7))
    assert set(_drawn(batches, "target")) == set(range(1005, 1010))
    assert source.samples == 6 + 5
    paired = _source("pix2pix", slices)
    assert set(_drawn(list(paired.batches(0, 20)), "source")) == {5, 6}
    assert paired.samples == 2


@pytest.mark.parametrize("domain", BOTH)
def test_a_domain_that_a_site_does_not_have_is_absent_from_its_batches(domain: str) -> None:
    source = _source("cyclegan", _slices((5, (domain,))))
    batches = list(source.batches(0, 3))
    assert len(batches) == 3
    assert all(batch.keys() == {domain} for batch in batches)
    assert source.domains == (domain,)
    assert source.samples == 5


def test_what_is_drawn_of_one_domain_does_not_depend_on_the_other() -> None:
    both = _source("cyclegan", _slices((7, BOTH))).batches(0, 9)
    alone = _source("cyclegan", _slices((7, ("source",)))).batches(0, 9)
    assert _drawn(list(both), "source") == _drawn(list(alone), "source")


def test_a_round_is_the_same_whether_or_not_earlier_ones_were_drawn() -> None:
    slices = _slices((7, BOTH), (2, ("target",)))
    long = list(_source("cyclegan", slices).batches(0, 12))
    for first in (0, 4, 8):
        part = list(_source("cyclegan", slices).batches(first, 4))
        for domain in BOTH:
            assert _drawn(part, domain) == _drawn(long[first : first + 4], domain)


def test_arms_and_seeds_have_orders_of_their_own() -> None:
    slices = _slices((20, BOTH))
    orders = {
        tuple(_drawn(list(_source("cyclegan", slices, arm, seed).batches(0, 7)), domain))
        for arm in ("north", "east")
        for seed in (1, 2)
        for domain in BOTH
    }
    assert len(orders) == 8


@pytest.mark.parametrize("model", ["pix2pix", "cyclegan"])
def test_a_site_without_slices_has_neither_domains_nor_samples(model: str) -> None:
    for slices in (TrainingSlices([]), _slices()):
        source = _source(model, slices)
        assert source.domains == ()
        assert source.samples == 0
