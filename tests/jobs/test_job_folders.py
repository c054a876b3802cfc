from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
from job_building import SERVER_CONFIG, SITE_CONFIG, build_server, build_site, class_paths
from nvflare.app_common.workflows.scatter_and_gather import ScatterAndGather
from nvflare.fuel.utils.class_utils import instantiate_class
from nvflare.private.json_configer import ComponentNotAuthorized

from app_custom.aggregation.aggregator import Aggregator
from app_custom.executor.translation_executor import TranslationExecutor
from app_custom.gates.allowed_update import AllowedUpdate
from app_custom.participant.allowed_classes import ALLOWED_CLASSES, OPTIONAL_CLASSES
from app_custom.participant.site_configuration import checked_run_name
from app_custom.server.given_model import GivenModel
from fedi2i.errors import ConfigError
from jobs.commands.job_folders import JOBS_FOLDER
from jobs.privacy.catalogue import PRIVACY_JOBS
from jobs.writing.evaluation_job import EVALUATE, evaluation_of
from jobs.writing.export import export_job, job_files
from jobs.writing.federation import DEFAULT_FILE, FederatedExperiment, read_federated_experiment
from jobs.writing.job_folder import meta, run_name, server_config, site_config
from jobs.writing.statistics_job import NAME as STATISTICS
from lightning_modules.configuration import experiment_from, experiment_values
from lightning_modules.modules import build_module
from lightning_modules.sharing.local_parts import sharing_scope
from lightning_modules.sharing.scope import SharingScope
from lightning_modules.strategies.catalogue import STRATEGIES as KNOWN_STRATEGIES
from lightning_modules.strategies.catalogue import STRATEGY_JOBS, strategy_job
from lightning_modules.strategies.interface import STAR

LAYERWISE = dict(strategy_job("fedma_layerwise").values)
STRATEGIES = sorted(n for n, job in STRATEGY_JOBS.items() if job.strategy.topology == STAR)
"""The others are tested in test_decentralised_jobs.py."""
EXPERIMENTS = sorted(set(DEFAULT_FILE.parent.glob("*.yaml")) - {DEFAULT_FILE})
"""Besides that of the committed jobs, which are all built below."""

ONE_OF_EACH_KIND = ("fedavg", "fedadam", "fedbn", "scaffold", "fedma_layerwise", "trimmed_mean")
"""A plain mean, a server's optimizer, parts that stay at the sites, arrays beside the model,
matched channels in whole passes, a mean without the extremes: what an experiment may not suit."""

UNSUITED = {("fedma_layerwise", "conditional"): "finds no channel that it may move"}
"""Of these an experiment says so by itself."""


def experiment(strategy: str, path: Path = DEFAULT_FILE, **changes: Any) -> FederatedExperiment:
    values = {**strategy_job(strategy).experiment, **changes}
    return read_federated_experiment(path, values, fit_rounds=True)


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
    folders = {path.parent.name for path in JOBS_FOLDER.glob("*/meta.json")}
    assert folders == {*STRATEGY_JOBS, *PRIVACY_JOBS, STATISTICS, EVALUATE}
    assert {job.values["name"] for job in STRATEGY_JOBS.values()} == set(KNOWN_STRATEGIES)


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
    assert isinstance(built.components["aggregator"], Aggregator)
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
    module = build_module(settings.model, settings.training, settings.seed)
    at_site = sharing_scope(settings).select(module.state_dict())
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
    assert gate._scope == SharingScope(("generator",))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_gate_lets_out_exactly_what_the_server_s_model_holds(
    strategy: str, workspace: Path
) -> None:
    server = build_server(JOBS_FOLDER / strategy, workspace).components["persistor"].model
    built = build_site(JOBS_FOLDER / strategy, workspace)
    (gate,) = built.runner_config.task_result_filters["train/out"]
    settings = built.executors[0].executor._experiment
    whole = build_module(settings.model, settings.training, settings.seed).state_dict()
    assert {key for key in whole if gate._may_leave(key)} == set(server.state_dict())
    assert gate._may_leave("strategy/control/generator.w") == (strategy == "scaffold")


