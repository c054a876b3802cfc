"""The report of a study: several runs, one primary outcome, gaps that are named."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fedi2i.digest import digest
from fedi2i.errors import DataError
from report.__main__ import main
from report.numbers.over_seeds.crossed_t import crossed_t
from report.numbers.over_seeds.study import StudyAnalysis, analyse_study
from report.page.studies.study import render_study, study_summary, verdict
from report.run.study import read_study

KEYS = ["arm", "site", "split", "subject", "metric", "value"]
PATIENTS = {"a": ["a1", "a2", "a3"], "b": ["b1", "b2"], "u": ["u1", "u2"]}
SEEDS = (11, 12, 13, 14)
PLACES = [(site, subject) for site, subjects in PATIENTS.items() for subject in subjects]
GAIN = {"fedavg": 0.0, "fedprox": -3.0, "centralised": 0.01, "local-a": -2.0, "local-b": -2.0}
"""What an arm adds to every patient's PSNR; FedProx is clearly worse than FedAvg, and the
centralised arm the same."""

WriteStudy = Callable[..., Path]


def _values(seed: int, arm: str, place: int, noise: float) -> float:
    """20 dB and the arm's gain; the seed moves all arms and patients, and each value a little."""
    random = np.random.default_rng([seed, place, sorted(GAIN).index(arm)])
    return 20 + 0.5 * np.sin(seed) + GAIN[arm] + noise * random.normal()


def _results(seed: int, noise: float) -> pd.DataFrame:
    rows = [
        (arm, site, "test", subject, "psnr", _values(seed, arm, place, noise))
        for arm in GAIN
        for place, (site, subject) in enumerate(PLACES)
    ]
    return pd.DataFrame(rows, columns=KEYS)


def _curves() -> pd.DataFrame:
    rows = [
        (arm, site, number, "val/psnr", 10.0 + number + GAIN[arm])
        for arm in ("fedavg", "fedprox")
        for site in ("a", "b")
        for number in range(3)
    ]
    return pd.DataFrame(rows, columns=["arm", "site", "round", "metric", "value"])


@pytest.fixture
def write_study(tmp_path: Path, about: dict[str, Any]) -> WriteStudy:
    """Write a study; a seed in ``without`` has no run, one in ``changed`` another record."""

    def write(
        seeds: tuple[int, ...] = SEEDS,
        noise: float = 0.1,
        without: tuple[int, ...] = (),
        changed: dict[int, dict[str, Any]] | None = None,
        patients: str = "federated",
        margin: float = 0.3,
    ) -> Path:
        folder = tmp_path / "study"
        folder.mkdir()
        about["arms"] = [arm for arm in about["arms"] if arm["name"] in GAIN]
        about["versions"] = {"fedi2i": "0.3.0"}
        folders = {str(seed): f"seed-{seed}" for seed in seeds}
        outcome = {"metric": "psnr", "patients": patients}
        design = {
            "title": "A study of two strategies",
            "release": "0.3.0",
            "reference": "fedavg",
            "primary_outcome": outcome,
            "margin": margin,
            "experiment": {**about["experiment"], "seed": None},
            "manifests": about["manifests"],
        }
        about.update(primary_outcome=outcome, design=digest(design))
        for seed in seeds:
            if seed in without:
                continue
            run = folder / folders[str(seed)]
            run.mkdir(parents=True)
            record = about | {"seed": seed} | (changed or {}).get(seed, {})
            (run / "run.json").write_text(json.dumps(record), encoding="utf-8")
            _results(seed, noise).to_csv(run / "results.csv", index=False)
            _curves().to_csv(run / "curves.csv", index=False)
        study = {"created": "2025-01-02T03:04:05+00:00", "design": design, "folders": folders}
        (folder / "study.json").write_text(json.dumps(study), encoding="utf-8")
        return folder

    return write


def _analysis(folder: Path) -> StudyAnalysis:
    return analyse_study(read_study(folder))


def _text(page: str) -> str:
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", page)))


