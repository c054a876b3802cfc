"""Grids of strategies' settings: the same budget for each, in ranges that the strategies accept."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_cohort import without, write_tiny_cohort

from app_custom.participant.site_configuration import checked_run_name
from fedi2i.errors import ConfigError, DataError
from jobs.running import federated_arm, plain_loop
from jobs.running.arm_process import ArmFailedError, ArmProcess
from jobs.running.spent_epsilon import read_trainings, spent_together
from jobs.running.tuning.grids import run_tuning
from jobs.running.tuning.table import TunedRun, choose_point, read_table
from jobs.writing.federation import read_federated_experiment, with_strategy
from lightning_modules.strategies.catalogue import STRATEGY_JOBS, grid_of

TINY = Path(__file__).parents[1] / "experiments" / "tiny.yaml"
RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
TUNED = [name for name, job in STRATEGY_JOBS.items() if job.strategy.grid]
METRICS = "site,round,metric,value\nall,1,val/psnr,{psnr}\nall,1,val/ssim,0.5\n"


def test_every_strategy_has_the_same_budget_of_four_different_settings() -> None:
    assert {"fedprox", "feddyn", "ditto", "fedavgm", "fedadam", "fedyogi", "scaffold"} <= set(TUNED)
    for name in TUNED:
        assert len({tuple(settings.items()) for settings in grid_of(name)}) == 4, name


@pytest.mark.parametrize("name", TUNED)
def test_every_setting_of_a_grid_is_one_of_the_strategy_and_in_its_range(name: str) -> None:
    job = read_federated_experiment(TINY)
    for settings in grid_of(name):
        strategy = with_strategy(job, name, settings).experiment.strategy
        assert {key: getattr(strategy.settings, key) for key in settings} == settings


@pytest.mark.parametrize("name", TUNED)
def test_every_default_is_what_the_rule_chooses_from_the_committed_tables(name: str) -> None:
    """Where a grid was run at the demo's length, that length decides."""
    longer, shorter = (
        [run for run in read_table(RESULTS / file) if run.grid == name]
        for file in ("tuning_full_length.csv", "tuning.csv")
    )
    chosen = dict(pair.split("=") for pair in choose_point(longer or shorter).point.split())
    settings = with_strategy(read_federated_experiment(TINY), name).experiment.strategy.settings
    for key, value in chosen.items():
        assert getattr(settings, key) == pytest.approx(float(value), rel=0.02), key


def test_a_tuned_strategy_is_compared_as_it_was_tuned_and_the_others_with_their_defaults() -> None:
    tuned = {"experiment": {"strategy": {"name": "fedprox", "mu_generator": 5.0}}}
    job = read_federated_experiment(TINY, tuned)
    assert with_strategy(job, "fedprox").experiment.strategy.settings.mu_generator == 5.0
    assert (
        with_strategy(job, "fedprox", {"mu_generator": 0.1}).experiment.strategy
        == (
            with_strategy(read_federated_experiment(TINY), "fedprox", {"mu_generator": 0.1})
        ).experiment.strategy
    )
    for other in ("ditto", "fedavg"):
        plain = with_strategy(read_federated_experiment(TINY), other)
        assert with_strategy(job, other).experiment.strategy == plain.experiment.strategy


@pytest.mark.parametrize(("tuned", "other"), [("fedadam", "fedyogi"), ("fedyogi", "fedadam")])
def test_what_makes_one_job_of_a_strategy_is_not_carried_to_another(tuned: str, other: str) -> None:
    values = {"strategy": {**STRATEGY_JOBS[tuned].values, "server_tau": 0.5}}
    job = read_federated_experiment(TINY, {"experiment": values})
    found = with_strategy(job, other).experiment.strategy
    expected = with_strategy(read_federated_experiment(TINY), other).experiment.strategy
    assert found.settings.server_optimizer == expected.settings.server_optimizer
    assert found.settings.server_tau == 0.5


