from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from job_building import SERVER_CONFIG, SITE_CONFIG, build_server, build_site, class_paths
from nvflare.app_common.workflows.scatter_and_gather import ScatterAndGather
from nvflare.fuel.utils.class_utils import instantiate_class
from nvflare.private.json_configer import ComponentNotAuthorized

from app_custom.aggregators.fedavg import FedAvgAggregator
from app_custom.allowed_classes import ALLOWED_CLASSES
from app_custom.filters.allowed_update import AllowedUpdate
from app_custom.translation_executor import TranslationExecutor
from jobs.__main__ import JOBS_FOLDER
from jobs.export import export_job, job_files
from jobs.federation import (
    DEFAULT_FILE,
    STRATEGY_SETTINGS,
    FederatedExperiment,
    read_federated_experiment,
    strategy_overrides,
)
from jobs.job_folder import run_name
from lightning_modules.configuration import experiment_from
from lightning_modules.pix2pix_module import Pix2PixModule
from lightning_modules.sharing_scope import SharingScope

STRATEGIES = sorted(STRATEGY_SETTINGS)
EXPERIMENTS = sorted(DEFAULT_FILE.parent.glob("*.yaml"))


def experiment(strategy: str, path: Path = DEFAULT_FILE, **changes: Any) -> FederatedExperiment:
    return read_federated_experiment(path, {"experiment": strategy_overrides(strategy), **changes})


def files_below(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text(encoding="utf-8")
        for path in folder.rglob("*")
        if path.is_file()
    }


def config(job: Path, path: Path) -> Any:
    return json.loads((job / path).read_text(encoding="utf-8"))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_committed_job_is_what_the_exporter_writes_byte_for_byte(strategy: str) -> None:
    assert files_below(JOBS_FOLDER / strategy) == job_files(strategy, experiment(strategy))


def test_every_strategy_has_a_committed_job_and_every_job_a_strategy() -> None:
    assert {path.parent.name for path in JOBS_FOLDER.glob("*/meta.json")} == set(STRATEGIES)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_job_carries_json_only_and_no_code(strategy: str) -> None:
    """A folder ``custom`` would switch NVFlare's policy off; YAML breaks ``nvflare job submit``."""
    paths = list((JOBS_FOLDER / strategy).rglob("*"))
    assert {path.suffix for path in paths if path.is_file()} == {".json"}
    assert "custom" not in {path.name for path in paths}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_job_names_no_folder_of_any_machine(strategy: str) -> None:
    def texts(value: Any) -> list[str]:
        if isinstance(value, dict):
            return [text for child in value.values() for text in texts(child)]
        if isinstance(value, list):
            return [text for child in value for text in texts(child)]
        return [value] if isinstance(value, str) else []

    for content in files_below(JOBS_FOLDER / strategy).values():
        found = texts(json.loads(content))
        assert [text for text in found if text.startswith(("/", "~", "\\")) or ":\\" in text] == []


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_deploy_map_names_the_sites_so_that_no_command_needs_to(strategy: str) -> None:
    meta = config(JOBS_FOLDER / strategy, Path("meta.json"))
    assert meta["name"] == strategy
    assert meta["deploy_map"] == {
        "app_server": ["server"],
        "app_site": ["north", "east", "south", "west"],
    }
    assert meta["min_clients"] == 4
    apps = {path.name for path in (JOBS_FOLDER / strategy).iterdir() if path.is_dir()}
    assert apps == set(meta["deploy_map"])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_nvflare_builds_the_server_s_side_under_its_component_policy(
    strategy: str, workspace: Path
) -> None:
    built = build_server(JOBS_FOLDER / strategy, workspace)
    assert isinstance(built.components["aggregator"], FedAvgAggregator)
    assert [workflow.id for workflow in built.workflows] == [
        "scatter_and_gather",
        "final_evaluation",
    ]
    controller = built.workflows[0].controller
    assert isinstance(controller, ScatterAndGather)
    assert controller._num_rounds == experiment(strategy).experiment.training.rounds


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_ids_in_the_server_s_configuration_name_components_of_it(
    strategy: str, workspace: Path
) -> None:
    """NVFlare notices a wrong id only when the job has been running."""
    server = config(JOBS_FOLDER / strategy, SERVER_CONFIG)
    built = build_server(JOBS_FOLDER / strategy, workspace)
    named = {
        value
        for part in (*server["components"], *server["workflows"])
        for key, value in part["args"].items()
        if key.endswith("_id")
    }
    assert len(named) >= 6
    assert named <= set(built.components)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_nvflare_builds_a_site_s_side_and_filters_every_task_the_executor_does(
    strategy: str, workspace: Path
) -> None:
    built = build_site(JOBS_FOLDER / strategy, workspace)
    table = built.runner_config.task_router.task_table
    assert {name: type(executor) for name, executor in table.items()} == {
        "train": TranslationExecutor,
        "validate": TranslationExecutor,
    }
    for task in table:
        (gate,) = built.runner_config.task_result_filters[f"{task}/out"]
        assert isinstance(gate, AllowedUpdate)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_server_sends_the_tasks_that_the_sites_do(strategy: str) -> None:
    server = config(JOBS_FOLDER / strategy, SERVER_CONFIG)
    (executor,) = config(JOBS_FOLDER / strategy, SITE_CONFIG)["executors"]
    sent = {
        value
        for workflow in server["workflows"]
        for key, value in workflow["args"].items()
        if key.endswith("task_name")
    }
    assert sent == set(executor["tasks"])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_server_builds_the_very_networks_that_the_sites_train(strategy: str) -> None:
    """Names, shapes and initial values, from the arguments in the two JSON files."""
    server = config(JOBS_FOLDER / strategy, SERVER_CONFIG)
    (persistor,) = [part for part in server["components"] if part["id"] == "persistor"]
    model = persistor["args"]["model"]
    at_server = instantiate_class(model["path"], model["args"]).state_dict()

    (executor,) = config(JOBS_FOLDER / strategy, SITE_CONFIG)["executors"]
    settings = experiment_from(executor["executor"]["args"]["settings"], "job")
    module = Pix2PixModule(settings.model, settings.training, settings.seed)
    at_site = SharingScope.named(settings.sharing).select(module.state_dict())
    assert set(at_server) == set(at_site)
    assert at_server
    assert all(bool((at_server[key] == value).all()) for key, value in at_site.items())


