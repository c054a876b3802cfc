"""Who has learnt, which outcome is the primary one, and what p-values of single runs hold for."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd
import pytest

from fedi2i.errors import DataError
from report.console import console_text
from report.numbers.analysis import analyse
from report.page.render import render_page
from report.run.folder import read_run

MEAN_TARGET = {"a1": 24, "a2": 25, "a3": 26, "b1": 27, "b2": 28}
"""dB by patient; the unseen site has none."""
PLACE = "Over all patients of the federated sites"


def with_baselines(about: dict[str, Any]) -> dict[str, Any]:
    labels = {"constant": "Constant", "mean-target": "Mean target", "regression": "Regression"}
    entry = {"seconds": 0.0, "rounds": 0, "steps": 0, "bytes_sent": 0, "note": ""}
    arms = [{"name": name, "label": label, **entry} for name, label in labels.items()]
    return {**about, "arms": [*about["arms"], *arms]}


def with_baseline_rows(
    results: pd.DataFrame, mean_target: dict[str, int] = MEAN_TARGET
) -> pd.DataFrame:
    fedavg = results[results.arm == "fedavg"]
    psnr = fedavg[fedavg.metric == "psnr"]
    at_home = psnr[psnr.subject.isin(mean_target)]
    parts = [
        fedavg.assign(arm="regression"),
        psnr.assign(arm="constant", value=14.0),
        at_home.assign(arm="mean-target", value=at_home.subject.map(mean_target).astype(float)),
    ]
    return pd.concat([results, *parts], ignore_index=True)


def test_an_arm_has_learnt_only_above_the_better_of_constant_and_mean_target(
    write_run, about, results
):
    found = with_baseline_rows(results)
    run = read_run(write_run(about=with_baselines(about), results=found))
    federated, unseen = analyse(run).learnt
    assert (federated.floor.name, federated.level) == ("mean-target", 26.0)
    # means: fedavg and regression 25.8, fedprox 25.6, local-only 22.4, centralised 27
    assert [row.name for row in federated.above] == ["centralised"]
    assert {row.name for row in federated.not_above} == {
        "local-only",
        "fedavg",
        "fedprox",
        "regression",
    }
    assert (unseen.floor.name, unseen.level) == ("constant", 14.0)
    assert unseen.not_above == ()


def test_page_and_console_say_who_has_not_learnt(write_run, about, results):
    found = with_baseline_rows(results)
    analysis = analyse(read_run(write_run(about=with_baselines(about), results=found)))
    page = render_page(analysis)
    sentence = (
        f"{PLACE} the best prediction that looks at no patient is &#39;Mean target&#39; with "
        "26.00 dB; Local only, CENTRALISED"
    )
    assert sentence.removesuffix("Local only, CENTRALISED") in page
    assert "cannot be said to have learnt" in page
    assert f"! {PLACE}" in console_text(analysis)
    assert "At the unseen site u the best prediction that looks at no patient" in page
    assert "every trained arm is above it and so has learnt" in page


def test_nothing_is_warned_of_where_every_arm_has_learnt(write_run, about, results):
    low = with_baseline_rows(results, dict.fromkeys(MEAN_TARGET, 10))
    about = with_baselines(about)
    analysis = analyse(read_run(write_run(about=about, results=low)))
    assert "learnt" not in console_text(analysis)
    assert [item.floor.name for item in analysis.learnt] == ["constant", "constant"]


def test_a_metric_by_which_a_constant_beats_every_model_is_named_whichever_way_is_better(
    write_run, about, results
):
    psnr = results[results.metric == "psnr"]
    worst = psnr.assign(metric="mae", value=0.2)
    fine = psnr.assign(metric="nrmse", value=0.3)
    one = psnr[psnr.arm == "fedavg"].assign(arm="constant")
    floors = [one.assign(metric="mae", value=0.1), one.assign(metric="nrmse", value=0.4)]
    found = with_baseline_rows(pd.concat([psnr, worst, fine, *floors], ignore_index=True))
    page = render_page(analyse(read_run(write_run(about=with_baselines(about), results=found))))
    for place in (PLACE, "At the unseen site u"):
        assert f"{place} no trained arm has a better mean MAE than &#39;Constant&#39; (0.1" in page
    assert "no trained arm has a better mean NRMSE" not in page
    assert "no trained arm has a better mean PSNR" not in page


def test_a_run_without_these_baselines_is_not_said_to_have_learnt(write_run):
    page = render_page(analyse(read_run(write_run())))
    assert "so this report cannot say whether a model has learnt" in page


def test_what_needs_no_network_is_neither_tested_nor_drawn(write_run, about, results, curves):
    run = read_run(write_run(with_baselines(about), with_baseline_rows(results), curves))
    analysis = analyse(run)
    tested = {item.other.name for tests in analysis.tests for item in tests.comparisons}
    assert tested == {"local-only", "centralised", "regression", "fedprox"}
    kinds = [row.kind for row in analysis.rows]
    assert kinds[:6] == [
        "source",
        "constant",
        "mean-target",
        "local",
        "centralised",
        "regression",
    ]
    render_page(analysis)


def test_the_ensemble_of_local_models_is_a_baseline_beside_them(write_run, about, results):
    entry = {"seconds": 0.0, "rounds": 0, "steps": 0, "bytes_sent": 0, "note": ""}
    arm = {"name": "ensemble", "label": "Ensemble of the local models", **entry}
    both = pd.concat([results, results[results.arm == "fedavg"].assign(arm="ensemble")])
    run = read_run(write_run({**about, "arms": [*about["arms"], arm]}, both))
    analysis = analyse(run)
    (row,) = [row for row in analysis.rows if row.name == "ensemble"]
    assert (row.is_federated, row.is_trained) == (False, True)
    kinds = [row.kind for row in analysis.rows]
    assert kinds.index("ensemble") == kinds.index("local") + 1
    assert "Ensemble of the local models" in render_page(analysis)


def test_lesion_error_is_tested_like_the_other_metrics(write_run, results):
    lesions = results[results.metric == "mae"].assign(metric="lesion_mae")
    some = lesions[lesions.subject.isin(["a1", "a2", "b1", "u1"])]
    run = read_run(write_run(results=pd.concat([results, some], ignore_index=True)))
    found = {(t.metric.name, t.population.unseen): t for t in analyse(run).tests}
    assert found["lesion_mae", False].n == 3
    assert found["lesion_mae", True].n == 1
    assert len(found["lesion_mae", False].comparisons) == 3


@pytest.mark.parametrize(
    ("primary", "words"),
    [
        (None, "The primary outcome is PSNR over the test patients of the federated sites"),
        (
            {"metric": "mae", "patients": "unseen"},
            "The primary outcome is MAE over the test patients of the unseen site",
        ),
    ],
)
def test_the_primary_outcome_is_named_and_one_table_is_marked(write_run, about, primary, words):
    about |= {"primary_outcome": primary} if primary else {}
    analysis = analyse(read_run(write_run(about=about)))
    page = render_page(analysis)
    assert words in page and words in console_text(analysis)
    captions = re.findall(r"<caption>(.*?)</caption>", page, flags=re.DOTALL)
    marked = [text for text in captions if "primary outcome" in text]
    label = "MAE" if primary else "PSNR"
    place = "Unseen site (u)" if primary else "All federated patients"
    assert len(marked) == 1 and f"{place} · {label}" in marked[0]


def test_one_run_per_arm_limits_what_p_values_hold_for(write_run):
    analysis = analyse(read_run(write_run()))
    words = "p-values hold for these trained models and not for the methods"
    assert render_page(analysis).count(words) == 2  # in the summary and above Table 3
    assert words in console_text(analysis)


@pytest.mark.parametrize(
    ("primary", "sentence"),
    [
        ({"metric": "beauty"}, "'beauty' is not described under 'metrics'"),
        ({"patients": "mine"}, "must be 'federated' or 'unseen'"),
        ("psnr", "expected a value of type dict"),
    ],
)
def test_a_primary_outcome_that_cannot_be_is_refused(write_run, about, primary, sentence):
    with pytest.raises(DataError, match=re.escape(sentence)):
        read_run(write_run(about={**about, "primary_outcome": primary}))


def test_a_smaller_error_of_the_reference_is_better_in_the_summary(write_run, about):
    patients = [f"{site}{number}" for site in ("a", "b") for number in range(1, 13)]
    rows = [
        (arm, subject[0], "test", subject, metric, value + number / 100)
        for number, subject in enumerate(patients)
        for arm, psnr, mae in (("fedavg", 30.0, 0.1), ("fedprox", 20.0, 0.5))
        for metric, value in (("psnr", psnr), ("mae", mae))
    ]
    about["arms"] = [arm for arm in about["arms"] if arm["name"] in ("fedavg", "fedprox")]
    about["sites"] = [{**site, "test": 12} for site in about["sites"] if site["name"] in ("a", "b")]
    about["primary_outcome"] = {"metric": "mae"}
    results = pd.DataFrame(rows, columns=["arm", "site", "split", "subject", "metric", "value"])
    page = render_page(analyse(read_run(write_run(about=about, results=results))))
    assert "by MAE, FEDAVG is better than FEDPROX by 0.4000 (p &lt; 0.001)" in page
