"""A job with a network of a lab's own: exported, admitted and built only where it is allowed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from job_building import SERVER_CONFIG, SITE_CONFIG, build_server, build_site, class_paths
from nvflare.apis.fl_constant import SystemConfigs
from nvflare.fuel.utils.config_service import ConfigService

from app_custom.participant.allowed_classes import ALLOWED_CLASSES
from app_custom.participant.class_check import ClassCheck
from fedi2i.cli.program import main

MINE = "my_lab.nets.MyGenerator"
MODULE = "my_lab.modules.MyTranslation"
Allow = Callable[[str], None]


@pytest.fixture
def job(allow_own: Allow, tmp_path: Path) -> Path:
    """An exported job of two sites with a generator and a discriminator of a lab's own."""
    for path in (MINE, "my_lab.nets.MyDiscriminator"):
        allow_own(path)
    file = tmp_path / "own.yaml"
    file.write_text(
        "federation: {sites: [north, east]}\n"
        "experiment:\n"
        "  data: {dataset: tiny, preparation: {size: [32, 32], spacing: 1.5}}\n"
        "  model:\n"
        f"    generator: {{path: {MINE}, args: {{channels: 4}}}}\n"
        "    discriminator: {path: my_lab.nets.MyDiscriminator, args: {channels: 4}}\n"
        "  training: {rounds: 1, steps: 1}\n"
    )
    export = ["jobs", "export", "fedma", "--experiment", str(file), "--out", str(tmp_path / "own")]
    assert main(export) == 0
    return tmp_path / "own"


@pytest.fixture
def listed() -> Iterator[None]:
    """A participant that allows the classes of our jobs."""
    ConfigService.reset()
    ConfigService.add_section(
        SystemConfigs.RESOURCES_CONF, {"class_allow_list": list(ALLOWED_CLASSES)}
    )
    yield
    ConfigService.reset()


def generator_of(job: Path) -> Any:
    content = json.loads((job / SITE_CONFIG).read_text())
    return content["executors"][0]["executor"]["args"]["settings"]["model"]["generator"]


def test_nvflare_builds_such_a_job_under_its_own_policy_with_the_lab_s_network(
    job: Path, workspace: Path
) -> None:
    assert generator_of(job) == {"kind": MINE, "args": {"channels": 4}}
    for config in (SERVER_CONFIG, SITE_CONFIG):
        named = set(class_paths(json.loads((job / config).read_text())))
        assert named <= set(ALLOWED_CLASSES)
    server = build_server(job, workspace)
    model = server.runner_config.components["persistor"].model
    expected = {"network.encoder.0.weight", "network.decoder.4.bias"}
    assert expected <= set(model["generator"].state_dict())
    assert build_site(job, workspace) is not None


def test_a_participant_that_does_not_allow_the_network_refuses_the_job_when_it_arrives(
    job: Path, listed: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for app in ("app_server", "app_site"):
        assert ClassCheck().validate(str(job / app)) == ("", {})
    monkeypatch.setenv("FEDI2I_OWN_CODE", str(tmp_path / "nothing.yaml"))
    for app in ("app_server", "app_site"):
        reason, _ = ClassCheck().validate(str(job / app))
        assert reason.startswith(
            "names a network that this participant does not allow: my_lab.nets"
        )
        assert str(tmp_path) not in reason


@pytest.mark.parametrize("hidden", [{"path": "os.system"}, {"kind": "os.system"}])
def test_no_other_callable_gets_in_as_a_network_or_as_its_argument(
    job: Path, listed: None, hidden: dict[str, str]
) -> None:
    path = job / SITE_CONFIG
    for place in ("generator", "args"):
        content = json.loads(path.read_text())
        settings = content["executors"][0]["executor"]["args"]["settings"]["model"]
        if place == "args":
            settings["generator"]["args"]["layer"] = {"generator": hidden}
        else:
            settings["generator"] = {**hidden, "args": {"command": "exit 1"}}
        path.write_text(json.dumps(content))
        assert "os.system" in ClassCheck().validate(str(job / "app_site"))[0]


def export_module(folder: Path, mechanism: str = "none") -> int:
    """Write the job ``module`` of a whole Lightning module; gives the exit code."""
    file = folder / "module.yaml"
    file.write_text(
        "federation: {sites: [north, east, south]}\n"
        f"privacy: {{mechanism: {mechanism}}}\n"
        "experiment:\n"
        "  data: {dataset: tiny, preparation: {size: [32, 32], spacing: 1.5}}\n"
        "  model:\n"
        "    name: own\n"
        f"    module: {{path: {MODULE}, networks: [generator, discriminator]}}\n"
        "  training: {rounds: 1, steps: 1}\n"
    )
    arguments = ["--experiment", str(file), "--out", str(folder / "module")]
    return main(["jobs", "export", "fedavg", *arguments])


@pytest.mark.parametrize("mechanism", ["update_noise", "secure_sum", "encryption"])
def test_mechanisms_that_act_on_updates_take_a_whole_module(
    allow_own: Allow, tmp_path: Path, mechanism: str
) -> None:
    allow_own(MODULE)
    assert export_module(tmp_path, mechanism) == 0


def test_noise_by_patient_is_refused_for_a_whole_module(
    allow_own: Allow, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    allow_own(MODULE)
    assert export_module(tmp_path, "patient_noise") == 2
    assert "nobody here can clip one patient's part of it" in capsys.readouterr().err
    assert not (tmp_path / "module").exists()


def test_a_whole_module_is_built_where_its_class_is_allowed_and_refused_elsewhere(
    allow_own: Allow,
    workspace: Path,
    listed: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    allow_own(MODULE)
    assert export_module(tmp_path) == 0
    job = tmp_path / "module"
    for config in (SERVER_CONFIG, SITE_CONFIG):
        named = set(class_paths(json.loads((job / config).read_text())))
        assert named <= set(ALLOWED_CLASSES)
    for app in ("app_server", "app_site"):
        assert ClassCheck().validate(str(job / app)) == ("", {})
    model = build_server(job, workspace).runner_config.components["persistor"].model
    assert {key.partition(".")[0] for key in model.state_dict()} == {"generator", "discriminator"}
    assert build_site(job, workspace) is not None
    monkeypatch.setenv("FEDI2I_OWN_CODE", str(tmp_path / "nothing.yaml"))
    for app in ("app_server", "app_site"):
        assert MODULE in ClassCheck().validate(str(job / app))[0]


def test_a_network_that_offers_less_leaves_no_job_behind(
    allow_own: Allow, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    allow_own("my_lab.wrong_nets.Crops")
    file = tmp_path / "own.yaml"
    file.write_text(
        "federation: {sites: [north, east]}\n"
        "experiment: {model: {generator: {path: my_lab.wrong_nets.Crops}}}\n"
    )
    out = tmp_path / "job"
    assert main(["jobs", "export", "fedavg", "--experiment", str(file), "--out", str(out)]) == 2
    assert "a translation has the shape of its source" in capsys.readouterr().err
    assert not out.exists()