def test_a_strategy_without_a_grid_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match=r"unknown strategy 'fedprx'.*fedprox"):
        grid_of("fedprx")
    with pytest.raises(ConfigError, match=r"'fedavg' has no grid; these have one: .*ditto"):
        grid_of("fedavg")


@pytest.mark.parametrize("name", TUNED)
def test_the_authors_point_is_one_of_the_grid_and_says_where_they_name_it(name: str) -> None:
    assert STRATEGY_JOBS[name].strategy.published in grid_of(name)
    assert len(STRATEGY_JOBS[name].strategy.published_in) > 20


class Simulator:
    """Stands in for the simulator: writes the metrics of a run, whose PSNR a test chooses."""

    def __init__(self, psnr: Callable[[str, int], float]) -> None:
        self.psnr = psnr
        self.started: list[str] = []
        self.failing = ""

    def __call__(self, process: ArmProcess, records: Path) -> float:
        record = records / process.name
        if not record.exists():
            if process.name == self.failing:
                raise ArmFailedError(f"arm '{process.name}' failed")
            self.started.append(process.name)
            workspace = Path(process.command[process.command.index("-w") + 1])
            metrics = workspace / "server" / "simulate_job" / "metrics.csv"
            metrics.parent.mkdir(parents=True)
            point, _, seed = process.name.rpartition("-seed")
            psnr = self.psnr(point, int(seed))
            metrics.write_text(METRICS.format(psnr=psnr), encoding="utf-8")
            record.parent.mkdir(exist_ok=True)
            record.touch()
        return 7.0


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_cohort(tmp_path_factory.mktemp("tiny"))


def falling(point: str, seed: int) -> float:
    """The smaller FedProx's coefficient, the better; the second seed is worse for all."""
    size = float(point.split("mu_generator=")[1].split("-mu")[0])
    return 25.0 - size - 0.3 * (seed == 2)


