"""Who judges what, in which order and on which side."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest

from fedi2i.errors import ConfigError
from report.readers.design import (
    PREFERENCE,
    TARGET,
    TASKS,
    TURING,
    Item,
    Patient,
    Plan,
    draw_sheets,
)

ARMS = ("one", "two", "three")
PATIENTS = [Patient("a", f"a{n}") for n in range(7)] + [Patient("b", f"b{n}") for n in range(4)]
READERS = ("r1", "r2", "r3", "r4")


def sheets(seed: int = 11, repeated: float = 0.2, readers=READERS) -> dict[str, tuple[Item, ...]]:
    return draw_sheets(PATIENTS, Plan(ARMS, readers, repeated=repeated, seed=seed))


def first_showings(items: tuple[Item, ...], task: str) -> list[Item]:
    return [item for item in items if item.case.task == task and item.repeats is None]


def test_one_half_of_the_pictures_is_real_and_every_patient_is_in_both_halves() -> None:
    shown = [(item.case.patient, item.shown[0]) for item in first_showings(sheets()["r1"], TURING)]
    assert sorted(patient for patient, what in shown if what == TARGET) == sorted(PATIENTS)
    assert sorted(patient for patient, what in shown if what != TARGET) == sorted(PATIENTS)


@pytest.mark.parametrize("seed", range(5))
def test_arms_are_dealt_to_equally_many_patients_of_all_sites_and_of_each(seed: int) -> None:
    translated = [
        item for item in first_showings(sheets(seed)["r1"], TURING) if item.shown[0] != TARGET
    ]
    for site in ("a", "b", ""):
        dealt = Counter(
            item.shown[0] for item in translated if item.case.patient.site in (site or "ab")
        )
        counts = [dealt[arm] for arm in ARMS]
        assert max(counts) - min(counts) <= 1


def test_every_pair_of_arms_is_judged_for_every_patient_and_by_every_reader() -> None:
    drawn = sheets()
    pairs = Counter(item.case.shown for item in first_showings(drawn["r1"], PREFERENCE))
    assert pairs == {pair: 11 for pair in (("one", "two"), ("one", "three"), ("two", "three"))}
    cases = {reader: {item.case for item in items} for reader, items in drawn.items()}
    assert all(judged == cases["r1"] for judged in cases.values())


def test_sides_are_balanced_for_each_reader_and_for_each_case_over_two_readers() -> None:
    drawn = sheets()
    for items in drawn.values():
        preferences = first_showings(items, PREFERENCE)
        for pair in {item.case.shown for item in preferences}:
            swapped = [item.swapped for item in preferences if item.case.shown == pair]
            assert abs(2 * sum(swapped) - len(swapped)) == 1  # of eleven patients
        left = Counter(item.shown[0] for item in preferences)
        assert max(left.values()) - min(left.values()) <= 2
    for one, other in (("r1", "r2"), ("r3", "r4")):
        sides = {item.case: item.swapped for item in first_showings(drawn[one], PREFERENCE)}
        assert all(
            item.swapped != sides[item.case] for item in first_showings(drawn[other], PREFERENCE)
        )


def test_readers_have_orders_of_their_own_which_the_seed_alone_decides() -> None:
    drawn = sheets()
    orders = {tuple(item.case for item in items) for items in drawn.values()}
    assert len(orders) == len(READERS)
    assert sheets() == drawn
    assert sheets(12)["r1"] != drawn["r1"]
    assert sheets(readers=("r1", "r2"))["r2"] == drawn["r2"]


def test_the_stated_share_comes_again_later_with_its_pictures_on_the_other_sides() -> None:
    for items in sheets().values():
        numbered = {item.number: place for place, item in enumerate(items)}
        for task, cases in ((TURING, 22), (PREFERENCE, 33)):
            own = [item for item in items if item.case.task == task]
            again = [item for item in own if item.repeats is not None]
            assert len(own) == cases + len(again)
            assert len(again) == round(0.2 * cases)
            for item in again:
                before = items[numbered[item.repeats]]
                assert before.case == item.case
                assert numbered[before.number] - numbered[own[0].number] < cases // 2
                assert numbered[item.number] - numbered[own[0].number] >= cases // 2
                assert item.shown == (before.shown if task == TURING else before.shown[::-1])


def test_no_patient_comes_twice_in_a_row_and_targets_are_shown_as_such_at_the_end() -> None:
    for items in sheets().values():
        tasks = [item.case.task for item in items]
        assert tasks == sorted(tasks, key=TASKS.index)
        for one, other in itertools.pairwise(items):
            if one.case.task == other.case.task:
                assert one.case.patient != other.case.patient


@pytest.mark.parametrize("share", [-0.1, 0.6])
def test_a_share_of_repetitions_out_of_range_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match="give a share from 0 to"):
        sheets(repeated=share)


def test_a_preference_of_one_arm_is_refused() -> None:
    with pytest.raises(ConfigError, match="two arms"):
        Plan(("one",), READERS, seed=1)
