from __future__ import annotations

import csv
import json
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from simulator_runs import SITES, TWO_SITES
from tiny_cohort import UNSEEN, without, write_tiny_cohort

from app_custom.nvflare_files import personal_model_path
from fedi2i.errors import ConfigError, DataError
from fedi2i.typed_config import read_yaml
from jobs.running import baseline_arms, comparison, federated_arm, site_arms
from jobs.running.arm_process import ArmFailedError, ArmProcess
from jobs.running.comparison import Comparison, run_comparison, stages
from jobs.running.run_record import PrimaryOutcome
from jobs.writing.federation import read_federated_experiment
from lightning_modules.configuration import read_experiment
from lightning_modules.training import memory_check

STRATEGIES = ("fedavg", "fedprox")
FEDERATED = (*STRATEGIES, "regression")
ARMS = {*FEDERATED, "centralised", *(f"local-{site}" for site in SITES)}
UNTRAINED = {"source", "mapped-source", "constant", "mean-target"}


METRICS = """site,round,metric,value
north,0,traffic/bytes_sent,100
north,0,traffic/bytes_received,50
all,0,traffic/bytes_sent,100
all,0,val/psnr,9
all,1,val/psnr,11
server,0,strategy/server_ratio_generator,0.5
all,0,strategy/server_ratio_generator,0.5
"""


BASELINES = """arm,site,round,metric,value
constant,south,0,val/psnr,7.5
constant,all,0,val/psnr,7.5
"""


def tmp_workspace(process: ArmProcess) -> Path:
    command = process.command
    return Path(command[command.index("-w") + 1])


class Runner:
    """Stands in for ``run_process``: writes what an arm would, and remembers how it was asked."""

    def __init__(self) -> None:
        self.asked: dict[str, ArmProcess] = {}
        self.order: list[str] = []
        self.failing = ""
        self.most_at_once = 0
        self.company = 1
        """Baselines wait until so many arms are running."""
        self._running = 0
        self._lock = threading.Condition()

    def __call__(self, process: ArmProcess, records: Path) -> float:
        with self._lock:
            self.asked[process.name] = process
            self.order.append(process.name)
            self._running += 1
            self.most_at_once = max(self.most_at_once, self._running)
            self._lock.notify_all()
            if process.name not in (*FEDERATED, "evaluation"):
                self._lock.wait_for(lambda: self.most_at_once >= self.company, timeout=20)
        threading.Event().wait(0.02)
        with self._lock:
            self._running -= 1
        if process.name == self.failing:
            raise ArmFailedError(f"arm '{process.name}' failed")
        process.produces.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"model": {"w": torch.zeros(2)}}, process.produces)
        for folder in (process.produces.parent, process.produces.parent.parent):
            (folder / "metrics.csv").write_text(METRICS)
        (process.produces.parent / "baselines.csv").write_text(BASELINES)
        for site in SITES if process.name in ("fedbn", "ditto") else ():
            path = personal_model_path(tmp_workspace(process), site)
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.save({"model": {"w": torch.zeros(2)}}, path)
        return 1.0


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_cohort(tmp_path_factory.mktemp("tiny"), (*SITES, UNSEEN))


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> Runner:
    fake = Runner()
    install(monkeypatch, fake)
    return fake


def install(monkeypatch: pytest.MonkeyPatch, runner: Runner) -> None:
    for module in (comparison, federated_arm, baseline_arms, site_arms):
        monkeypatch.setattr(module, "run_process", runner)


def compare(
    data: Path,
    out: Path,
    at_once: int | None = 2,
    strategies: tuple[str, ...] = STRATEGIES,
    **overrides: object,
) -> None:
    job = read_federated_experiment(TWO_SITES, {"experiment": overrides})
    run_comparison(Comparison(job, data, out, strategies, at_once, "Tiny"))


def settings_of(job: Path) -> dict[str, Any]:
    path = job / "app_site" / "config" / "config_fed_client.json"
    (executor,) = json.loads(path.read_text(encoding="utf-8"))["executors"]
    settings: dict[str, Any] = executor["executor"]["args"]["settings"]
    return settings


