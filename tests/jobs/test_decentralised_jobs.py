"""The jobs in which sites depend on each other: a ring and a swarm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from job_building import SERVER_CONFIG, SITE_CONFIG, build_server, build_site, class_paths
from nvflare.apis.fl_constant import ConfigVarName
from nvflare.app_common.ccwf.swarm_client_ctl import SwarmClientController
from nvflare.app_common.ccwf.swarm_server_ctl import SwarmServerController
from nvflare.app_common.decomposers.numpy_decomposers import NumpyArrayDecomposer
from nvflare.app_common.workflows.broadcast_and_process import BroadcastAndProcess
from nvflare.app_common.workflows.cyclic_ctl import CyclicController
from nvflare.app_common.workflows.global_model_eval import GlobalModelEval
from nvflare.fuel.utils.class_utils import instantiate_class

from app_custom.aggregation.aggregator import Aggregator
from app_custom.executor.translation_executor import TranslationExecutor
from app_custom.gates.allowed_peer_message import AllowedPeerMessage
from app_custom.gates.allowed_update import AllowedUpdate
from app_custom.participant.allowed_classes import ALLOWED_CLASSES
from app_custom.swarm.final_model import HeldModels
from fedi2i.errors import ConfigError
from jobs.commands.job_folders import JOBS_FOLDER
from jobs.writing.export import export_job, job_files
from jobs.writing.federation import DEFAULT_FILE, read_federated_experiment
from lightning_modules.strategies.catalogue import strategy_job

JOBS = ("cyclic", "swarm")
SITES = ["north", "east", "south", "west"]
TO_PEERS = {"swarm_learn", "swarm_report_learn_result", "swarm_report_final_result"}


def exported(name: str, folder: Path, **changes: Any) -> Path:
    """The job of a strategy with other settings."""
    experiment = {**strategy_job(name).experiment["experiment"], **changes.pop("experiment", {})}
    values = {"experiment": experiment, **changes}
    return export_job(name, read_federated_experiment(DEFAULT_FILE, values), folder / name)


def config(job: Path, path: Path) -> Any:
    return json.loads((job / path).read_text(encoding="utf-8"))


def parts(job: Path) -> dict[str, Any]:
    """Arguments of the server's components and workflows by id."""
    server = config(job, SERVER_CONFIG)
    return {part["id"]: part["args"] for part in server["components"] + server["workflows"]}


@pytest.mark.parametrize("name", JOBS)
def test_the_committed_job_is_what_the_exporter_writes_byte_for_byte(name: str) -> None:
    job = read_federated_experiment(DEFAULT_FILE, strategy_job(name).experiment)
    folder = JOBS_FOLDER / name
    files = {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}
    assert files == job_files(name, job)


@pytest.mark.parametrize("name", JOBS)
def test_the_allow_list_names_every_class_of_the_job(name: str) -> None:
    used = {
        path
        for file in (SERVER_CONFIG, SITE_CONFIG)
        for path in class_paths(config(JOBS_FOLDER / name, file))
    }
    assert used <= set(ALLOWED_CLASSES)


def test_nvflare_builds_the_server_of_a_ring_with_its_own_controller(workspace: Path) -> None:
    built = build_server(JOBS_FOLDER / "cyclic", workspace)
    kinds = [type(workflow.controller) for workflow in built.workflows]
    assert kinds == [CyclicController, GlobalModelEval]
    relay = built.workflows[0].controller
    assert relay._order == SITES, "FIXED would be the order in which they happen to connect"
    assert relay.task_assignment_timeout == 0, "with a limit NVFlare skips a site that is late"
    assert "aggregator" not in built.components


def test_nvflare_builds_the_server_of_a_swarm_with_its_own_controllers(workspace: Path) -> None:
    built = build_server(JOBS_FOLDER / "swarm", workspace)
    kinds = [type(workflow.controller) for workflow in built.workflows]
    collect = [BroadcastAndProcess, BroadcastAndProcess]
    assert kinds == [SwarmServerController, *collect, GlobalModelEval]
    assert "aggregator" not in built.components, "the server must see no single update"


def test_nvflare_builds_a_site_of_a_ring_as_any_other(workspace: Path) -> None:
    assert config(JOBS_FOLDER / "cyclic", SITE_CONFIG)["task_data_filters"] == []
    built = build_site(JOBS_FOLDER / "cyclic", workspace)
    assert set(built.runner_config.task_router.task_table) == {"train", "validate"}
    for task in ("train", "validate"):
        (gate,) = built.runner_config.task_result_filters[f"{task}/out"]
        assert isinstance(gate, AllowedUpdate)


def test_nvflare_builds_a_site_of_a_swarm_with_a_gate_on_every_way_out(workspace: Path) -> None:
    built = build_site(JOBS_FOLDER / "swarm", workspace)
    router, runner = built.runner_config.task_router, built.runner_config
    doers = {name: type(executor) for name, executor in router.task_table.items()}
    models = {"submit_best_model", "submit_final_model"}
    assert {name for name, kind in doers.items() if kind is TranslationExecutor} == {
        "train",
        "validate",
    }
    assert {name for name, kind in doers.items() if kind is HeldModels} == models
    swarm = {name for name, kind in doers.items() if kind is SwarmClientController}
    assert swarm == {"swarm_config", "swarm_start", *TO_PEERS}
    for task in ("train", "validate", *models):
        (gate,) = runner.task_result_filters[f"{task}/out"]
        assert isinstance(gate, AllowedUpdate)
    for task in TO_PEERS:
        (gate,) = runner.task_data_filters[f"{task}/out"]
        assert isinstance(gate, AllowedPeerMessage)
    assert isinstance(runner.components["aggregator"], Aggregator)


