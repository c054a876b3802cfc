"""Rules of division: who goes where, and what is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedi2i.errors import ConfigError
from partitions.divisions.apportionment import cut, largest_remainder
from partitions.divisions.dividing import LEAVE_OUT, Division, divide
from partitions.divisions.patients import Patient, categories_of
from partitions.divisions.rules.age import band_of, quantile_edges
from partitions.divisions.rules.catalogue import RULES, SHORT

MakePatient = Callable[..., Patient]

SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "category": {"keys": ["manufacturer"]},
    "dirichlet": {"keys": ["manufacturer"]},
    "one_domain": {"holds": ["t1", "t2"]},
    "missing_contrast": {"lacks": ["t1", "none"]},
}
"""What a rule must be told before it can divide the eighty patients."""


def names(division: Division) -> dict[str, list[str]]:
    return {site: [p.name for p in group] for site, group in division.assignment.sites.items()}


def sizes(division: Division) -> dict[str, int]:
    return {site: len(group) for site, group in names(division).items()}


@pytest.mark.parametrize(
    ("count", "shares", "parts"),
    [
        (7, [0.4, 0.3, 0.2, 0.1], (3, 2, 1, 1)),
        (10, [1 / 3, 1 / 3, 1 / 3], (4, 3, 3)),
        (20, [0.98, 0.01, 0.01], (20, 0, 0)),
        (3, [0.1, 0.1, 0.1], (1, 1, 1)),
        (0, [0.5, 0.5], (0, 0)),
    ],
)
def test_the_largest_remainders_get_the_patients_that_are_left(
    count: int, shares: list[float], parts: tuple[int, ...]
) -> None:
    assert largest_remainder(count, shares) == parts


def test_a_division_by_shares_loses_nobody_and_is_never_a_patient_off() -> None:
    rng = np.random.default_rng(5)
    for _ in range(300):
        count, shares = int(rng.integers(0, 90)), rng.dirichlet([0.3] * 5)
        parts = largest_remainder(count, shares)
        assert sum(parts) == count
        assert np.abs(np.array(parts) - count * shares).max() < 1
        assert list(chain(*cut(list(range(count)), parts))) == list(range(count))


@pytest.mark.parametrize("rule", sorted(RULES))
def test_every_patient_is_at_one_site_whatever_the_order_of_the_table(
    rule: str, eighty: list[Patient]
) -> None:
    settings = SETTINGS.get(rule, {})
    division = divide(eighty, rule, settings, seed=3, least=1)
    found = [name for group in names(division).values() for name in group]
    assert sorted(found) == [patient.name for patient in eighty]
    shuffled = [eighty[index] for index in np.random.default_rng(1).permutation(len(eighty))]
    assert names(divide(shuffled, rule, settings, seed=3, least=1)) == names(division)


@pytest.mark.parametrize("rule", ["iid", "quantity", "dirichlet", "one_domain", "missing_contrast"])
def test_another_seed_divides_otherwise(rule: str, eighty: list[Patient]) -> None:
    settings = SETTINGS.get(rule, {})
    one, other = (divide(eighty, rule, settings, seed=seed, least=1) for seed in (3, 4))
    assert names(one) != names(other)


def test_rules_of_one_seed_draw_apart(eighty: list[Patient]) -> None:
    by_shares = divide(eighty, "quantity", {"shares": [1, 1]}, seed=3)
    domains = divide(eighty, "one_domain", {"holds": ["t1", "t2"]}, seed=3)
    assert sizes(by_shares) == sizes(domains) == {"site-1": 40, "site-2": 40}
    assert names(by_shares) != names(domains)


def test_the_natural_division_undoes_an_earlier_one(person: MakePatient) -> None:
    patients = [
        person("A", {"origin_site": "north"}, site="site-1"),
        person("B", {"origin_site": "east"}, site="site-1"),
        person("C", {}, site="west"),
    ]
    found = names(divide(patients, "site", {}, seed=0, least=1))
    assert found == {"north": ["A"], "east": ["B"], "west": ["C"]}


def test_a_manufacturer_in_two_spellings_is_one_site_called_as_most_say(
    person: MakePatient,
) -> None:
    spellings = ["SIEMENS", "Siemens", "Siemens", "GE MEDICAL SYSTEMS", "ge medical  systems"]
    patients = [person(f"P{n}", {"manufacturer": text}) for n, text in enumerate(spellings)]
    found = divide(patients, *SHORT["manufacturer"], seed=0, least=1)
    assert sizes(found) == {"GE-MEDICAL-SYSTEMS": 2, "Siemens": 3}


def test_several_keys_make_a_site_of_every_combination(person: MakePatient) -> None:
    scanners = [("GE", "MR750", 3), ("GE", "MR750", 3.0), ("GE", "Optima", 1.5)]
    keys = ("manufacturer", "model", "field_strength")
    patients = [
        person(f"P{n}", dict(zip(keys, scanner, strict=True))) for n, scanner in enumerate(scanners)
    ]
    found = divide(patients, *SHORT["scanner"], seed=0, least=1)
    assert sizes(found) == {"GE-MR750-3": 2, "GE-Optima-1-5": 1}


def test_a_number_alone_is_no_name_of_a_site(person: MakePatient) -> None:
    patients = [person(f"P{n}", {"field_strength": tesla}) for n, tesla in enumerate((1.5, 3, 3))]
    found = divide(patients, *SHORT["field_strength"], seed=0, least=1)
    assert sizes(found) == {"field_strength-1-5": 1, "field_strength-3": 2}


def test_patients_without_a_value_or_with_two_are_counted_and_not_guessed(
    person: MakePatient,
) -> None:
    patients = [
        person("A", {"sex": "F"}),
        person("B", {"sex": "M"}, {}),
        person("C", {}),
        person("D", {"sex": "F"}, {"sex": "M"}),
    ]
    left = divide(patients, *SHORT["sex"], seed=0, least=1)
    assert names(left) == {"F": ["A"], "M": ["B"]}
    assert left.assignment.left_over == {"no sex": 1, "scans that differ in sex": 1}
    own = divide(patients, "category", {"keys": ["sex"], "missing": "own"}, seed=0, least=1)
    assert names(own)["sex-unknown"] == ["C"]


def test_patients_are_grouped_by_what_every_scan_of_theirs_has(person: MakePatient) -> None:
    patients = [person("A"), person("B", sequences=("t1", "flair")), person("C")]
    found = divide(patients, "sequences", {}, seed=0, least=1)
    assert names(found) == {"flair-t1": ["B"], "t1-t2": ["A", "C"]}


@pytest.mark.parametrize(
    ("age", "band"), [(39.9, 0), (40, 1), (59, 1), (60, 2), (90, 2), (90.1, None), (17, None)]
)
def test_a_band_of_age_is_closed_on_the_left_and_the_last_one_on_both_sides(
    age: float, band: int | None
) -> None:
    assert band_of(age, [18, 40, 60, 90]) == band


def test_a_missing_age_is_left_out_or_apart_and_never_zero(person: MakePatient) -> None:
    ages: list[dict[str, Any]] = [{"age": 0}, {"age": 30}, {"age": "90+"}, {}, {"age": "n/a"}]
    patients = [person(f"P{n}", said) for n, said in enumerate(ages)]
    edges = {"edges": [0, 18, 90]}
    left = divide(patients, "age", edges, seed=0, least=1)
    assert names(left) == {"age-0-18": ["P0"], "age-18-90": ["P1", "P2"]}
    assert left.assignment.left_over == {"no age": 2}
    own = divide(patients, "age", {**edges, "missing": "own"}, seed=0, least=1)
    assert names(own)["age-unknown"] == ["P3", "P4"]


def test_a_patient_has_the_age_of_the_first_scan(person: MakePatient) -> None:
    found = divide(
        [person("A", {"age": 41}, {"age": 39}), person("B", {"age": 50})],
        "age",
        {"edges": [18, 40, 60]},
        seed=0,
        least=1,
    )
    assert names(found) == {"age-18-40": ["A"], "age-40-60": ["B"]}


def test_quantiles_are_of_distinct_ages_and_refused_where_they_collapse() -> None:
    assert quantile_edges([30, 30, 30, 30, 40, 50], 2) == [30, 40, 50]
    with pytest.raises(ConfigError, match="2 distinct ages cannot make 3 bands"):
        quantile_edges([30, 30, 30, 60, None], 3)


def test_equal_sites_have_their_part_of_every_stratum(eighty: list[Patient]) -> None:
    found = divide(eighty, "iid", {"sites": 3, "stratify": ["manufacturer"]}, seed=1)
    assert sorted(sizes(found).values()) == [26, 27, 27]
    whole = Counter(patient.category("manufacturer") for patient in eighty)
    for group in found.assignment.sites.values():
        here = Counter(patient.category("manufacturer") for patient in group)
        assert all(abs(here[vendor] - whole[vendor] / 3) < 1 for vendor in whole)


def test_shares_that_leave_a_site_empty_are_refused(person: MakePatient) -> None:
    patients = [person(f"P{number}") for number in range(20)]
    with pytest.raises(ConfigError, match="'site-2' would have 0, 'site-3' would have 0"):
        divide(patients, "quantity", {"shares": [0.98, 0.01, 0.01]}, seed=0, least=1)
    found = divide(patients, "quantity", {"shares": [0.4, 0.3, 0.2, 0.1]}, seed=0, least=1)
    assert list(sizes(found).values()) == [8, 6, 4, 2]


@pytest.mark.parametrize(("alpha", "low", "high"), [(0.1, 0.80, 0.95), (100, 0.49, 0.53)])
def test_alpha_says_how_much_of_a_site_is_of_one_category(
    alpha: float, low: float, high: float, eighty: list[Patient]
) -> None:
    """The mean share of a site's top category, against the figures measured for such patients."""
    tops = []
    for seed in range(40):
        settings = {"keys": ["manufacturer"], "alpha": alpha}
        sites = divide(eighty, "dirichlet", settings, seed, least=6).assignment.sites
        assert min(map(len, sites.values())) >= 6
        tops += [_top(group) for group in sites.values()]
    assert low < np.mean(tops) < high