def test_a_tuning_runs_every_point_with_every_seed_and_keeps_the_whole_table(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulator = Simulator(falling)
    monkeypatch.setattr(federated_arm, "run_process", simulator)
    job = read_federated_experiment(TINY)
    choices = run_tuning(job, data, tmp_path, ["fedprox"], [1, 2])
    assert len(simulator.started) == len(set(simulator.started)) == 8
    runs = read_table(tmp_path / "tuning.csv")
    assert len(runs) == 8
    assert {(run.seed, run.published) for run in runs if "mu_generator=1 " in run.point} == {
        (1, True),
        (2, True),
    }
    names, seeds = set(), set()
    for file in tmp_path.rglob("config_fed_server.json"):
        components = json.loads(file.read_text(encoding="utf-8"))["components"]
        (saving,) = [item["args"] for item in components if item["id"] == "continuation"]
        names.add(checked_run_name(saving["run_name"]))  # participants refuse other names
        (model,) = [item["args"]["model"] for item in components if item["id"] == "persistor"]
        seeds.add(model["args"]["seed"])
    assert (len(names), seeds) == (8, {1, 2})
    choice = choices["fedprox"]
    assert choice.point == choice.best and choice.point.startswith("mu_generator=0.001 ")
    assert choice.means[choice.best] == pytest.approx(24.849)
    assert "the best mean" in choice.text("fedprox")


def test_a_tuning_under_noise_notes_what_its_runs_spend_on_the_same_patients(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(federated_arm, "run_process", Simulator(falling))
    job = read_federated_experiment(TINY, {"privacy": {"mechanism": "update_noise"}})
    run_tuning(job, data, tmp_path, ["fedprox"], [1, 2])
    trainings = read_trainings(tmp_path)
    assert len({training.name for training in trainings}) == 8
    (spent,) = spent_together(trainings)
    assert (spent.trainings, set(spent.sites)) == (8, set(job.federation.sites))
    for config in tmp_path.rglob("config_fed_client.json"):
        assert "update_filters.AddNoise" in config.read_text(encoding="utf-8")


def test_what_a_tuning_with_other_noise_or_sites_has_spent_stays_spent(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(federated_arm, "run_process", Simulator(falling))
    noise = {"privacy": {"mechanism": "update_noise"}}
    job = read_federated_experiment(TINY, noise)
    fewer = replace(job, federation=replace(job.federation, sites=job.federation.sites[:2]))
    louder = {"privacy": {"mechanism": "update_noise", "noise_multiplier": 2.0}}
    for one in (job, job, fewer, read_federated_experiment(TINY, louder)):
        run_tuning(one, data, tmp_path, ["fedprox"], [1, 2])
    sites = Counter(training.sites for training in read_trainings(tmp_path))
    assert sites == {job.federation.sites: 16, fewer.federation.sites: 8}


def test_a_site_without_patients_to_choose_on_ends_a_tuning_before_its_first_run(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulator = Simulator(falling)
    monkeypatch.setattr(federated_arm, "run_process", simulator)
    changed = Path(shutil.copytree(data, tmp_path / "data"))
    without(changed / "east", "val")
    with pytest.raises(DataError, match="site 'east' has no patient in split 'val', on whom the g"):
        run_tuning(read_federated_experiment(TINY), changed, tmp_path / "out", ["fedprox"], [1, 2])
    assert simulator.started == []
    assert not (tmp_path / "out").exists()


def test_an_interrupted_tuning_goes_on_and_keeps_the_rows_of_other_grids(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulator = Simulator(lambda point, seed: 20.0 + seed)
    monkeypatch.setattr(federated_arm, "run_process", simulator)
    job = read_federated_experiment(TINY)
    simulator.failing = "scaffold-control_weight=0.5-seed2"
    with pytest.raises(ArmFailedError):
        run_tuning(job, data, tmp_path, ["optimizer_state", "scaffold"], [1, 2])
    before = read_table(tmp_path / "tuning.csv")
    assert len(before) == 10
    simulator.failing, first = "", list(simulator.started)
    choices = run_tuning(job, data, tmp_path, ["scaffold"], [1, 2])
    assert simulator.started[len(first) :] == [
        "scaffold-control_weight=0.5-seed2",
        "scaffold-control_weight=1-seed2",
    ]
    after = read_table(tmp_path / "tuning.csv")
    assert len(after) == 12 and set(before) <= set(after)
    # All points are equal, so that the authors' is taken.
    assert choices["scaffold"].point == "control_weight=1"


def test_a_tuning_in_this_process_repeats_no_run_and_is_no_job_of_the_simulator(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(federated_arm, "run_process", lambda *_: pytest.fail("the simulator ran"))
    job = read_federated_experiment(TINY, {"experiment": {"training": {"rounds": 1, "steps": 1}}})
    first = run_tuning(job, data, tmp_path, ["optimizer_state"], [1, 2], in_process=True)
    table = read_table(tmp_path / "tuning.csv")
    assert {(run.point, run.seed) for run in table} == {
        (f"optimizer_state={state}", seed) for state in ("keep", "reset") for seed in (1, 2)
    }
    assert {run.steps for run in table} == {len(job.federation.sites)}
    monkeypatch.setattr(plain_loop.PlainLoop, "run", lambda *_: pytest.fail("a run was repeated"))
    again = run_tuning(job, data, tmp_path, ["optimizer_state"], [1, 2], in_process=True)
    assert again == first and read_table(tmp_path / "tuning.csv") == table


def test_what_only_messages_have_is_refused_in_this_process(data: Path, tmp_path: Path) -> None:
    compressed = {"federation": {"compression": "fp16"}}
    job = read_federated_experiment(TINY, compressed)
    with pytest.raises(ConfigError, match=r"no compression .* run this experiment in NVFlare's"):
        run_tuning(job, data, tmp_path, ["fedprox"], [1, 2], in_process=True)
    assert not (tmp_path / "tuning.csv").exists()


def test_shared_settings_are_tuned_in_the_experiment_of_fedavg(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(federated_arm, "run_process", Simulator(lambda point, seed: 20.0 + seed))
    choices = run_tuning(
        read_federated_experiment(TINY), data, tmp_path, ["learning_rates"], [1, 2]
    )
    rates = set()
    for file in tmp_path.rglob("config_fed_client.json"):
        (executor,) = json.loads(file.read_text(encoding="utf-8"))["executors"]
        training = executor["executor"]["args"]["settings"]["training"]
        rates.add(tuple(training[f"learning_rate_{r}"] for r in ("generator", "discriminator")))
    assert len(rates) == 4 and (2e-4, 2e-4) in rates
    assert choices["learning_rates"].point.startswith("learning_rate_generator=0.0002 ")


def runs_of(**scores: tuple[float, ...]) -> list[TunedRun]:
    """Runs with seeds 1, 2, ...; the authors' point is ``paper``."""
    return [
        TunedRun("grid", point, point == "paper", seed, psnr, 0.5, 3, 100, "key")
        for point, of_point in scores.items()
        for seed, psnr in enumerate(of_point, 1)
    ]


@pytest.mark.parametrize(
    ("scores", "chosen"),
    [
        # the lead is 1.0; the larger standard deviation is 1.0 / sqrt(2) = 0.71
        ({"paper": (20.0, 20.2), "other": (20.6, 21.6)}, "other"),
        ({"paper": (20.0, 20.2), "other": (20.2, 21.2)}, "paper"),  # 0.6
        ({"paper": (20.0, 21.0), "other": (20.6, 20.8)}, "paper"),  # the authors' spread counts too
        ({"paper": (21.0, 21.2), "other": (20.0, 20.2)}, "paper"),
        ({"worst": (10.0, 30.0), "paper": (20.0, 20.0), "other": (20.5, 20.5)}, "other"),
    ],
)
def test_the_authors_point_is_left_only_for_a_lead_beyond_the_spread_over_seeds(
    scores: dict[str, tuple[float, ...]], chosen: str
) -> None:
    choice = choose_point(runs_of(**scores))
    assert choice.point == chosen
    assert choice.kept_published == (chosen == "paper" and choice.best != "paper")


def test_points_with_other_seeds_are_not_compared() -> None:
    runs = runs_of(paper=(20.0, 20.1), other=(20.2, 20.3))
    with pytest.raises(DataError, match="each of the same 2 or more seeds"):
        choose_point(runs[:-1])
    with pytest.raises(DataError, match="no row of the authors' point"):
        choose_point([run for run in runs if not run.published])


def test_one_seed_or_a_misspelt_grid_is_refused_before_anything_runs(
    data: Path, tmp_path: Path
) -> None:
    job = read_federated_experiment(TINY)
    for seeds in ([1], [1, 1], []):
        with pytest.raises(ConfigError, match="name 2 or more different ones"):
            run_tuning(job, data, tmp_path, ["fedprox"], seeds)
    with pytest.raises(ConfigError, match="did you mean 'learning_rates'"):
        run_tuning(job, data, tmp_path, ["learning_rate"], [1, 2])
    (tmp_path / "tuning.csv").write_text("a,b\n", encoding="utf-8")
    with pytest.raises(DataError, match="no table of a tuning"):
        read_table(tmp_path / "tuning.csv")


@pytest.mark.parametrize("content", ["{", "[]", '{"sites": []}', '{"arms": 3}'])
def test_a_record_of_what_was_spent_that_is_damaged_stops_a_tuning_before_it_trains(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    monkeypatch.setattr(federated_arm, "run_process", lambda *_: pytest.fail("it has trained"))
    (tmp_path / "tuning.json").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=r"tuning.json: damaged .* take a new folder"):
        run_tuning(read_federated_experiment(TINY), data, tmp_path, ["fedprox"], [1, 2])
    assert (tmp_path / "tuning.json").read_text(encoding="utf-8") == content