def test_arrays_of_a_swarm_travel_inside_its_encrypted_messages() -> None:
    """Measured over TLS with NVFlare 2.9.0: else the server forwards them readable."""
    name = NumpyArrayDecomposer()._config_var_name(ConfigVarName.DOWNLOAD_CHUNK_SIZE)
    assert config(JOBS_FOLDER / "swarm", SITE_CONFIG)[name] == 0
    (swarm,) = [v for k, v in parts(JOBS_FOLDER / "swarm").items() if k == "swarm"]
    assert swarm["private_p2p"] is True


def test_the_gates_of_a_swarm_know_the_controller_s_own_names_of_its_messages(
    workspace: Path,
) -> None:
    """A renamed task would pass by a gate that is bound to the old name."""
    built = build_site(JOBS_FOLDER / "swarm", workspace)
    controller = built.runner_config.task_router.task_table["swarm_learn"]
    assert {
        controller.do_learn_task_name,
        controller.report_learn_result_task_name,
        controller.report_final_result_task_name,
    } == TO_PEERS


@pytest.mark.parametrize("name", JOBS)
def test_ids_in_the_server_s_configuration_name_parts_of_it(name: str, workspace: Path) -> None:
    """NVFlare notices a wrong id only when the job has been running."""
    built = build_server(JOBS_FOLDER / name, workspace)
    known = {*built.components, *(workflow.id for workflow in built.workflows)}
    named = {
        value
        for arguments in parts(JOBS_FOLDER / name).values()
        for key, value in arguments.items()
        if key.endswith("_id") or key == "processor"
    }
    assert len(named) >= 4
    assert named <= known


def test_ids_in_a_swarm_site_s_configuration_name_components_of_it(workspace: Path) -> None:
    site = config(JOBS_FOLDER / "swarm", SITE_CONFIG)
    built = build_site(JOBS_FOLDER / "swarm", workspace)
    named = {
        value
        for executor in site["executors"]
        for key, value in executor["executor"]["args"].items()
        if key.endswith("_id")
    }
    assert named == {"persistor", "shareable_generator", "aggregator"}
    assert named <= set(built.runner_config.components)


def test_every_site_of_a_swarm_and_its_server_build_the_same_networks() -> None:
    models = []
    for file in (SERVER_CONFIG, SITE_CONFIG):
        components = config(JOBS_FOLDER / "swarm", file)["components"]
        (persistor,) = [part["args"] for part in components if part["id"] == "persistor"]
        model = persistor["model"]
        models.append(instantiate_class(model["path"], model["args"]).state_dict())
    server, site = models
    assert server.keys() == site.keys()
    assert all(bool((server[key] == value).all()) for key, value in site.items())


@pytest.mark.parametrize("name", JOBS)
def test_rounds_and_sites_are_said_alike_everywhere(name: str, tmp_path: Path) -> None:
    federation = {"sites": ["CS", "DU"], "unseen": []}
    job = exported(name, tmp_path, federation=federation, experiment={"training": {"rounds": 9}})
    texts = json.dumps([config(job, SERVER_CONFIG), config(job, SITE_CONFIG)])
    assert "north" not in texts
    rounds = {v["num_rounds"] for v in parts(job).values() if "num_rounds" in v}
    assert rounds == {9}
    assert config(job, Path("meta.json"))["min_clients"] == 2


def test_a_swarm_of_one_round_has_no_best_model_to_ask_for(tmp_path: Path) -> None:
    job = exported("swarm", tmp_path, experiment={"training": {"rounds": 1}})
    assert "collect_best_model" not in parts(job)
    assert "collect_final_model" in parts(job)


@pytest.mark.parametrize(("name", "part"), [("cyclic", "generator"), ("swarm", "aggregator")])
def test_only_cyclegan_s_sites_may_leave_out_networks(name: str, part: str, tmp_path: Path) -> None:
    unpaired = {"model": {"name": "cyclegan"}}
    for folder, experiment in (("plain", {}), ("unpaired", unpaired)):
        job = exported(name, tmp_path / folder, experiment=experiment)
        file = SERVER_CONFIG if name == "cyclic" else SITE_CONFIG
        components = config(job, file)["components"]
        (found,) = [c["args"] for c in components if c["id"].endswith(part)]
        assert found.get("partial_networks", False) is (folder == "unpaired")


@pytest.mark.parametrize("name", JOBS)
@pytest.mark.parametrize(
    "federation",
    [{"sites": ["north"], "unseen": []}, {"sites": ["north", "east", "south"], "min_sites": 2}],
)
def test_a_federation_that_could_lose_a_site_or_has_one_only_is_refused(
    name: str, federation: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=rf"strategy '{name}' passes models between sites"):
        exported(name, tmp_path, federation=federation)
    assert list(tmp_path.iterdir()) == []