def _top(group: Sequence[Patient]) -> float:
    counts = Counter(patient.category("manufacturer") for patient in group)
    return counts.most_common(1)[0][1] / len(group)


def test_dirichlet_draws_again_until_every_site_is_large_enough_and_then_gives_up(
    eighty: list[Patient],
) -> None:
    settings = {"keys": ["manufacturer"], "alpha": 0.1}
    tries = [divide(eighty, "dirichlet", settings, s, least=6).assignment.tries for s in range(20)]
    assert 2 < np.median(tries) < 12
    with pytest.raises(ConfigError, match="in none of 200 draws did all 4 sites have 21 patients"):
        divide(eighty, "dirichlet", settings, seed=0, least=21)


def test_sites_of_one_domain_hold_it_and_patients_without_both_are_counted(
    person: MakePatient,
) -> None:
    patients = [person(f"P{n}") for n in range(9)] + [person("Q", sequences=("t1",))]
    settings = {"holds": ["t1", "t2", "t1+t2"]}
    found = divide(patients, "one_domain", settings, seed=0)
    assert sizes(found) == {"site-1": 3, "site-2": 3, "site-3": 3}
    assert found.assignment.holds == {"site-1": ("t1",), "site-2": ("t2",), "site-3": ("t1", "t2")}
    assert found.assignment.left_over == {"not all of t1, t2": 1}