def test_the_allow_list_holds_exactly_the_classes_that_the_jobs_name() -> None:
    used = {
        path
        for strategy in (*STRATEGY_JOBS, *PRIVACY_JOBS, STATISTICS, EVALUATE)
        for name in (SERVER_CONFIG, SITE_CONFIG)
        for path in class_paths(config(JOBS_FOLDER / strategy, name))
    }
    assert not used & set(OPTIONAL_CLASSES)
    assert sorted(used | set(OPTIONAL_CLASSES)) == list(ALLOWED_CLASSES)


def test_an_exported_job_may_start_from_a_model_file_and_compress() -> None:
    further = experiment("fedavg", federation={"initial_model": "mr", "compression": "fp16"})
    files = job_files("job", further)
    used = set(class_paths(json.loads(files[str(SERVER_CONFIG)])))
    assert used <= set(ALLOWED_CLASSES)
    assert len(used & set(OPTIONAL_CLASSES)) == 3


def test_a_class_that_the_site_does_not_list_is_not_built(workspace: Path, tmp_path: Path) -> None:
    job = export_job("job", experiment("fedavg"), tmp_path / "job")
    text = (job / SITE_CONFIG).read_text(encoding="utf-8")
    unlisted = "nvflare.app_common.filters.svt_privacy.SVTPrivacy"
    changed = text.replace("app_custom.gates.allowed_update.AllowedUpdate", unlisted)
    (job / SITE_CONFIG).write_text(changed, encoding="utf-8")
    with pytest.raises(ComponentNotAuthorized, match="SVTPrivacy"):
        build_site(job, workspace)


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
@pytest.mark.parametrize("strategy", ONE_OF_EACH_KIND)
def test_every_experiment_file_gives_a_job_that_nvflare_builds(
    strategy: str, path: Path, workspace: Path, tmp_path: Path
) -> None:
    reason = UNSUITED.get((strategy, path.stem))
    if reason is not None:
        with pytest.raises(ConfigError, match=reason):
            experiment(strategy, path)
        return
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
    assert settings["strategy"] == {
        "name": "fedprox",
        "initialisation": "shared",
        **dataclasses.asdict(KNOWN_STRATEGIES["fedprox"].settings()),
    }
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


def test_a_layer_wise_job_takes_whole_passes_and_the_same_work_as_the_others() -> None:
    names = ("fedavg", "fedma_layerwise")
    plain, layerwise = (experiment(name).experiment.training for name in names)
    assert layerwise.rounds % 7 == 0
    work = layerwise.rounds * layerwise.steps
    assert work == pytest.approx(plain.rounds * plain.steps, rel=0.02)
    with pytest.raises(ConfigError, match=r"training.rounds is 4, .* take a multiple of 7"):
        read_federated_experiment(
            DEFAULT_FILE,
            {"experiment": {"strategy": LAYERWISE, "training": {"rounds": 4}}},
        )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"experiment": {"strategy": {"name": "trimmed_mean", "trim_fraction": 0.2}}},
            "trim_fraction 0.2 of 4 site.* drops no site; take at least 0.25",
        ),
        (
            {
                "experiment": {"strategy": dict(strategy_job("fedma_independent").values)},
                "federation": {"initial_model": "mr"},
            },
            "initial_model is 'mr', but here sites draw their own first weights",
        ),
        (
            {"experiment": {"sharing": "generator_ab"}},
            "model 'pix2pix' has no 'generator_ab'",
        ),
    ],
)
def test_a_strategy_that_does_not_fit_the_federation_is_refused(
    changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason):
        read_federated_experiment(DEFAULT_FILE, changes)


def test_a_job_that_starts_from_a_model_names_it_and_is_another_run() -> None:
    plain = experiment("fedavg")
    named = experiment("fedavg", federation={"initial_model": "mr"})
    files = job_files("job", named)
    components = json.loads(files[str(SERVER_CONFIG)])["components"]
    order = [part["id"] for part in components]
    (initial,) = [part for part in components if part["id"] == "initial_model"]
    assert initial["args"] == {"name": "mr"}
    # a run that is continued starts from its own rounds: who restores hears of the model last
    assert order.index("persistor") < order.index("initial_model") < order.index("continuation")
    assert run_name("job", plain) != run_name("job", named)