def test_the_primary_comparisons_are_the_crossed_t_of_the_table_of_seeds_and_patients(
    write_study: WriteStudy,
) -> None:
    analysis = _analysis(write_study())
    assert analysis.primary is not None
    found = {item.other.name: item for item in analysis.primary.comparisons}
    federated = [place for place, (site, _) in enumerate(PLACES) if site != "u"]
    table = np.array(
        [
            [_values(s, "fedavg", p, 0.1) - _values(s, "fedprox", p, 0.1) for p in federated]
            for s in SEEDS
        ]
    )
    expected = crossed_t(table, 0.3)
    assert found["fedprox"].test is not None
    assert found["fedprox"].test.mean == pytest.approx(expected.mean)
    assert found["fedprox"].test.p == pytest.approx(expected.p)
    assert found["fedprox"].per_seed == pytest.approx(
        dict(zip(SEEDS, table.mean(axis=1), strict=True))
    )


def test_a_clear_difference_is_said_an_equal_arm_is_equivalent_and_both_stand_in_the_summary(
    write_study: WriteStudy,
) -> None:
    analysis = _analysis(write_study())
    assert analysis.primary is not None
    said = {c.other.name: verdict(c, analysis.primary) for c in analysis.primary.comparisons}
    assert said == {"fedprox": "better", "centralised": "equivalent", "local-only": "better"}
    summary = " ".join(study_summary(analysis))
    assert "FEDAVG is better than FEDPROX: +3.0" in summary
    assert "Equivalent to FEDAVG within the margin (two one-sided tests at 0.05): CENTRALISED" in (
        summary
    )
    assert "named before the first run, is PSNR over the patients of the federated sites" in summary
    assert "arms that differ by less than 0.3 dB are of equal use" in summary


def test_with_much_noise_arms_are_neither_different_nor_equivalent(
    write_study: WriteStudy,
) -> None:
    analysis = _analysis(write_study(seeds=SEEDS[:3], noise=6.0))
    assert analysis.primary is not None
    said = {c.other.name: verdict(c, analysis.primary) for c in analysis.primary.comparisons}
    assert said["centralised"] == "not told apart"


def test_only_the_primary_outcome_is_corrected_and_stands_first(write_study: WriteStudy) -> None:
    analysis = _analysis(write_study(patients="unseen"))
    assert [tests.primary for tests in analysis.tests] == [True, False]
    assert analysis.tests[0].population.unseen
    assert all(c.p_holm is not None for c in analysis.tests[0].comparisons)
    assert all(c.p_holm is None for c in analysis.tests[1].comparisons)


def test_means_are_over_patients_and_runs_and_spreads_between_runs(
    write_study: WriteStudy,
) -> None:
    (table,) = _analysis(write_study()).tables
    column = next(n for n, c in enumerate(table.columns) if c.label.startswith("All"))
    federated = [place for place, (site, _) in enumerate(PLACES) if site != "u"]
    means = [np.mean([_values(s, "fedavg", p, 0.1) for p in federated]) for s in SEEDS]
    cell = table.cells["fedavg", column]
    assert cell.mean == pytest.approx(np.mean(means))
    assert cell.spread == pytest.approx(np.std(means, ddof=1))


@pytest.mark.parametrize("seeds", [SEEDS[:1], SEEDS[:2]])
def test_one_or_two_seeds_are_described_and_not_tested(
    write_study: WriteStudy, seeds: tuple[int, ...]
) -> None:
    analysis = _analysis(write_study(seeds=seeds))
    assert analysis.primary is not None
    assert all(c.test is None for c in analysis.primary.comparisons)
    page = _text(render_study(analysis))
    assert "Too few runs for a test." in page
    assert f"{len(seeds)} seed(s) and 5 patient(s), the test needs 3 seeds" in page


def test_a_missing_run_is_named_and_the_others_are_reported(
    write_study: WriteStudy, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_study(without=(12,))
    assert main([str(folder)]) == 0
    assert "Seed 12 is left out:" in capsys.readouterr().out
    page = _text((folder / "report.html").read_text(encoding="utf-8"))
    assert "This study has gaps." in page
    assert "trained 3 times, with seeds 11, 13 and 14" in page


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"manifests": {"a": "0" * 64}}, "in its data"),
        ({"versions": {"fedi2i": "0.2.0"}}, "in its release"),
        ({"experiment": {"model": {"generator": {"depth": 4}}, "rounds": 2}}, "in its settings"),
        ({"seed": 99}, "in its seed"),
        ({"design": "0" * 64}, "in its design"),
        ({"design": ""}, "in its design"),
    ],
)
def test_a_run_of_another_study_is_left_out_by_name(
    write_study: WriteStudy, change: dict[str, Any], named: str
) -> None:
    study = read_study(write_study(changed={13: change}))
    assert list(study.runs) == [11, 12, 14]
    assert len(study.gaps) == 1
    assert "Seed 13 is left out" in study.gaps[0]
    assert named in study.gaps[0]


