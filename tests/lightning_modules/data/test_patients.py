"""Patients are drawn by chance, each by itself, and each counts once whatever it has."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from constant_slices import BOTH, constant_split, stored_values

from lightning_modules.data.patients import PatientDraws, patients_digest
from lightning_modules.data.slices import TrainingSlices
from lightning_modules.privacy.update_noise import system_uniform
from partitions.preparation import PreparedSplit

NETWORKS = ("discriminator", "generator")


def draws(slices: TrainingSlices, rate: float, most: int = 2, steps: int = 1) -> PatientDraws:
    return PatientDraws(slices, rate, most, NETWORKS, steps, system_uniform())


def split_of(*slices: int, first: int = 0) -> PreparedSplit:
    return constant_split(first, *((count, BOTH) for count in slices))


def test_each_patient_is_drawn_with_the_same_probability_whatever_it_has() -> None:
    drawn = draws(TrainingSlices([split_of(3, 30, 1, 7)]), rate=0.3)
    owners = np.repeat(np.arange(4), [3, 30, 1, 7])
    times = np.zeros(4)
    for _ in range(4000):
        for patient in drawn.draw():
            times[owners[patient[0]]] += 1
    # Five standard deviations of a share of 4,000 draws.
    np.testing.assert_allclose(times / 4000, 0.3, atol=5 * np.sqrt(0.3 * 0.7 / 4000))


def test_the_number_of_drawn_patients_has_the_spread_of_independent_draws() -> None:
    """A fixed number per step would be another mechanism, with another epsilon."""
    drawn = draws(TrainingSlices([split_of(*[1] * 20)]), rate=0.1)
    sizes = [len(drawn.draw()) for _ in range(4000)]
    assert np.mean(sizes) == pytest.approx(2.0, abs=0.11)
    assert np.var(sizes) == pytest.approx(20 * 0.1 * 0.9, rel=0.15)
    assert min(sizes) == 0


def test_a_drawn_patient_brings_so_many_different_slices_of_its_own() -> None:
    (step,) = draws(TrainingSlices([split_of(3, 30, 1)]), rate=1.0)
    owners = np.repeat(np.arange(3), [3, 30, 1])
    for network in NETWORKS:
        values = [stored_values(batch["source"]) for batch in step[network]]
        assert [len(set(found)) for found in values] == [len(found) for found in values]
        assert [len(found) for found in values] == [2, 2, 1]
        assert [{int(owners[v]) for v in found} for found in values] == [{0}, {1}, {2}]


def test_networks_draw_their_patients_independently_of_each_other() -> None:
    both = [
        [bool(step[network]) for network in NETWORKS]
        for step in draws(TrainingSlices([split_of(1)]), rate=0.5, steps=2000)
    ]
    together = np.mean([first == second for first, second in both])
    assert together == pytest.approx(0.5, abs=0.06)


def test_no_two_rounds_draw_alike() -> None:
    slices = TrainingSlices([split_of(*[1] * 64)])
    found = [[int(p[0]) for p in draws(slices, rate=0.5).draw()] for _ in range(5)]
    assert all(one != other for one, other in pairwise(found))


def test_several_scans_of_one_person_are_one_patient_and_sites_keep_theirs_apart() -> None:
    split = split_of(2, 3, 4)
    same = tuple(
        replace(subject, metadata={"patient_id": "p1"}) if number != 1 else subject
        for number, subject in enumerate(split.subjects)
    )
    slices = TrainingSlices([replace(split, subjects=same), split_of(2, first=100)])
    assert [found.tolist() for found in slices.patients()] == [
        [0, 1, 5, 6, 7, 8],
        [2, 3, 4],
        [9, 10],
    ]


def test_a_subject_without_both_domains_is_no_patient() -> None:
    split = constant_split(0, (2, ("source",)), (3, BOTH))
    assert [len(found) for found in TrainingSlices([split]).patients()] == [3]


def test_another_name_or_order_of_patients_is_no_other_data() -> None:
    split = split_of(2, 2)
    renamed = replace(
        split, subjects=tuple(replace(s, subject=f"new-{s.subject}") for s in split.subjects)
    )
    swapped = replace(split, source=split.source[[2, 3, 0, 1]], target=split.target[[2, 3, 0, 1]])
    changed = replace(split, target=split.target + np.uint16(1))
    known = patients_digest(TrainingSlices([split]))
    assert patients_digest(TrainingSlices([renamed])) == known
    assert patients_digest(TrainingSlices([swapped])) == known
    assert patients_digest(TrainingSlices([changed])) != known