def test_sites_that_lack_a_contrast_hold_the_others(person: MakePatient) -> None:
    patients = [person(f"P{n}", sequences=("t1", "t2", "flair")) for n in range(6)]
    settings = {"lacks": ["flair", "none"], "shares": [2, 1]}
    found = divide(patients, "missing_contrast", settings, seed=0, least=1)
    assert sizes(found) == {"site-1": 4, "site-2": 2}
    assert found.assignment.holds == {"site-1": ("t1", "t2"), "site-2": ("flair", "t1", "t2")}


def test_a_site_that_is_too_small_is_refused_or_left_out_with_its_patients_counted(
    eighty: list[Patient], person: MakePatient
) -> None:
    patients = [*eighty, person("X1", {"manufacturer": "Hitachi"}), person("X2", {})]
    with pytest.raises(
        ConfigError, match=r"'Hitachi' would have 1 \(left over: 1 with no manufacturer\); .* 80$"
    ):
        divide(patients, *SHORT["manufacturer"], seed=0)
    found = divide(patients, *SHORT["manufacturer"], seed=0, small=LEAVE_OUT)
    assert sizes(found) == {"GE": 40, "Philips": 24, "Siemens": 16}
    assert found.assignment.left_over == {
        "no manufacturer": 1,
        "a site of fewer than 3 patients": 1,
    }


@pytest.mark.parametrize(
    ("rule", "settings", "sentence"),
    [
        ("agee", {}, "unknown value 'agee'; did you mean 'age'"),
        ("age", {"band": 3}, "unknown key 'band'; did you mean 'bands'"),
        ("age", {"edges": [40, 40]}, "must be two or more rising"),
        ("category", {}, "name the metadata to divide by"),
        ("category", {"keys": ["manufacture"]}, "did you mean 'manufacturer'"),
        ("dirichlet", {"keys": ["age"], "alpha": 0}, "alpha is 0.0; it must be finite and above 0"),
        ("quantity", {"shares": [1, -1]}, "must be positive numbers"),
        ("one_domain", {"holds": ["t1", "ct"]}, "no patient has all of ct, t1; sequences here"),
        ("missing_contrast", {"lacks": ["ct"]}, "one of t1, t2, or none"),
        ("one_domain", {"shares": [1]}, "must be 3 positive numbers"),
    ],
)
def test_settings_that_do_not_fit_are_one_sentence(
    rule: str, settings: dict[str, Any], sentence: str, eighty: list[Patient]
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        divide(eighty, rule, settings, seed=0)


def test_categories_in_the_order_of_their_names(eighty: list[Patient]) -> None:
    found = categories_of(eighty, ["manufacturer"])
    assert {name: len(group) for name, group in found.items()} == {
        "GE": 40,
        "Philips": 24,
        "Siemens": 16,
    }


def test_the_documents_name_every_rule() -> None:
    page = Path(__file__).resolve().parents[3] / "docs" / "divisions.md"
    text = page.read_text(encoding="utf-8")
    missing = [name for name in (*RULES, *SHORT) if f"`{name}`" not in text]
    assert missing == []