def test_every_arm_is_run_once_and_evaluated_after_all_of_them(
    data: Path, tmp_path: Path, runner: Runner
) -> None:
    runner.company = 2
    compare(data, tmp_path)
    assert sorted(runner.order) == sorted([*ARMS, "evaluation"])
    assert runner.order[-1] == "evaluation"
    assert runner.most_at_once == 2
    evaluate = " ".join(runner.asked["evaluation"].command)
    for arm in ARMS:
        assert f"--model {arm}=" in evaluate
    for site in (*SITES, UNSEEN):
        assert f"--data {data / site} " in evaluate
    assert evaluate.count("--unseen") == 1
    assert f"--unseen {UNSEEN} " in evaluate


def test_federated_runs_do_not_share_the_machine_with_other_arms(
    data: Path, tmp_path: Path, runner: Runner
) -> None:
    compare(data, tmp_path, at_once=1)
    assert runner.most_at_once == 1
    assert runner.order[: len(FEDERATED)] == list(FEDERATED)


def test_each_baseline_trains_on_its_own_sites_and_none_on_the_unseen_one(
    data: Path, tmp_path: Path, runner: Runner
) -> None:
    compare(data, tmp_path)

    def folders(name: str) -> list[str]:
        command = runner.asked[name].command
        places = [n for n, part in enumerate(command) if part == "--data"]
        return [Path(command[n + 1]).name for n in places]

    assert folders("centralised") == list(SITES)
    for site in SITES:
        assert folders(f"local-{site}") == [site]


def test_a_federated_arm_is_the_simulator_on_its_own_job_with_a_thread_per_site(
    data: Path, tmp_path: Path, runner: Runner
) -> None:
    compare(data, tmp_path)
    for strategy in STRATEGIES:
        command = runner.asked[strategy].command
        job, workspace = tmp_path / "jobs" / strategy, tmp_path / "workspaces" / strategy
        assert Path(command[0]).name == "nvflare"
        assert command[1:] == ("simulator", str(job), "-w", str(workspace), "-t", str(len(SITES)))
        meta = json.loads((job / "meta.json").read_text(encoding="utf-8"))
        assert meta["deploy_map"]["app_site"] == list(SITES)
        assert (workspace / "local" / "resources.json").is_file()


def test_that_the_workspaces_relax_the_limits_of_sites_is_said_before_the_first_arm(
    data: Path, tmp_path: Path, runner: Runner, capsys: pytest.CaptureFixture[str]
) -> None:
    compare(data, tmp_path)
    assert read_yaml(tmp_path / "workspaces/fedavg/local/fedi2i.yaml")["limits"]["least_sites"] == 1
    assert (
        f"{tmp_path / 'workspaces'}: jobs may ask for as little as one site"
        in (capsys.readouterr().out.splitlines()[0])
    )


def test_the_arms_read_the_very_experiment_of_the_comparison(
    data: Path, tmp_path: Path, runner: Runner
) -> None:
    compare(data, tmp_path, seed=99)
    job = read_federated_experiment(TWO_SITES, {"experiment": {"seed": 99}})
    assert read_experiment(tmp_path / "experiment.yaml") == job.experiment