def test_with_the_generator_alone_shared_the_server_has_no_discriminator(
    workspace: Path, tmp_path: Path
) -> None:
    changes = {"experiment": {"sharing": "generator"}}
    job = export_job("job", read_federated_experiment(DEFAULT_FILE, changes), tmp_path / "job")
    networks = build_server(job, workspace).components["persistor"].model
    assert {key.split(".")[0] for key in networks.state_dict()} == {"generator"}
    (gate,) = build_site(job, workspace).runner_config.task_result_filters["train/out"]
    assert gate._scope == SharingScope.named("generator")


def test_the_allow_list_holds_exactly_the_classes_that_the_jobs_name() -> None:
    used = {
        path
        for strategy in STRATEGIES
        for name in (SERVER_CONFIG, SITE_CONFIG)
        for path in class_paths(config(JOBS_FOLDER / strategy, name))
    }
    assert sorted(used) == list(ALLOWED_CLASSES)


def test_a_class_that_the_site_does_not_list_is_not_built(workspace: Path, tmp_path: Path) -> None:
    job = export_job("job", experiment("fedavg"), tmp_path / "job")
    text = (job / SITE_CONFIG).read_text(encoding="utf-8")
    unlisted = "nvflare.app_common.filters.svt_privacy.SVTPrivacy"
    changed = text.replace("app_custom.filters.allowed_update.AllowedUpdate", unlisted)
    (job / SITE_CONFIG).write_text(changed, encoding="utf-8")
    with pytest.raises(ComponentNotAuthorized, match="SVTPrivacy"):
        build_site(job, workspace)


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_experiment_file_gives_a_job_that_nvflare_builds(
    strategy: str, path: Path, workspace: Path, tmp_path: Path
) -> None:
    job = export_job("job", experiment(strategy, path), tmp_path / "job")
    build_server(job, workspace)
    build_site(job, workspace)


def test_a_job_for_other_sites_data_and_rounds_says_so_everywhere(
    workspace: Path, tmp_path: Path
) -> None:
    federation = {"sites": ["CS", "DU", "HT"], "unseen": [], "min_sites": 2}
    changes: dict[str, Any] = {
        "federation": federation,
        "experiment": {"training": {"rounds": 9}, "data": {"dataset": "lgg"}},
    }
    job = read_federated_experiment(DEFAULT_FILE, changes)
    folder = export_job("glioma", job, tmp_path / "glioma")
    meta = config(folder, Path("meta.json"))
    assert (meta["name"], meta["min_clients"]) == ("glioma", 2)
    assert meta["deploy_map"]["app_site"] == ["CS", "DU", "HT"]
    server = build_server(folder, workspace)
    assert server.workflows[0].controller._num_rounds == 9
    assert server.workflows[0].controller._min_clients == 2
    assert server.components["aggregator"]._min_sites == 2
    assert server.components["continuation"]._num_rounds == 9
    executor = build_site(folder, workspace).executors[0].executor
    assert executor._experiment.data.dataset == "lgg"
    assert executor._experiment.training.rounds == 9


def test_all_settings_travel_with_the_job_so_that_no_site_fills_in_its_own_defaults() -> None:
    (executor,) = config(JOBS_FOLDER / "fedprox", SITE_CONFIG)["executors"]
    settings = executor["executor"]["args"]["settings"]
    assert settings["strategy"] == {"name": "fedprox", **STRATEGY_SETTINGS["fedprox"]}
    assert settings["training"]["beta2"] == 0.999
    assert settings["data"]["preparation"]["percentiles"] == [0.5, 99.5]


def test_another_setting_or_site_is_another_run_and_the_needed_number_of_sites_is_not() -> None:
    names = [
        run_name("job", read_federated_experiment(DEFAULT_FILE, changes))
        for changes in (
            {},
            {"federation": {"min_sites": 2}},
            {"experiment": {"seed": 1}},
            {"experiment": {"training": {"rounds": 7}}},
            {"federation": {"sites": ["north", "east"], "unseen": []}},
        )
    ]
    assert names[0] == names[1]
    assert len(set(names)) == 4


def test_an_older_job_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    out = export_job("job", experiment("fedavg"), tmp_path / "job")
    (out / "app_old").mkdir()
    (out / "app_old" / "config.json").write_text("{}", encoding="utf-8")
    export_job("job", experiment("fedavg"), out)
    assert files_below(out) == job_files("job", experiment("fedavg"))
    assert [path.name for path in tmp_path.iterdir()] == ["job"]
