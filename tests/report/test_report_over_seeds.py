"""What the runs of a study say together: ways to a goal, sites, ranks, and sentences from them."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import six_seeds

from report.figures.over_seeds import draw_convergence
from report.figures.style import line_styles
from report.numbers.over_seeds.convergence import (
    BYTES,
    ROUNDS,
    SECONDS,
    StudyConvergence,
    study_convergence,
)
from report.numbers.over_seeds.ranks import study_ranks
from report.numbers.over_seeds.reaching import (
    Reached,
)
from report.numbers.over_seeds.sites import SiteFairness, site_fairness
from report.numbers.over_seeds.study import RunMeans, StudyAnalysis, analyse_study
from report.page.studies.insights import convergence_sentences, insights
from report.page.studies.over_seeds import median_text, over_seeds
from report.page.studies.study import render_study, study_summary
from report.run.study import read_study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyAnalysis:
    """The study whose ways are the hand-made ones."""
    return _analysis(six_seeds.write(tmp_path_factory.mktemp("six") / "study"))


def _analysis(folder: Path) -> StudyAnalysis:
    return analyse_study(read_study(folder))


def _ways(analysis: StudyAnalysis) -> StudyConvergence:
    found = study_convergence(analysis)
    assert found is not None
    return found


def test_rounds_bytes_and_seconds_to_the_goal_come_out_of_the_run_files(
    study: StudyAnalysis,
) -> None:
    found = _ways(study)
    assert found.goal is not None
    assert found.goal.value == pytest.approx(21.6)
    assert found.goal.on_test
    arms = {arm.row.name: arm for arm in found.arms}
    reached = {name: arm.medians[ROUNDS].median for name, arm in arms.items()}
    assert reached["fedavg"].place == pytest.approx(4.8)
    assert reached["fedprox"] == Reached(6.0, censored=True)
    assert reached["fedma"].place == pytest.approx(4.0)
    # three sites, one megabyte each way; the slowest site takes 8 s a round
    assert arms["fedavg"].medians[BYTES].median.place == pytest.approx(4.8 * 6e6)
    assert arms["fedavg"].medians[SECONDS].median.place == pytest.approx(4.8 * 8)
    # pooled, a round takes the steps of all sites, and nothing is sent
    central = arms["centralised"]
    assert central.medians[SECONDS].median.place == pytest.approx((3 + 0.6 / 0.7) * 19)
    assert BYTES not in central.medians


def test_sites_that_train_one_after_another_take_the_sum_of_their_seconds(tmp_path: Path) -> None:
    folder = six_seeds.write(tmp_path / "study", seeds=(1, 2, 3))
    for seed in (1, 2, 3):
        path = folder / f"seed-{seed}" / "curves.csv"
        curves = pd.read_csv(path)
        relayed = pd.DataFrame(
            [("scaffold", "small", 0, "relay/psnr", 12.0)], columns=curves.columns
        )
        pd.concat([curves, relayed]).to_csv(path, index=False)
    arms = {arm.row.name: arm for arm in _ways(_analysis(folder)).arms}
    assert arms["scaffold"].lines[1][SECONDS].iloc[-1] == pytest.approx(6 * (5 + 8 + 6))
    assert arms["fedavg"].lines[1][SECONDS].iloc[-1] == pytest.approx(6 * 8)


def test_arms_are_raced_against_the_reference_and_holm_counts_all_of_them(
    study: StudyAnalysis,
) -> None:
    arms = {arm.row.name: arm for arm in _ways(study).arms}
    assert arms["fedavg"].race is None
    assert arms["centralised"].race is None
    for name, counts in {"scaffold": (6, 0), "fedma": (6, 0), "fedprox": (0, 6)}.items():
        raced = arms[name].race
        assert raced is not None
        assert (raced.earlier, raced.later) == counts
        assert arms[name].p_holm == pytest.approx(3 * 2 / 2**6)
        assert not arms[name].shown_faster and not arms[name].shown_slower


@pytest.mark.parametrize(
    ("arm", "reason"),
    [
        ("centralised", "no centralised arm recorded its way"),
        ("constant", "the centralised arm ends no better than the constant baseline"),
    ],
)
def test_without_a_goal_the_lines_are_drawn_and_the_page_says_why(
    tmp_path: Path, arm: str, reason: str
) -> None:
    folder = six_seeds.write(tmp_path / "study", seeds=(1, 2, 3))
    for seed in (1, 2, 3):
        path = folder / f"seed-{seed}" / "curves.csv"
        curves = pd.read_csv(path)
        if arm == "centralised":
            curves = curves[curves["arm"] != arm]
        else:
            better = [("constant", site, 0, "val/psnr", 23.0) for site in six_seeds.SITES]
            curves = pd.concat([curves, pd.DataFrame(better, columns=curves.columns)])
        curves.to_csv(path, index=False)
    found = _ways(_analysis(folder))
    assert (found.goal, found.why_not) == (None, reason)
    assert len(found.arms[-1].lines) == 3
    (sentence,) = convergence_sentences(found, 2)
    assert sentence.endswith(f"is not said: {reason}.")


def test_a_recorded_constant_is_taken_before_that_of_the_test_patients(tmp_path: Path) -> None:
    folder = six_seeds.write(tmp_path / "study", seeds=(1, 2, 3))
    for seed in (1, 2, 3):
        path = folder / f"seed-{seed}" / "curves.csv"
        rows = [("constant", site, 0, "val/psnr", 12.0) for site in six_seeds.SITES]
        curves = pd.read_csv(path)
        added = pd.DataFrame(rows, columns=curves.columns)
        pd.concat([curves, added]).to_csv(path, index=False)
    analysis = _analysis(folder)
    found = _ways(analysis)
    assert found.goal is not None
    assert (found.goal.constant, found.goal.on_test) == (12.0, False)
    assert found.goal.value == pytest.approx(12 + 0.95 * 10)
    assert found.floors == {"Constant": 12.0}
    trained = [row for row in analysis.rows if row.is_trained]
    panels = draw_convergence(found, line_styles(trained, trained), "PSNR").axes
    for panel in panels:
        assert [12.0, 12.0] in [list(line.get_ydata()) for line in panel.get_lines()]
    assert "on the same patients (Constant 12.00)" in _text(render_study(analysis))


def _fair(analysis: StudyAnalysis) -> SiteFairness:
    found = site_fairness(analysis)
    assert found is not None
    return found


def test_the_worst_site_is_found_anew_in_every_run(study: StudyAnalysis) -> None:
    arms = {arm.row.name: arm for arm in _fair(study).arms}
    for seed in six_seeds.SEEDS:
        results = six_seeds.results(seed)
        chosen = results[(results["arm"] == "fedavg") & (results["metric"] == "psnr")]
        means = chosen[chosen["site"].isin(six_seeds.SITES)].groupby("site")["value"].mean()
        assert arms["fedavg"].worst.of_seed[seed] == pytest.approx(means.min())
        assert arms["fedavg"].mean.of_seed[seed] == pytest.approx(means.mean())
        assert arms["fedavg"].spread.of_seed[seed] == pytest.approx(means.std())
    assert arms["local-only"].worst_sites == {"small": 6}
    assert arms["constant"].worst_sites == {}


def test_a_site_gains_or_loses_against_its_own_model_only_where_the_test_shows_it(
    study: StudyAnalysis,
) -> None:
    found = {item.site: item for item in _fair(study).joining if item.row.name == "fedavg"}
    assert {site: item.gains for site, item in found.items()} == {
        "small": True,
        "large": False,
        "middle": None,
    }
    assert {site: item.patients for site, item in found.items()} == six_seeds.SITES
    own = six_seeds.results(1)
    own = own[(own["site"] == "small") & (own["metric"] == "psnr")]
    means = own.groupby("arm")["value"].mean()
    assert found["small"].per_seed[1] == pytest.approx(means["fedavg"] - means["local-small"])


def test_ranks_are_over_seeds_and_leave_out_an_arm_that_came_out_like_another(
    study: StudyAnalysis, tmp_path: Path
) -> None:
    found = study_ranks(study)
    assert found is not None
    assert [row.name for row in found.rows] == ["fedavg", "fedprox", "scaffold", "fedma"]
    assert found.ranks.means == (2, 3, 1, 4)
    assert found.ranks.blocks == 6
    folder = six_seeds.write(tmp_path / "study", seeds=(1, 2, 3))
    for seed in (1, 2, 3):
        path = folder / f"seed-{seed}" / "results.csv"
        results = pd.read_csv(path)
        copied = results[results["arm"] == "fedavg"].assign(arm="fedprox")
        pd.concat([results[results["arm"] != "fedprox"], copied]).to_csv(path, index=False)
    fewer = study_ranks(_analysis(folder))
    assert fewer is not None
    assert [row.name for row in fewer.rows] == ["fedavg", "scaffold", "fedma"]
    assert [[row.name for row in copies] for copies in fewer.like.values()] == [["fedprox"], [], []]


def test_new_picture_metrics_are_tested_as_secondary_outcomes(study: StudyAnalysis) -> None:
    tested = {(tests.metric.name, tests.population.unseen, tests.primary) for tests in study.tests}
    assert ("gmsd", True, False) in tested and ("gmsd", False, False) in tested
    assert [tests.primary for tests in study.tests].count(True) == 1


def _sentences(analysis: StudyAnalysis) -> list[str]:
    return insights(analysis, over_seeds(analysis))


def test_a_study_says_which_arms_are_not_above_what_needs_no_network(
    study: StudyAnalysis, tmp_path: Path
) -> None:
    assert all("cannot be said" not in sentence for sentence in _sentences(study))
    folder = six_seeds.write(tmp_path / "study", seeds=(1, 2, 3))
    for seed in (1, 2, 3):
        path = folder / f"seed-{seed}" / "results.csv"
        results = pd.read_csv(path)
        rows = (results["arm"] == "constant") & (results["metric"] == "psnr")
        arm = results[(results["arm"] == "fedavg") & (results["metric"] == "psnr")]
        between = arm.groupby("subject")["value"].first() + 0.01  # just above FedAvg, each patient
        results.loc[rows, "value"] = results.loc[rows, "subject"].map(between)
        results.to_csv(path, index=False)
    said = [one for one in _sentences(_analysis(folder)) if "cannot be said to have" in one]
    assert [one.split(" the best prediction")[0] for one in said] == [
        "Over all patients of the federated sites",
        "At the unseen site island",
    ]
    assert all(
        "looks at no patient is 'Constant'" in one and "FedAvg" in one and "not above it in" in one
        for one in said
    )


@pytest.mark.parametrize(("off", "shown"), [(1e-15, False), (0.004, True)])
def test_a_spread_that_rounding_alone_makes_is_none(off: float, shown: bool) -> None:
    means = RunMeans({1: 6.283, 2: 6.283 * (1 + off), 3: 6.283})
    assert bool(means.spread) is shown


def test_sentences_follow_from_the_tests_by_rule(study: StudyAnalysis) -> None:
    said = _sentences(study)
    assert any(
        one.startswith("With 6 seeds and 5 patients the 95 % intervals of the primary")
        for one in said
    )
    assert (
        "FedAvg against FedProx: in GMSD of the patients of island the difference points the other "
        "way (crossed t, p < 0.001, secondary and not corrected)."
    ) in said
    assert (
        "FedAvg came 95 % of the way from the constant baseline to the centralised arm (21.60 dB) "
        "in 6 of 6 runs; the median is 4.8 rounds (from 4.8 to 4.8, which covers the median with "
        "97 %)."
    ) in said
    assert (
        "No strategy is shown to need fewer or more rounds to the goal than FedAvg (exact sign "
        "tests over 6 seeds, corrected for 3); with so few seeds no corrected p can fall below "
        "0.094."
    ) in said
    joined = next(sentence for sentence in said if sentence.startswith("FedAvg against training"))
    assert re.search(r"small \(\+4\.0\d dB, .*\) gains; large \(.\d\.\d\d dB, .*\) loses; ", joined)
    assert "neither is shown for middle" in joined
    assert said[-1].startswith("The ranks of the strategies over the runs differ (Friedman's test")


def test_with_eight_seeds_a_strategy_that_always_arrives_first_is_said_to_be_faster(
    tmp_path: Path,
) -> None:
    analysis = _analysis(six_seeds.write(tmp_path / "study", seeds=tuple(range(1, 9))))
    assert (
        "SCAFFOLD needs fewer rounds to the goal than FedAvg: earlier in 8 of 8 seeds (exact sign "
        "test, corrected p 0.023)."
    ) in _sentences(analysis)


def test_with_two_seeds_no_sentence_claims_a_difference(tmp_path: Path) -> None:
    analysis = _analysis(six_seeds.write(tmp_path / "study", seeds=(1, 2)))
    said = " ".join(_sentences(analysis))
    assert not re.search(r"\) (gain|lose)|points the other way|needs (fewer|more)|ranks", said)
    assert "not tested whether they gain by joining: 2 seed(s) and 4 patient(s)" in said
    page = _text(render_study(analysis))
    assert "those p-values hold for these trained models, not for the methods" in page
    assert "There are no ranks" in page


def test_an_arm_that_some_seeds_leave_below_the_goal_has_a_censored_interval(
    tmp_path: Path,
) -> None:
    folder = six_seeds.write(tmp_path / "study", seeds=(1, 2, 3, 4, 5), shift=0.09)
    arm = next(arm for arm in _ways(_analysis(folder)).arms if arm.row.name == "fedavg")
    reached = [*arm.reached[ROUNDS].values()]
    assert [run.censored for run in reached] == [False, False, False, False, True]
    assert arm.medians[ROUNDS].reached == 4
    assert median_text(arm.medians[ROUNDS], ROUNDS).endswith("[4.8, > 6]")


def _text(page: str) -> str:
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", page)))


def test_one_unseen_site_is_said_to_stand_for_its_own_patients_only(study: StudyAnalysis) -> None:
    assert any(
        sentence.endswith("All are patients of this one site, and say nothing about other sites.")
        for sentence in study_summary(study)
    )


@pytest.mark.parametrize(("column", "word"), [("arm", "arms"), ("metric", "metrics")])
def test_a_run_that_lacks_an_arm_or_a_metric_is_left_out_by_name_and_the_rest_is_reported(
    tmp_path: Path, column: str, word: str
) -> None:
    folder = six_seeds.write(tmp_path / "study", seeds=(1, 2, 3, 4))
    run = folder / "seed-3"
    less = {"arm": "constant", "metric": "gmsd"}[column]
    results = pd.read_csv(run / "results.csv")
    results[results[column] != less].to_csv(run / "results.csv", index=False)
    about = json.loads((run / "run.json").read_text())
    about["arms"] = [arm for arm in about["arms"] if column != "arm" or arm["name"] != less]
    (run / "run.json").write_text(json.dumps(about))
    study = read_study(folder)
    assert list(study.runs) == [1, 2, 4]
    assert f"differs from seed-1 in its {word} ({less})" in study.gaps[0]


def test_a_diverged_arm_is_named_with_its_seed_and_the_rest_of_the_page_is_written(
    tmp_path: Path,
) -> None:
    folder = six_seeds.write(tmp_path / "study", seeds=(1, 2, 3, 4))
    path = folder / "seed-2" / "results.csv"
    results = pd.read_csv(path)
    results.loc[(results["arm"] == "fedprox"), "value"] = np.nan
    results.to_csv(path, index=False, na_rep="nan")
    curves = pd.read_csv(folder / "seed-2" / "curves.csv")
    lost = (curves["arm"] == "fedprox") & (curves["metric"] == "val/psnr") & (curves["round"] > 2)
    curves.loc[lost, "value"] = np.nan
    curves.to_csv(folder / "seed-2" / "curves.csv", index=False, na_rep="nan")
    analysis = _analysis(folder)
    assert "Diverged, so without numbers there: FedProx with seed 2." in study_summary(analysis)
    ranks = study_ranks(analysis)
    assert ranks is not None
    assert "fedprox" not in [row.name for row in ranks.rows]
    arm = next(arm for arm in _ways(analysis).arms if arm.row.name == "fedprox")
    assert arm.reached[ROUNDS][2] == Reached(2.0, censored=True)
    page = _text(render_study(analysis))
    assert "not tested: a value is missing, infinite or of a diverged run" in page
    assert "Table 3. Rounds, bytes and seconds to 95 % of the way" in page
    rows = [row for row in analysis.rows if row.is_trained]
    panel = draw_convergence(_ways(analysis), line_styles(rows, rows), "PSNR").axes[0]
    points = [np.size(line.get_xdata()) for line in panel.lines[:-1]]
    assert sorted(points) == [3, 7, 7, 7, 7]


def test_one_patient_per_site_is_described_and_said_not_to_be_tested(tmp_path: Path) -> None:
    folder = six_seeds.write(tmp_path / "study", seeds=(1, 2, 3))
    for seed in (1, 2, 3):
        path = folder / f"seed-{seed}" / "results.csv"
        results = pd.read_csv(path)
        results[results["subject"].str.endswith("-0")].to_csv(path, index=False)
    reasons = {item.why_not for item in _fair(_analysis(folder)).joining}
    assert reasons == {"3 seed(s) and 1 patient(s), the test needs 3 seeds and 2 patients"}


def test_identical_arms_are_named_and_not_tested(tmp_path: Path) -> None:
    folder = six_seeds.write(tmp_path / "study", seeds=(1, 2, 3))
    for seed in (1, 2, 3):
        path = folder / f"seed-{seed}" / "results.csv"
        results = pd.read_csv(path)
        copied = results[results["arm"] == "fedavg"].assign(arm="fedprox")
        pd.concat([results[results["arm"] != "fedprox"], copied]).to_csv(path, index=False)
    said = " ".join(study_summary(_analysis(folder)))
    assert "Not tested: FedProx (the arms are identical, so that nothing tells how it would" in said
