"""Splits by patient: sizes worked out by hand, seeds, no empty split."""

from __future__ import annotations

from collections import Counter

import pytest

from fedi2i.errors import ConfigError
from partitions.splitting import split_by_completeness, split_patients, split_sizes


@pytest.mark.parametrize(
    ("count", "sizes"),
    [(0, (0, 0, 0)), (1, (1, 0, 0)), (2, (1, 0, 1)), (3, (1, 1, 1)), (4, (2, 1, 1)),
     (10, (7, 1, 2)), (16, (11, 2, 3)), (41, (29, 4, 8)), (100, (70, 10, 20))],
)  # fmt: skip
def test_sizes_of_a_70_10_20_split(count: int, sizes: tuple[int, int, int]) -> None:
    assert split_sizes(count, (0.7, 0.1, 0.2)) == sizes


@pytest.mark.parametrize("count", range(3, 40))
@pytest.mark.parametrize("fractions", [(0.7, 0.1, 0.2), (0.98, 0.01, 0.01), (0.01, 0.01, 0.98)])
def test_no_split_is_empty_and_nobody_is_lost(
    count: int, fractions: tuple[float, float, float]
) -> None:
    sizes = split_sizes(count, fractions)
    assert sum(sizes) == count
    assert min(sizes) >= 1


def test_the_split_depends_on_the_seed_and_not_on_the_order_of_patients() -> None:
    names = [f"P{number}" for number in range(30)]
    one = split_patients(names, seed=1)
    assert split_patients(reversed(names), seed=1) == one
    assert split_patients(names * 2, seed=1) == one
    assert split_patients(names, seed=2) != one
    assert Counter(one.values()) == {"train": 21, "val": 3, "test": 6}


def test_every_patient_can_come_into_the_test_split() -> None:
    names = [f"P{number}" for number in range(6)]
    tested = {name for seed in range(60) for name, split in split_patients(names, seed).items()
              if split == "test"}  # fmt: skip
    assert tested == set(names)


def test_patients_without_a_sequence_do_not_use_up_the_test_split() -> None:
    both, one = frozenset({"t1", "t2"}), frozenset({"t2"})
    sequences = {"A": both, "B": both, "C": both, **{f"X{n}": one for n in range(9)}}
    for seed in range(20):
        splits = split_by_completeness(sequences, seed)
        assert {splits["A"], splits["B"], splits["C"]} == {"train", "val", "test"}


@pytest.mark.parametrize("fractions", [(0.5, 0.1, 0.2), (0.8, 0.0, 0.2), (0.9, -0.1, 0.2)])
def test_fractions_that_make_no_split_are_refused(fractions: tuple[float, float, float]) -> None:
    with pytest.raises(ConfigError, match="three positive numbers with sum 1"):
        split_patients(["A", "B", "C"], 0, fractions)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(ConfigError, match="seed -1"):
        split_patients(["A"], -1)
