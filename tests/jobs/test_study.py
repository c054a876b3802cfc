"""A study: what its file may say, which runs it makes, and what a second call may change."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from simulator_runs import SITES, TWO_SITES
from tiny_cohort import UNSEEN, without, write_tiny_cohort
from wrong_study import refusal

from fedi2i.digest import digest
from fedi2i.errors import ConfigError, DataError
from jobs.running.comparison import Comparison
from jobs.running.matching.plan import is_matching_study
from jobs.running.spent_epsilon import STUDY_FILE
from jobs.running.studies import study as running
from jobs.running.studies.levels import has_levels
from jobs.running.studies.study import Study, read_study, run_study

STUDY = """
title: Two seeds
experiment: experiment.yaml
settings: {training: {rounds: 2}}
strategies: [fedavg, fedprox]
seeds: [5, 6]
primary: {metric: ssim, patients: federated}
margin: 0.01
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A study's file, and the experiment beside it."""
    (tmp_path / "experiment.yaml").write_text(TWO_SITES.read_text(encoding="utf-8"))
    path = tmp_path / "study.yaml"
    path.write_text(STUDY, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny cohort, prepared by the first study."""
    return write_tiny_cohort(tmp_path_factory.mktemp("data"), (*SITES, UNSEEN))


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[Comparison]:
    """The comparisons that were asked for; each leaves results as a real one does."""
    asked: list[Comparison] = []

    def run(comparison: Comparison) -> None:
        asked.append(comparison)
        comparison.out.mkdir(parents=True, exist_ok=True)
        seed = comparison.job.experiment.seed
        (comparison.out / "results.csv").write_text(
            f"arm,site,split,subject,metric,value\nfedavg,north,test,a,psnr,{seed}.5\n"
        )

    monkeypatch.setattr(running, "run_comparison", run)
    return asked


def test_every_seed_is_one_comparison_that_differs_in_its_seed_alone(
    file: Path, data: Path, tmp_path: Path, ran: list[Comparison]
) -> None:
    run_study(read_study(file), data, tmp_path / "out")
    assert [one.job.experiment.seed for one in ran] == [5, 6]
    assert [one.out.name for one in ran] == ["seed-5", "seed-6"]
    first, second = ran
    assert first.job.federation == second.job.federation
    assert first.job.experiment.training == second.job.experiment.training
    assert first.job.experiment.training.rounds == 2
    assert {one.strategies for one in ran} == {("fedavg", "fedprox")}
    assert {(one.primary.metric, one.primary.patients) for one in ran} == {("ssim", "federated")}


def test_the_outcome_and_the_margin_are_written_before_the_first_run(
    file: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(comparison: Comparison) -> None:
        content = json.loads((tmp_path / "out" / STUDY_FILE).read_text(encoding="utf-8"))["design"]
        assert comparison.design == digest(content)
        assert content["primary_outcome"] == {"metric": "ssim", "patients": "federated"}
        assert content["margin"] == 0.01
        assert set(content["manifests"]) == {*SITES, UNSEEN}
        raise DataError("the first run failed")

    monkeypatch.setattr(running, "run_comparison", fail)
    with pytest.raises(DataError, match="the first run failed"):
        run_study(read_study(file), data, tmp_path / "out")
    assert not (tmp_path / "out" / "results.csv").exists()


def test_the_results_of_all_seeds_stand_in_one_table(
    file: Path, data: Path, tmp_path: Path, ran: list[Comparison]
) -> None:
    run_study(read_study(file), data, tmp_path / "out")
    with (tmp_path / "out" / "results.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["seed"], row["value"]) for row in rows] == [("5", "5.5"), ("6", "6.5")]


def test_more_seeds_may_join_and_nothing_else_may_change(
    file: Path, data: Path, tmp_path: Path, ran: list[Comparison]
) -> None:
    run_study(read_study(file), data, tmp_path / "out")
    run_study(read_study(file, [5, 6, 7]), data, tmp_path / "out")
    content = json.loads((tmp_path / "out" / STUDY_FILE).read_text(encoding="utf-8"))
    assert content["folders"] == {"5": "seed-5", "6": "seed-6", "7": "seed-7"}
    file.write_text(STUDY.replace("0.01", "0.02").replace("rounds: 2", "rounds: 3"))
    with pytest.raises(ConfigError, match="a study with another margin, experiment;"):
        run_study(read_study(file), data, tmp_path / "out")


def test_more_arms_belong_to_the_design_and_studies_without_them_keep_theirs(
    file: Path, data: Path, tmp_path: Path, ran: list[Comparison]
) -> None:
    run_study(read_study(file), data, tmp_path / "out")
    design = json.loads((tmp_path / "out" / STUDY_FILE).read_text(encoding="utf-8"))["design"]
    assert not {"ensemble", "fine_tuning", "leave_one_site_out", "distributions"} & set(design)
    file.write_text(f"{STUDY}ensemble: true\nfine_tuning: 20\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="another ensemble, fine_tuning;"):
        run_study(read_study(file), data, tmp_path / "out")
    run_study(read_study(file), data, tmp_path / "more")
    assert [(one.ensemble, one.fine_tuning) for one in ran[2:]] == [(True, 20)] * 2
    file.write_text(STUDY, encoding="utf-8")
    with pytest.raises(ConfigError, match="another ensemble, fine_tuning;"):
        run_study(read_study(file), data, tmp_path / "more")


def test_the_folder_of_a_comparison_does_not_become_a_study(
    file: Path, data: Path, tmp_path: Path, ran: list[Comparison]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "run.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ConfigError, match="holds the run of a comparison; take a new folder"):
        run_study(read_study(file), data, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["run.json"]
    assert ran == []


def test_a_site_without_validation_patients_is_refused_before_the_study_is_written(
    file: Path, data: Path, tmp_path: Path, ran: list[Comparison]
) -> None:
    changed = Path(shutil.copytree(data, tmp_path / "data"))
    without(changed / SITES[0], "val")
    with pytest.raises(DataError, match=f"site '{SITES[0]}' has no patient in split 'val'"):
        run_study(read_study(file), changed, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert ran == []


def test_a_run_of_no_study_in_a_seed_s_folder_is_not_replaced(
    file: Path, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "out" / "seed-5").mkdir(parents=True)
    (tmp_path / "out" / "seed-5" / "run.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ConfigError, match="seed-5: holds a run that belongs to no study"):
        run_study(read_study(file), data, tmp_path / "out")


@pytest.mark.parametrize(
    ("strategy", "mechanism", "sentence"),
    [
        ("fedma", "encryption", "fedma"),
        ("fedmedian", "secure_sum", "fedmedian"),
    ],
)
def test_strategies_that_a_privacy_mechanism_cannot_have_are_refused_with_the_file(
    strategy: str, mechanism: str, sentence: str, file: Path, tmp_path: Path
) -> None:
    experiment = tmp_path / "experiment.yaml"
    text = experiment.read_text(encoding="utf-8").replace("[south, east]", "[south, east, north]")
    experiment.write_text(f"{text}\nprivacy: {{mechanism: {mechanism}}}\n", encoding="utf-8")
    file.write_text(STUDY.replace("fedprox", strategy), encoding="utf-8")
    with pytest.raises(ConfigError, match=sentence) as refused:
        read_study(file)
    assert mechanism in str(refused.value)


def test_sites_and_what_they_send_belong_to_the_design_as_well(
    file: Path, data: Path, tmp_path: Path, ran: list[Comparison]
) -> None:
    run_study(read_study(file), data, tmp_path / "out")
    experiment = tmp_path / "experiment.yaml"
    text = experiment.read_text(encoding="utf-8")
    for changed in (
        text.replace("federation:", "federation:\n  compression: fp16", 1),
        f"{text}\nprivacy: {{mechanism: percentile}}\n",
    ):
        experiment.write_text(changed, encoding="utf-8")
        with pytest.raises(ConfigError, match=r"a study with another (federation|privacy)"):
            run_study(read_study(file), data, tmp_path / "out")


def test_a_later_call_with_fewer_seeds_leaves_none_of_the_finished_ones_out(
    file: Path, data: Path, tmp_path: Path, ran: list[Comparison]
) -> None:
    run_study(read_study(file), data, tmp_path / "out")
    begun = json.loads((tmp_path / "out" / STUDY_FILE).read_text(encoding="utf-8"))
    run_study(read_study(file, [6]), data, tmp_path / "out")
    again = json.loads((tmp_path / "out" / STUDY_FILE).read_text(encoding="utf-8"))
    assert again == begun
    seeds = {line.split(",")[0] for line in (tmp_path / "out" / "results.csv").open()}
    assert seeds == {"seed", "5", "6"}


def test_a_launcher_gets_every_seed_with_whole_paths_before_the_table_is_written(
    file: Path, data: Path, tmp_path: Path, ran: list[Comparison], monkeypatch: pytest.MonkeyPatch
) -> None:
    launched: list[Any] = []
    monkeypatch.setattr(running, "launch_comparisons", lambda *given: launched.extend(given))
    monkeypatch.chdir(tmp_path)
    file.write_text(f"{STUDY}resources: {{cores: 2, hours: 0.5}}\n", encoding="utf-8")
    run_study(read_study(file), data, Path("out"), at_once=3, launcher="slurm")
    comparisons, launcher, out, resources, at_once = launched
    assert [one.out for one in comparisons] == [tmp_path / "out" / f"seed-{n}" for n in (5, 6)]
    assert all(one.data.is_absolute() for one in comparisons)
    assert (launcher, out, at_once) == ("slurm", tmp_path / "out", 3)
    assert (resources.cores, resources.minutes, resources.gpus) == (2, 30, 0)
    assert [one.job.experiment.seed for one in ran] == [5, 6]
    # Other resources are no other study.
    file.write_text(STUDY, encoding="utf-8")
    run_study(read_study(file), data, Path("out"))


def test_distances_of_sets_belong_to_the_design_and_are_collected_over_seeds(
    file: Path, data: Path, tmp_path: Path, ran: list[Comparison], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "check_distributions", lambda job, sites: None)
    out = tmp_path / "out"
    for seed in (5, 6):
        (out / f"seed-{seed}").mkdir(parents=True)
        (out / f"seed-{seed}" / "distributions.csv").write_text(f"arm,value\nfedavg,{seed}\n")
    file.write_text(f"{STUDY}distributions: true\n", encoding="utf-8")
    run_study(read_study(file), data, out)
    assert all(one.distributions for one in ran)
    design = json.loads((out / STUDY_FILE).read_text(encoding="utf-8"))["design"]
    assert design["distributions"] is True
    rows = (out / "distributions.csv").read_text(encoding="utf-8").splitlines()
    assert rows == ["seed,arm,value", "5,fedavg,5", "6,fedavg,6"]


def test_tables_of_two_releases_are_not_mixed(
    file: Path, data: Path, tmp_path: Path, ran: list[Comparison]
) -> None:
    run_study(read_study(file), data, tmp_path / "out")
    (tmp_path / "out" / "seed-6" / "results.csv").write_text("arm,value\nfedavg,1\n")
    with pytest.raises(DataError, match=r"seed-6/results\.csv: columns arm,value, but seed 5"):
        running.collected(tmp_path / "out", [5, 6])


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("seeds: [5, 6]", "seeds: [5, 5]", "seeds names 5 twice"),
        ("seeds: [5, 6]", "seeds: []", "seeds is empty"),
        ("[fedavg, fedprox]", "[fedavg, fedporx]", "fedprox"),
        ("metric: ssim", "metric: psrn", "did you mean 'psnr'"),
        ("patients: federated", "patients: all", "primary.patients: unknown value 'all'"),
        ("[fedavg, fedprox]", "[fedprox, scaffold]", "strategies leave out 'fedavg'"),
        ("margin: 0.01", "margin: 0", "margin is 0"),
        ("margin:", "margine:", "did you mean 'margin'"),
        ("margin:", "fine_tuning: -1\nmargin:", "fine_tuning is -1"),
        ("margin:", "leave_one_site_out: true\nmargin:", "one of 2 sites out leaves no fed"),
        ("margin:", "leave_one_site: true\nmargin:", "did you mean 'leave_one_site_out'"),
        ("title:", "resources: {core: 2}\ntitle:", "did you mean 'cores'"),
        ("title:", "resources: {cores: 0}\ntitle:", "resources.cores is 0"),
        (
            "title:",
            'resources: {partition: "gpu\\ntouch /tmp/x"}\ntitle:',
            "touch /tmp/x'; write a name of your cluster",
        ),
        ("title:", "resources: {account: 'a b'}\ntitle:", "resources.account is 'a b'"),
        ("{training: {rounds: 2}}", "{seed: 4}", "settings name a seed or a strategy"),
        ("experiment: exp", "experiment: missing/exp", "no such configuration file"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_sentence(
    file: Path, old: str, new: str, sentence: str
) -> None:
    assert sentence in refusal(read_study, file, STUDY, old, new)


def test_the_committed_studies_can_be_read_and_name_their_reference() -> None:
    found = sorted(Path("jobs/studies").glob("*.yaml"))
    files = [one for one in found if not has_levels(one) and not is_matching_study(one)]
    assert {file.stem for file in files} >= {"default", "quick"}
    for file in files:
        study = read_study(file)
        assert isinstance(study, Study)
        assert study.config.strategies[0] == "fedavg"
        assert len(study.config.seeds) >= 3
