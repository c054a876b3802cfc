"""What the report says of privacy: mechanisms, what sites have spent, and what promises nothing."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from fedi2i.errors import DataError
from report.numbers.analysis import analyse
from report.page.privacy import privacy_section
from report.page.render import render_page
from report.run.folder import read_run

NOISED = {
    "mechanism": "update_noise",
    "label": "noised updates",
    "promise": "epsilon for all data of a site",
    "guarantees": True,
    "unit": "everything that a site holds",
    "relation": "replaced by other data",
    "delta": 1e-5,
    "epsilon": 84.0,
    "settings": {"noise_multiplier": 1.5},
}
PERCENTILE = {
    "mechanism": "percentile",
    "label": "PercentilePrivacy",
    "promise": "not differential privacy: the largest changes leave",
    "guarantees": False,
}


def with_privacy(about: dict[str, Any], **privacy: dict[str, Any]) -> dict[str, Any]:
    for arm in about["arms"]:
        arm |= {"privacy": privacy[arm["name"]]} if arm["name"] in privacy else {}
    return about


def ledgers(arm: str, **totals: float) -> pd.DataFrame:
    """Two rounds of each site's ledger, the first of them half of the total."""
    rows = [
        (arm, site, number, f"privacy/{name}", value)
        for site, total in totals.items()
        for number in (0, 1)
        for name, value in (
            ("epsilon_round", total / 2),
            ("epsilon_total", total * (number + 1) / 2),
        )
    ]
    return pd.DataFrame(rows, columns=["arm", "site", "round", "metric", "value"])


def test_a_run_without_a_mechanism_says_that_nothing_is_promised(write_run) -> None:
    found = privacy_section(read_run(write_run()))
    assert found.jobs == []
    assert [text for text, _ in found.sentences] == [
        "No job of this run carries a privacy mechanism; nothing is promised."
    ]


def test_each_site_s_ledger_is_shown_and_the_largest_is_told(write_run, about, curves) -> None:
    spent = ledgers("fedavg", a=40_000.0, b=2.5, all=40_000.0)
    folder = write_run(with_privacy(about, fedavg=NOISED), curves=pd.concat([curves, spent]))
    found = privacy_section(read_run(folder))
    (job,) = found.jobs
    sizes = {entry["name"]: entry["train"] for entry in about["sites"]}
    assert [(one.site, one.patients, one.epsilon_round, one.total) for one in job.sites] == [
        ("a", sizes["a"], "20,000", "40,000"),
        ("b", sizes["b"], "1.25", "2.5"),
    ]
    assert sizes["a"] != sizes["b"]
    page = render_page(analyse(read_run(folder)))
    _, _, row = page.partition('<td class="text divided">a</td>')
    assert row.split("</td>")[0].strip() == f"<td>{sizes['a']}"
    said = [text for text, warns in found.sentences if warns]
    assert said == ["FEDAVG: epsilon 40,000: it shows the mechanism and protects nobody."]
    assert "Without a mechanism: FEDPROX." in found.sentences[-1][0]


def test_the_jobs_of_a_run_spend_together(write_run, about, curves) -> None:
    both = pd.concat([curves, ledgers("fedavg", a=2.0, b=3.0), ledgers("fedprox", a=4.0, b=1.0)])
    folder = write_run(with_privacy(about, fedavg=NOISED, fedprox=NOISED), curves=both)
    said = " ".join(text for text, _ in privacy_section(read_run(folder)).sentences)
    assert "Together a site has spent at most the sum: epsilon 7, at the sum" in said
    assert "protects nobody" not in said and "Without a mechanism" not in said


def test_what_the_accountant_has_composed_stands_in_place_of_the_sum(
    write_run, about, curves
) -> None:
    both = pd.concat([curves, ledgers("fedavg", a=2.0, b=3.0), ledgers("fedprox", a=4.0, b=1.0)])
    spent = {
        "sites": ["a", "b"],
        "unit": "everything that a site holds",
        "relation": "replaced by other data",
        "trainings": 2,
        "delta": 1e-5,
        "epsilon": 4.25,
        "added_up": 7.0,
    }
    about = with_privacy(about, fedavg=NOISED, fedprox=NOISED) | {"spent_together": [spent]}
    folder = write_run(about, curves=both)
    said = " ".join(text for text, _ in privacy_section(read_run(folder)).sentences)
    assert "The 2 trainings were on the same patients of a and b. Composed, they spend" in said
    assert "epsilon 4.25 at delta 1e-05 for everything that a site holds" in said
    assert "added up it would be 7." in said and "at most the sum" not in said


def test_a_mechanism_without_a_guarantee_is_labelled(write_run, about, curves) -> None:
    folder = write_run(with_privacy(about, fedavg=PERCENTILE), curves=curves)
    found = privacy_section(read_run(folder))
    assert found.sentences[0] == (
        "Not differential privacy, and no guarantee at all: FEDAVG.",
        True,
    )
    assert [(job.label, list(job.sites), job.planned) for job in found.jobs] == [
        ("FEDAVG", [], "\N{EN DASH}")
    ]


def test_a_mechanism_of_the_sites_own_policies_is_shown_as_theirs(write_run, about, curves) -> None:
    folder = write_run(about, curves=pd.concat([curves, ledgers("fedprox", a=1.0)]))
    (job,) = privacy_section(read_run(folder)).jobs
    assert job.privacy.label == "differential privacy of the sites' own"


def test_the_page_has_mechanism_unit_relation_delta_and_settings(write_run, about, curves) -> None:
    folder = write_run(with_privacy(about, fedavg=NOISED), curves=curves)
    page = render_page(analyse(read_run(folder)))
    section = page[page.index('<h2 id="privacy">') : page.index('<h2 id="pictures">')]
    for words in (
        "noised updates",
        "everything that a site holds",
        "replaced by other data",
        "1e-05",
        "noise_multiplier: 1.5",
        "84 planned",
    ):
        assert words in section


def test_a_mechanism_that_does_not_say_what_it_promises_is_refused(write_run, about) -> None:
    broken = {key: value for key, value in NOISED.items() if key != "promise"}
    with pytest.raises(DataError, match=r"arms\[4\]: privacy: key 'promise' is missing"):
        read_run(write_run(with_privacy(about, fedavg=broken)))
