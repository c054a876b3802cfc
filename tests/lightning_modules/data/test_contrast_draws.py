"""Between which contrasts the slices of a batch are translated."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from constant_slices import BOTH, constant_split, stored_values

from lightning_modules.data.batches import BatchSource
from lightning_modules.data.contrast_draws import ContrastDraws
from lightning_modules.data.slices import TrainingSlices

CONTRASTS = ("t1", "t2", "flair", "pd")
DRAWS = ContrastDraws(5, "north", CONTRASTS, first_third=10)


def batches(draws: ContrastDraws | None, first_step: int = 0) -> list[dict[str, torch.Tensor]]:
    """Of two pooled sites: slices 0 to 9 are t1 to t2, 100 to 109 flair to t1."""
    one = replace(constant_split(0, (10, BOTH)), pair=("t1", "t2"))
    other = replace(constant_split(100, (10, BOTH)), pair=("flair", "t1"))
    source = BatchSource(
        "conditional", TrainingSlices([one, other]), 5, "north", 4, contrasts=draws
    )
    return list(source.batches(first_step, 20))


def test_codes_name_what_source_and_target_really_are() -> None:
    directions = set()
    for batch in batches(DRAWS):
        source, target = stored_values(batch["source"]), stored_values(batch["target"])
        for index, (one, other) in enumerate(zip(source, target, strict=True)):
            low = min(one, other)
            assert max(one, other) == low + 1000  # the two slices of one place
            pair = ("t1", "t2") if low < 100 else ("flair", "t1")
            held = pair if one == low else pair[::-1]
            codes = [int(batch[key][index]) for key in ("source_code", "target_code")]
            assert [CONTRASTS[code] for code in codes] == list(held)
            directions.add(held)
    assert len(directions) == 4  # both pairs, both ways


def test_third_contrasts_begin_when_they_should_and_are_none_of_the_pair() -> None:
    drawn = batches(DRAWS)
    assert not any("third_code" in batch for batch in drawn[:10])
    thirds = set()
    for batch in drawn[10:]:
        columns = (batch[f"{which}_code"].tolist() for which in ("source", "target", "third"))
        for codes in zip(*columns, strict=True):
            assert len(set(codes)) == 3
            thirds.add((frozenset(codes[:2]), codes[2]))
    held = (frozenset({0, 1}), frozenset({0, 2}))
    assert thirds == {(pair, third) for pair in held for third in {0, 1, 2, 3} - pair}


def test_two_contrasts_leave_no_third_one() -> None:
    two = ContrastDraws(5, "north", ("t1", "t2"), first_third=0)
    assert "third_code" not in two.codes([("t1", "t2")] * 4, 50)


def test_a_step_has_the_same_draws_in_whatever_round_it_comes() -> None:
    whole, later = batches(DRAWS), batches(DRAWS, first_step=12)
    for one, other in zip(whole[12:], later, strict=False):
        assert all(torch.equal(one[key], other[key]) for key in one)
    others = replace(DRAWS, arm="east").turned([("t1", "t2")] * 64, 0)
    assert not np.array_equal(DRAWS.turned([("t1", "t2")] * 64, 0), others)


def test_without_draws_batches_are_as_they_were() -> None:
    for batch in batches(None):
        assert {*batch} == {*BOTH}
        assert all(
            target == source + 1000
            for source, target in zip(
                stored_values(batch["source"]), stored_values(batch["target"]), strict=True
            )
        )