def test_unset_settings_of_other_strategies_do_not_travel() -> None:
    (executor,) = config(JOBS_FOLDER / "fedavg", SITE_CONFIG)["executors"]
    settings = executor["executor"]["args"]["settings"]
    assert settings["strategy"] == {"name": "fedavg", "initialisation": "shared"}
    again = json.dumps(experiment_values(experiment_from(settings, "job")))
    assert json.loads(again) == settings


def test_sites_and_server_keep_a_run_under_one_name_that_no_other_job_has() -> None:
    plain = experiment("fedavg")
    jobs = [
        ("fedavg", plain),
        ("again", plain),
        ("fedavg", experiment("fedavg", federation={"sites": ["north", "east"]})),
        ("fedavg", experiment("fedavg", federation={"compression": "bf16"})),
        ("fedavg", experiment("fedavg", experiment={"seed": 1})),
    ]
    names = []
    for name, job in jobs:
        arguments = site_config(name, job)["executors"][0]["executor"]["args"]
        components = server_config(name, job)["components"]
        (continuation,) = [item for item in components if item["id"] == "continuation"]
        assert arguments["run_name"] == continuation["args"]["run_name"]
        names.append(arguments["run_name"])
    assert len(set(names)) == len(jobs)


@pytest.mark.parametrize(
    "name", ["fedprox-mu_generator=0.001", "my job", "../x", "=", "Überlingen"]
)
def test_a_job_of_any_name_keeps_its_run_under_a_plain_one_of_its_own(name: str) -> None:
    job = experiment("fedavg")
    plain = run_name(name, job)
    assert checked_run_name(plain) == plain
    assert plain != run_name(re.sub(r"[^A-Za-z0-9_.-]+", "_", name), job)


def test_compression_stands_behind_the_gate_and_is_undone_before_anything_looks() -> None:
    job = experiment("fedavg", federation={"compression": "fp16"})
    site, server = site_config("fedavg", job), server_config("fedavg", job)

    def classes(chains: list[dict[str, Any]]) -> list[str]:
        return [path.rpartition(".")[2] for path in class_paths(chains)]

    assert classes(site["task_result_filters"]) == ["AllowedUpdate", "Compress"]
    assert classes(server["task_result_filters"]) == ["Restore"]
    assert classes(server["task_data_filters"]) == ["Compress"]
    assert classes(site["task_data_filters"]) == ["Restore"]
    assert run_name("fedavg", job) != run_name("fedavg", experiment("fedavg"))


def test_the_claims_of_gpus_stand_in_the_job_for_the_sites_that_are_named() -> None:
    federation = {"gpus": {"north": 2, "east": 0}, "gpu_memory": 12.0}
    spec = meta("fedavg", experiment("fedavg", federation=federation))["resource_spec"]
    assert spec == {"north": {"num_of_gpus": 2, "mem_per_gpu_in_GiB": 12.0}}


def test_the_time_of_a_round_bounds_training_and_evaluation() -> None:
    job = experiment("fedavg", federation={"round_timeout": 900})
    training, evaluation = server_config("fedavg", job)["workflows"]
    assert training["args"]["train_timeout"] == 900
    assert evaluation["args"]["validation_timeout"] == 900


def test_the_job_that_only_evaluates_goes_to_all_sites_and_has_no_task_that_trains() -> None:
    job = evaluation_of(read_federated_experiment(DEFAULT_FILE))
    assert files_below(JOBS_FOLDER / EVALUATE) == job_files(EVALUATE, job)
    written = meta(EVALUATE, job)
    assert written["deploy_map"]["app_site"] == ["north", "east", "south", "west", "island"]
    site = site_config(EVALUATE, job)
    assert [entry["tasks"] for entry in site["executors"]] == [["validate"]]
    assert site["executors"][0]["executor"]["args"]["only_evaluates"] is True
    assert [chain["tasks"] for chain in site["task_result_filters"]] == [["validate"]]
    workflows = [entry["id"] for entry in server_config(EVALUATE, job)["workflows"]]
    assert workflows == ["final_evaluation"]


def test_nvflare_builds_both_sides_of_the_job_that_only_evaluates(workspace: Path) -> None:
    server = build_server(JOBS_FOLDER / EVALUATE, workspace)
    assert isinstance(server.components["given_model"], GivenModel)
    assert build_site(JOBS_FOLDER / EVALUATE, workspace) is not None