def test_keys_change_with_settings_and_data_and_with_nothing_else(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def keys(folder: Path, out: str, **overrides: object) -> dict[str, str]:
        runner = Runner()
        install(monkeypatch, runner)
        compare(folder, tmp_path / out, **overrides)
        return {arm: runner.asked[arm].key for arm in ARMS}

    first = keys(data, "a")
    assert keys(data, "b") == first
    other_seed = keys(data, "c", seed=99)
    assert all(other_seed[arm] != first[arm] for arm in ARMS)
    other = write_tiny_cohort(tmp_path / "other", (*SITES, UNSEEN))
    path = other / SITES[0] / "manifest.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["subjects"][0]["metadata"]["age"] = 99
    del content["content_hash"]
    path.write_text(json.dumps(content), encoding="utf-8")
    other_data = keys(other, "d")
    assert all(other_data[arm] != first[arm] for arm in ARMS)


@pytest.mark.parametrize("failing", ["fedprox", "local-east", "evaluation"])
def test_a_failed_arm_ends_the_comparison_without_a_run_record(
    failing: str, data: Path, tmp_path: Path, runner: Runner
) -> None:
    runner.failing = failing
    with pytest.raises(ArmFailedError, match=failing):
        compare(data, tmp_path)
    assert not (tmp_path / "run.json").exists()


def test_a_finished_comparison_records_all_arms(data: Path, tmp_path: Path, runner: Runner) -> None:
    compare(data, tmp_path)
    record = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    assert {arm["name"] for arm in record["arms"]} == ARMS | UNTRAINED
    (unseen,) = [site for site in record["sites"] if site["unseen"]]
    assert unseen["name"] == UNSEEN
    # The tiny cohort gives two of the four patients to training and one to validation.
    assert (unseen["train"], unseen["val"], unseen["test"]) == (0, 0, 4)
    curves = (tmp_path / "curves.csv").read_text(encoding="utf-8").splitlines()
    assert {line.split(",")[0] for line in curves[1:]} == {*ARMS, "constant"}
    assert "constant,south,0,val/psnr,7.5" in curves


def test_every_personal_model_is_evaluated_and_an_incomplete_global_one_is_not(
    data: Path, tmp_path: Path, runner: Runner
) -> None:
    compare(data, tmp_path, strategies=("fedbn", "ditto"))
    evaluate = " ".join(runner.asked["evaluation"].command)
    for site in SITES:
        assert f"--model fedbn@{site}=" in evaluate
        assert f"--model ditto@{site}=" in evaluate
    assert "--model ditto=" in evaluate
    assert "--model fedbn=" not in evaluate
    record = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    families = {arm["name"]: arm.get("family") for arm in record["arms"]}
    assert families["fedbn@south"] == "fedbn"
    assert families["ditto@south"] == "ditto_personal"
    assert families["ditto"] is None


def test_strategies_are_listed_with_validation_cost_and_effect(
    data: Path, tmp_path: Path, runner: Runner, capsys: pytest.CaptureFixture[str]
) -> None:
    compare(data, tmp_path)
    with (tmp_path / "strategies.csv").open(newline="", encoding="utf-8") as stream:
        rows = {row["strategy"]: row for row in csv.DictReader(stream)}
    assert set(rows) == set(STRATEGIES)
    found = rows["fedavg"]
    assert (float(found["psnr"]), float(found["megabytes"])) == (11.0, 150e-6)
    assert (float(found["server_ratio"]), found["moved"]) == (0.5, "")
    assert "fedprox" in capsys.readouterr().out


def test_a_layer_wise_arm_takes_whole_passes_of_the_same_work(
    data: Path, tmp_path: Path, runner: Runner
) -> None:
    compare(data, tmp_path, strategies=("fedavg", "fedma_layerwise"), training={"rounds": 2})
    record = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    arms = {arm["name"]: arm for arm in record["arms"]}
    plain, layerwise = arms["fedavg"], arms["fedma_layerwise"]
    assert layerwise["rounds"] > plain["rounds"]
    assert layerwise["steps"] == pytest.approx(plain["steps"], rel=0.2)


def test_regression_is_fedavg_with_the_same_generator_and_no_discriminator(
    data: Path, tmp_path: Path, runner: Runner
) -> None:
    compare(data, tmp_path)
    plain, alone = (settings_of(tmp_path / "jobs" / arm) for arm in ("fedavg", "regression"))
    assert (alone["model"]["name"], alone["sharing"]) == ("regression", "generator")
    alone["model"]["name"], alone["sharing"] = plain["model"]["name"], plain["sharing"]
    assert alone == plain
    record = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    (arm,) = [arm for arm in record["arms"] if arm["name"] == "regression"]
    assert "does" not in arm and "reference" not in arm
    assert "L1 term alone" in arm["note"]


def test_regression_can_be_left_out_and_a_model_without_pairs_has_none(
    data: Path, tmp_path: Path, runner: Runner, capsys: pytest.CaptureFixture[str]
) -> None:
    job = read_federated_experiment(TWO_SITES)
    run_comparison(Comparison(job, data, tmp_path / "a", ("fedavg",), 2, "Tiny", regression=False))
    assert "regression" not in runner.order
    changes = {"model": {"name": "cyclegan"}, "data": {"preparation": {"pairing": "unpaired"}}}
    unpaired = read_federated_experiment(TWO_SITES, {"experiment": changes})
    run_comparison(Comparison(unpaired, data, tmp_path / "b", ("fedavg",), 2, "Tiny"))
    assert "regression" not in runner.order
    assert "no arm 'regression': model 'cyclegan'" in capsys.readouterr().out
    stages(Comparison(unpaired, data, tmp_path / "c", ("fedavg",), 2, "Tiny"))
    assert capsys.readouterr().out == ""  # a launcher asks for the parts again and again


def test_the_primary_outcome_stands_in_the_record_and_has_a_default(
    data: Path, tmp_path: Path, runner: Runner
) -> None:
    compare(data, tmp_path / "a")
    job, chosen = read_federated_experiment(TWO_SITES), PrimaryOutcome("ssim", "unseen")
    run_comparison(Comparison(job, data, tmp_path / "b", ("fedavg",), 2, "Tiny", chosen))
    found = [
        json.loads((tmp_path / out / "run.json").read_text(encoding="utf-8"))["primary_outcome"]
        for out in "ab"
    ]
    assert found == [
        {"metric": "psnr", "patients": "federated"},
        {"metric": "ssim", "patients": "unseen"},
    ]


THREE = {"federation": {"sites": [*SITES, "north"]}}


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data of three sites and the unseen one."""
    return write_tiny_cohort(tmp_path_factory.mktemp("three"), (*SITES, "north", UNSEEN))


def entries(out: Path, family: str) -> dict[str, Any]:
    """The run's entries of a family, or of the arm of this name, by name."""
    record = json.loads((out / "run.json").read_text(encoding="utf-8"))
    arms = {arm["name"]: arm for arm in record["arms"]}
    return {n: arm for n, arm in arms.items() if family in (n, arm.get("family"))}


def test_more_arms_are_run_where_they_are_asked_for(
    three: Path, tmp_path: Path, runner: Runner
) -> None:
    job = read_federated_experiment(TWO_SITES, THREE)
    more = {"ensemble": True, "fine_tuning": 7, "leave_one_site_out": True}
    run_comparison(Comparison(job, three, tmp_path, ("fedavg",), 2, "Tiny", **more))
    sites = (*SITES, "north")
    evaluate = " ".join(runner.asked["evaluation"].command)
    local = ",".join(f"local-{site}" for site in sites)
    assert f"--ensemble ensemble={local} " in evaluate
    (ensemble,) = entries(tmp_path, "ensemble").values()
    assert (ensemble["seconds"], ensemble["bytes_sent"]) == (3.0, 0)
    for family in ("fine-tuned", "left-out"):
        found = entries(tmp_path, family)
        assert list(found) == [f"{family}@{site}" for site in sites]
        assert {arm["site"] for arm in found.values()} == set(sites)
        assert {arm["seconds"] for arm in found.values()} == {3.0}  # of the whole family
        assert all(f"--model {name}=" in evaluate for name in found)
    assert {arm["steps"] for arm in entries(tmp_path, "fine-tuned").values()} == {3 * 7}


def test_fine_tuning_begins_with_the_finished_model_of_fedavg_at_the_site_alone(
    data: Path, tmp_path: Path, runner: Runner
) -> None:
    job = read_federated_experiment(TWO_SITES)
    run_comparison(Comparison(job, data, tmp_path, ("fedavg",), 2, "Tiny", fine_tuning=7))
    assert runner.order.index("fedavg") < runner.order.index("fine-tuned-south")
    training = read_experiment(tmp_path / "fine-tuning.yaml").training
    assert (training.rounds, training.steps) == (1, 7)
    for site in SITES:
        command = runner.asked[f"fine-tuned-{site}"].command
        options = dict(zip(command[4::2], command[5::2], strict=True))
        assert options["--start"] == str(runner.asked["fedavg"].produces)
        assert options["--data"] == str(data / site)
        assert options["--experiment"] == str(tmp_path / "fine-tuning.yaml")
    key = runner.asked["fine-tuned-south"].key
    assert runner.asked["fedavg"].key in key and "7 steps" in key


def test_leaving_a_site_out_is_fedavg_among_the_others(
    three: Path, tmp_path: Path, runner: Runner
) -> None:
    job = read_federated_experiment(TWO_SITES, THREE)
    more = {"regression": False, "leave_one_site_out": True}
    run_comparison(Comparison(job, three, tmp_path, ("fedavg",), 2, "Tiny", **more))
    whole = settings_of(tmp_path / "jobs" / "fedavg")
    for site in (*SITES, "north"):
        folder = tmp_path / "jobs" / f"left-out-{site}"
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        assert set(meta["deploy_map"]["app_site"]) == {*SITES, "north"} - {site}
        assert settings_of(folder) == whole
    assert not any(arm.get("reference") for arm in entries(tmp_path, "left-out").values())


def test_trainings_that_do_not_fit_into_memory_together_are_refused_before_the_first_arm(
    data: Path, tmp_path: Path, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_check, "free_memory", lambda _: 10_000)
    with pytest.raises(ConfigError, match=r"does not fit into memory: each of 2 trainings at onc"):
        compare(data, tmp_path)
    assert runner.order == []


@pytest.mark.parametrize(
    ("strategies", "changes", "more", "sentence"),
    [
        (("fedprox",), {}, {"fine_tuning": 5}, "fine-tuning begins with the model of 'fedavg'"),
        (("fedavg",), {}, {"leave_one_site_out": True}, "one of 2 sites out leaves no federation"),
        (
            ("fedavg",),
            THREE | {"privacy": {"mechanism": "percentile"}},
            {"leave_one_site_out": True},
            "with privacy.mechanism 'percentile'",
        ),
    ],
)
def test_arms_that_cannot_be_are_refused_before_anything_is_written(
    strategies: tuple[str, ...],
    changes: dict[str, Any],
    more: dict[str, Any],
    sentence: str,
    three: Path,
    tmp_path: Path,
    runner: Runner,
) -> None:
    job = read_federated_experiment(TWO_SITES, changes)
    with pytest.raises(ConfigError, match=sentence):
        run_comparison(Comparison(job, three, tmp_path / "out", strategies, 2, "Tiny", **more))
    assert not (tmp_path / "out").exists()
    assert runner.order == []


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        ("study.json", {}, "holds a study of several seeds"),
        ("run.json", {"design": "abc"}, "holds a run of another study"),
    ],
)
def test_a_folder_of_another_kind_of_run_is_left_alone(
    file: str, content: dict[str, str], sentence: str, data: Path, tmp_path: Path, runner: Runner
) -> None:
    (tmp_path / file).write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ConfigError, match=sentence):
        compare(data, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [file]
    assert runner.order == []


@pytest.mark.parametrize(
    ("split", "sentence"),
    [
        ("train", "has no patient in split 'train', on whom it would train; add one"),
        ("val", "has no patient in split 'val', on whom the best model is chosen"),
    ],
)
def test_a_site_without_patients_to_train_or_to_choose_on_is_named_before_the_first_arm(
    split: str, sentence: str, tmp_path: Path, runner: Runner
) -> None:
    data = write_tiny_cohort(tmp_path / "data", (*SITES, UNSEEN))
    without(data / UNSEEN, split)  # it only tests
    without(data / "east", split)
    with pytest.raises(DataError, match=f"site 'east' {sentence}"):
        compare(data, tmp_path / "out")
    assert runner.order == []
    assert not (tmp_path / "out").exists()
