from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from nvflare.apis.fl_constant import SystemConfigs
from nvflare.fuel.sec.audit import AuditService
from nvflare.fuel.utils.config_service import ConfigService

from app_custom.participant.allowed_classes import ALLOWED_CLASSES
from app_custom.participant.class_check import REFUSED, ClassCheck, named_classes
from provision.local_policy import privacy_policy

ALLOWED = "app_custom.gates.allowed_update.AllowedUpdate"
JOBS = Path(__file__).resolve().parents[3] / "jobs"


@pytest.fixture(autouse=True)
def site() -> Iterator[None]:
    """A participant that allows one class."""
    ConfigService.reset()
    ConfigService.add_section(SystemConfigs.RESOURCES_CONF, {"class_allow_list": [ALLOWED]})
    yield
    ConfigService.reset()


def app(folder: Path, config: dict[str, Any], name: str = "config_fed_client.json") -> str:
    (folder / "config").mkdir(exist_ok=True)
    (folder / "config" / name).write_text(json.dumps(config))
    return str(folder)


def test_an_app_with_listed_classes_only_is_accepted(tmp_path: Path) -> None:
    config = {"components": [{"id": "x", "path": ALLOWED, "args": {}}]}
    assert ClassCheck().validate(app(tmp_path, config)) == ("", {})


@pytest.mark.parametrize("name", ["config_fed_client.json", "config_fed_server.json"])
@pytest.mark.parametrize("key", ["path", "class_path"])
def test_a_class_off_the_list_is_named_wherever_it_stands(
    tmp_path: Path, name: str, key: str
) -> None:
    config = {"executors": [{"executor": {"path": ALLOWED, "args": {"x": [{key: "os.system"}]}}}]}
    reason, _ = ClassCheck().validate(app(tmp_path, config, name))
    assert reason == "not on this participant's class_allow_list: os.system"


def test_a_package_on_the_list_allows_nothing_below_it(tmp_path: Path) -> None:
    ConfigService.add_section(SystemConfigs.RESOURCES_CONF, {"class_allow_list": ["app_custom."]})
    assert ALLOWED in ClassCheck().validate(app(tmp_path, {"x": {"path": ALLOWED}}))[0]


def test_without_a_list_nothing_is_allowed(tmp_path: Path) -> None:
    ConfigService.reset()
    assert ALLOWED in ClassCheck().validate(app(tmp_path, {"x": {"path": ALLOWED}}))[0]


@pytest.mark.parametrize("name", ["FL_global_model.pt", "config/environment.json", "config/x.py"])
def test_an_app_that_brings_a_file_is_refused(tmp_path: Path, name: str) -> None:
    folder = app(tmp_path, {"x": {"path": ALLOWED}})
    (tmp_path / name).write_text("anything")
    assert ClassCheck().validate(folder) == (f"holds more than its configuration: {name}", {})


def test_the_signatures_of_a_submitted_job_are_no_files_of_its_own(tmp_path: Path) -> None:
    folder = app(tmp_path, {"x": {"path": ALLOWED}})
    for where in (tmp_path, tmp_path / "config"):
        (where / ".__nvfl_sig.json").write_text("{}")
    assert ClassCheck().validate(folder) == ("", {})


def test_code_is_left_to_the_right_that_nvflare_checks(tmp_path: Path) -> None:
    folder = app(tmp_path, {"x": {"path": ALLOWED}})
    (tmp_path / "custom").mkdir()
    (tmp_path / "custom" / "own.py").write_text("print()")
    assert ClassCheck().validate(folder) == ("", {})


@pytest.mark.parametrize("text", ["/etc/passwd", "../../local/privacy.json", "~/x", "a/../../b"])
@pytest.mark.parametrize("wrap", [lambda t: t, lambda t: [t], lambda t: {t: 1}])
def test_an_argument_that_leads_out_of_the_job_is_refused(
    tmp_path: Path, text: str, wrap: Callable[[str], Any]
) -> None:
    folder = app(tmp_path, {"x": {"path": ALLOWED, "args": {"file": wrap(text)}}})
    assert ClassCheck().validate(folder) == (f"names a path outside the job: {text}", {})


@pytest.mark.parametrize("text", ["{WORKSPACE}/startup/client.key", "{$HOME}/x", "a{d}{d}b"])
def test_a_text_that_nvflare_would_replace_at_the_participant_is_refused(
    tmp_path: Path, text: str
) -> None:
    folder = app(tmp_path, {"x": {"path": ALLOWED, "args": {"file": [text]}}})
    reason, _ = ClassCheck().validate(folder)
    assert reason == f"leaves a text to be replaced at the participant: {text}"


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"scopes": [], "default_scope": "a"}'])
def test_a_site_whose_privacy_policy_is_gone_or_open_takes_no_job(
    tmp_path: Path, content: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    local, job = tmp_path / "local", tmp_path / "job"
    local.mkdir()
    job.mkdir()
    monkeypatch.setattr(ConfigService, "_config_path", [str(local)])
    folder = app(job, {"x": {"path": ALLOWED}})
    policy = local / "privacy.json"
    policy.write_text(json.dumps(privacy_policy()))
    assert ClassCheck(needs_gates=True).validate(folder) == ("", {})
    policy.unlink()
    if content is not None:
        policy.write_text(content)
    reason, _ = ClassCheck(needs_gates=True).validate(folder)
    assert reason.startswith("this site's privacy.json would limit nothing: ")
    assert ClassCheck().validate(folder) == ("", {})  # the server has no such file


@pytest.mark.parametrize("job", sorted(path.parent.name for path in JOBS.glob("*/meta.json")))
def test_every_job_of_ours_is_accepted_with_the_list_of_our_kits(job: str) -> None:
    listed = {"class_allow_list": list(ALLOWED_CLASSES)}
    ConfigService.add_section(SystemConfigs.RESOURCES_CONF, listed)
    for side in ("app_server", "app_site"):
        assert named_classes(JOBS / job / side / "config")
        assert ClassCheck().validate(str(JOBS / job / side)) == ("", {})


def test_a_refusal_stands_in_the_audit_trail(tmp_path: Path) -> None:
    trail = tmp_path / "audit.log"
    AuditService.initialize(str(trail))
    try:
        ClassCheck().validate(app(tmp_path, {"x": {"path": "os.system"}}))
    finally:
        AuditService.close()
        AuditService.the_auditor = None
    assert f"[A:{REFUSED}]" in trail.read_text() and "os.system" in trail.read_text()
