from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from app_custom.gates.job_limits import (
    SIMULATION,
    JobLimits,
    JobRefusedError,
    Rule,
    check_data,
    check_parameters,
    check_settings,
    check_sites,
    rounded,
    slices_of_patients,
)
from lightning_modules.configuration import experiment_from
from partitions.preparation import PreparedSplit, PreparedSubject

USUAL = JobLimits()


def split(*slices: int, domains: tuple[str, ...] = ("source", "target"), **names: str) -> Any:
    """Patients ``p0``, ``p1`` ... with so many slices each; ``names`` are some of their ids."""
    subjects, start = [], 0
    for number, count in enumerate(slices):
        metadata = {"patient_id": names[f"p{number}"]} if f"p{number}" in names else {}
        subjects.append(
            PreparedSubject(f"p{number}", start, start + count, None, metadata, domains)
        )
        start += count
    images, masks = np.zeros((start, 2, 2), np.uint16), np.zeros((start, 2, 2), np.uint8)
    return PreparedSplit(images, images, masks, None, tuple(subjects))


def rule(check: Any, *arguments: Any) -> str:
    with pytest.raises(JobRefusedError) as refused:
        check(*arguments)
    assert f"'{refused.value.rule}'" in str(refused.value)
    return refused.value.rule


def test_every_limit_has_a_word_of_its_own_for_who_submitted_the_job() -> None:
    assert {field.name for field in fields(JobLimits)} - {"metric_digits"} == set(Rule) - {
        # Two demands of their own, beside the limits.
        Rule.PATIENT_PRIVACY,
        Rule.STATISTICS,
    }


@pytest.mark.parametrize(("sites", "needed"), [(1, 1), (2, 2), (3, 2), (4, 1)])
def test_a_job_of_two_sites_or_one_that_makes_do_with_two_is_refused(
    sites: int, needed: int
) -> None:
    assert rule(check_sites, USUAL, sites, needed) == Rule.LEAST_SITES
    check_sites(replace(USUAL, least_sites=min(sites, needed)), sites, needed)


@pytest.mark.parametrize(
    ("sites", "reason"),
    [
        (1, "the model of such a round is that site's own"),
        (2, "each of two computes the other's model from the mean, whatever encrypts or masks it"),
        (3, "few sites can put their parts together"),
    ],
)
def test_a_refusal_of_few_sites_says_why_and_that_the_site_s_own_key_alone_allows_it(
    sites: int, reason: str
) -> None:
    with pytest.raises(JobRefusedError, match=reason) as refused:
        check_sites(replace(USUAL, least_sites=4), 5, sites)
    assert f"by 'limits: {{least_sites: {sites}}}' in its own file alone" in str(refused.value)


def test_three_sites_that_all_take_part_are_enough() -> None:
    check_sites(USUAL, 3, 3)


@pytest.mark.parametrize(
    ("training", "preparation", "expected"),
    [
        ({"steps": 1, "batch_size": 1}, {}, Rule.LEAST_SAMPLES_PER_ROUND),
        ({"steps": 7, "batch_size": 7}, {}, Rule.LEAST_SAMPLES_PER_ROUND),
        ({"steps": 20_001}, {}, Rule.MOST_STEPS),
        ({}, {"size": [1040, 1024]}, Rule.MOST_PIXELS),
    ],
)
def test_settings_that_ask_for_too_little_or_too_much_are_refused(
    training: dict[str, Any], preparation: dict[str, Any], expected: Rule
) -> None:
    values = {"training": training, "data": {"preparation": preparation}}
    assert rule(check_settings, USUAL, experiment_from(values, "test")) == expected


def test_the_settings_of_the_demo_are_within_the_limits_of_a_real_site() -> None:
    check_settings(USUAL, experiment_from({}, "test"))


def test_a_model_that_is_too_large_is_refused() -> None:
    assert rule(check_parameters, USUAL, 200_000_001) == Rule.MOST_PARAMETERS
    check_parameters(USUAL, 200_000_000)


@pytest.mark.parametrize(
    ("training", "validation", "expected"),
    [
        (split(20, 20, 20, 20), split(9, 9, 9), Rule.LEAST_TRAINING_PATIENTS),
        (split(10, 10, 10, 10, 9), split(9, 9, 9), Rule.LEAST_TRAINING_SLICES),
        (split(60, 10, 10, 10, 10), split(9, 9, 9), Rule.MOST_SHARE_OF_A_PATIENT),
        (split(20, 20, 20, 20, 20), split(9, 9), Rule.LEAST_VALIDATION_PATIENTS),
        (split(20, 20, 20, 20, 20, p4="x", p3="x"), split(9, 9, 9), Rule.LEAST_TRAINING_PATIENTS),
        # One slice of one patient, as a well chosen share of the mask leaves it.
        (split(1, 0, 0, 0, 0, 0), split(9, 9, 9), Rule.LEAST_TRAINING_PATIENTS),
        # Patients whom the settings left without a slice are none.
        (split(20, 20, 20, 20, 20), split(9, 9, 0), Rule.LEAST_VALIDATION_PATIENTS),
    ],
)
def test_too_few_patients_or_slices_are_refused(
    training: PreparedSplit, validation: PreparedSplit, expected: Rule
) -> None:
    assert rule(check_data, USUAL, "pix2pix", training, validation) == expected
    check_data(SIMULATION, "pix2pix", training, validation)


def test_enough_patients_and_slices_are_accepted() -> None:
    check_data(USUAL, "pix2pix", split(10, 10, 10, 10, 10), split(9, 9, 9))


def test_a_site_without_validation_patients_trains_as_it_sends_no_metric() -> None:
    check_data(USUAL, "pix2pix", split(10, 10, 10, 10, 10), split())
    check_data(USUAL, "pix2pix", split(10, 10, 10, 10, 10), split(0, 0))


def test_each_domain_of_an_unpaired_model_is_counted_by_itself() -> None:
    sources, both = split(20, 20, 20, 20, 20, domains=("source",)), split(20)
    joined = replace(
        sources,
        subjects=(
            *sources.subjects,
            replace(both.subjects[0], subject="q", start=100, stop=120),
        ),
    )
    validation = split(9, 9, 9)
    assert slices_of_patients(joined, ("target",)) == {"q": 20}
    assert rule(check_data, USUAL, "cyclegan", joined, validation) == Rule.LEAST_TRAINING_PATIENTS
    check_data(USUAL, "cyclegan", sources, validation)  # no target: no network is trained on one


@pytest.mark.parametrize(
    ("digits", "expected"), [(1, 20.0), (4, 21.35), (6, 21.3457), (17, 21.345678912345678)]
)
def test_metrics_leave_with_the_digits_that_the_site_allows(digits: int, expected: float) -> None:
    limits = replace(USUAL, metric_digits=digits)
    assert rounded(limits, {"val/psnr": 21.345678912345678}) == {"val/psnr": expected}


def test_a_small_number_keeps_as_many_digits_as_a_large_one() -> None:
    assert rounded(USUAL, {"val/mae": 0.00123456}) == {"val/mae": 0.001235}