@pytest.mark.parametrize(
    ("key", "value"),
    [("margin", 99.0), ("primary_outcome", {"metric": "psnr", "patients": "unseen"})],
)
def test_an_outcome_or_a_margin_that_is_changed_afterwards_fits_no_run(
    write_study: WriteStudy, key: str, value: object
) -> None:
    folder = write_study()
    path = folder / "study.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["design"][key] = value
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(DataError, match="no run of this study can be used"):
        read_study(folder)


@pytest.mark.parametrize("seed", SEEDS[:2])
def test_a_reference_that_diverged_stays_the_reference_whichever_run_it_was(
    write_study: WriteStudy, seed: int
) -> None:
    folder = write_study()
    path = folder / f"seed-{seed}" / "results.csv"
    results = pd.read_csv(path)
    results.loc[results["arm"] == "fedavg", "value"] = np.nan
    results.to_csv(path, index=False, na_rep="nan")
    analysis = _analysis(folder)
    assert analysis.primary is not None
    assert analysis.primary.reference.name == "fedavg"
    assert all(c.test is None for c in analysis.primary.comparisons)


def test_an_arm_that_cannot_be_tested_still_counts_among_the_comparisons(
    write_study: WriteStudy,
) -> None:
    folder = write_study()
    whole = {c.other.name: c for c in (_analysis(folder).primary or pytest.fail()).comparisons}
    path = folder / "seed-12" / "results.csv"
    results = pd.read_csv(path)
    results.loc[results["arm"] == "centralised", "value"] = np.nan
    results.to_csv(path, index=False, na_rep="nan")
    less = {c.other.name: c for c in (_analysis(folder).primary or pytest.fail()).comparisons}
    assert less["centralised"].p_holm is None
    assert less["fedprox"].p_holm == whole["fedprox"].p_holm


def test_a_diverged_arm_has_no_test_and_says_why(write_study: WriteStudy) -> None:
    folder = write_study()
    path = folder / "seed-12" / "results.csv"
    results = pd.read_csv(path)
    results.loc[results["arm"] == "fedprox", "value"] = np.nan
    results.to_csv(path, index=False, na_rep="nan")
    analysis = _analysis(folder)
    assert analysis.primary is not None
    found = {c.other.name: c for c in analysis.primary.comparisons}
    assert found["fedprox"].test is None
    assert found["centralised"].test is not None
    assert "Not tested: FEDPROX (a value is missing, infinite or of a diverged run)." in (
        study_summary(analysis)
    )
    assert "diverged" in _text(render_study(analysis))


def test_the_page_is_self_contained_and_shows_figures_and_verdicts(
    write_study: WriteStudy,
) -> None:
    page = render_study(_analysis(write_study()))
    sources = re.findall(r'(?:src|href)="([^"#]+)"', page)
    assert len(sources) == 3
    assert all(source.startswith("data:image/svg+xml;base64,") for source in sources)
    text = _text(page)
    assert "The images are computed, not acquired." in text
    assert "Table 2a. All federated patients · PSNR (dB) · FEDAVG against" in text
    assert "seed-11 , seed-12" in text


def test_without_any_usable_run_there_is_one_sentence_and_no_page(
    write_study: WriteStudy, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_study(without=SEEDS)
    assert main([str(folder)]) == 2
    assert "no run of this study can be used" in capsys.readouterr().err
    assert not (folder / "report.html").exists()


def test_a_damaged_design_is_one_sentence(write_study: WriteStudy) -> None:
    folder = write_study()
    path = folder / "study.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    design = content["design"]
    for damaged in (
        {},
        {**content, "folders": {}},
        {**content, "design": {**design, "margin": 0}},
        {**content, "design": {**design, "margin": float("nan")}},
        {**content, "design": {**design, "primary_outcome": {"metric": "psnr", "patients": "a"}}},
    ):
        path.write_text(json.dumps(damaged), encoding="utf-8")
        with pytest.raises(DataError, match=r"study\.json: damaged"):
            read_study(folder)
