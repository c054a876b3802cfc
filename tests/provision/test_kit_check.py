from __future__ import annotations

import datetime
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from nvflare.apis.app_deployer_spec import AppDeployerSpec
from nvflare.apis.fl_constant import SystemComponents
from provisioned_project import Provisioned
from tiny_cohort import write_tiny_cohort

from app_custom.participant.job_admission import JobAdmission
from provision import kit_check, kit_route
from provision.__main__ import main
from provision.kit_check import check_kit
from provision.local_policy import CLASS_CHECK


@pytest.fixture
def filled_kit(copied_kit: Path, tmp_path: Path) -> Path:
    """North's kit with north's data mapped."""
    data = write_tiny_cohort(tmp_path / "data", ("north", "east"))
    fill(copied_kit, data / "north")
    return copied_kit


def fill(kit: Path, data: Path) -> None:
    (kit / "local" / "fedi2i.yaml").write_text(f"datasets: {{tiny: {data}}}\n")


def only_fault(kit: Path) -> str:
    _, (fault,) = check_kit(kit)
    return fault


def test_a_kit_with_its_data_mapped_has_nothing_to_fix(
    filled_kit: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(filled_kit)]) == 0
    shown = capsys.readouterr().out
    assert "data set tiny: 4 subjects" in shown
    assert "every file is as it was signed" in shown


def test_a_site_that_has_not_filled_in_its_data_is_told_so_in_one_sentence(
    copied_kit: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(copied_kit)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and "local/fedi2i.yaml: maps no data set" in line
    assert "demo: /data/fedi2i/demo" in line


def test_a_mapped_folder_without_manifest_or_of_another_site_is_named(
    filled_kit: Path, tmp_path: Path
) -> None:
    fill(filled_kit, tmp_path / "nowhere")
    assert str(tmp_path / "nowhere") in only_fault(filled_kit)
    fill(filled_kit, tmp_path / "data" / "east")
    assert "east" in only_fault(filled_kit)


def test_a_changed_or_added_file_of_startup_is_noticed(filled_kit: Path) -> None:
    added = filled_kit / "startup" / "more.sh"
    added.write_text("echo\n")
    assert "changed or added since it was signed" in only_fault(filled_kit)
    added.unlink()
    start = filled_kit / "startup" / "sub_start.sh"
    start.write_text(start.read_text() + "\necho\n")
    assert "changed or added since it was signed" in only_fault(filled_kit)


def test_what_the_site_edits_is_not_signed(filled_kit: Path) -> None:
    path = filled_kit / "local" / "resources.json"
    path.write_text(path.read_text() + "\n")
    assert check_kit(filled_kit)[1] == []


def test_a_class_that_was_added_to_the_allow_list_is_named(filled_kit: Path) -> None:
    path = filled_kit / "local" / "resources.json"
    resources = json.loads(path.read_text())
    resources["class_allow_list"].append("subprocess.Popen")
    path.write_text(json.dumps(resources))
    assert "subprocess.Popen" in only_fault(filled_kit)


def test_a_site_may_allow_less_than_we_need(filled_kit: Path) -> None:
    path = filled_kit / "local" / "resources.json"
    resources = json.loads(path.read_text())
    dropped = resources["class_allow_list"].pop()
    path.write_text(json.dumps(resources))
    fine, wrong = check_kit(filled_kit)
    assert wrong == [] and any(f"refused here: {dropped}" in line for line in fine)


def test_a_key_that_others_may_read_is_noticed(filled_kit: Path) -> None:
    (filled_kit / "startup" / "client.key").chmod(0o644)
    assert "chmod 600" in only_fault(filled_kit)


@pytest.mark.parametrize("mode", [0o755, 0o710, 0o701])
def test_a_kit_that_other_accounts_may_look_into_is_noticed(filled_kit: Path, mode: int) -> None:
    filled_kit.chmod(mode)
    assert only_fault(filled_kit).endswith(f"run 'chmod 700 {filled_kit}'")
    filled_kit.chmod(0o700)
    assert check_kit(filled_kit)[1] == []


def test_kits_are_made_for_one_account_alone(provisioned: Provisioned) -> None:
    modes = {folder.name: folder.stat().st_mode & 0o777 for folder in provisioned.kits.iterdir()}
    assert len(modes) > 5
    assert set(modes.values()) == {0o700}


def test_a_site_that_has_relaxed_its_limits_is_told_which(filled_kit: Path) -> None:
    path = filled_kit / "local" / "fedi2i.yaml"
    text = path.read_text()
    assert not any("is safe" in line for line in check_kit(filled_kit)[0])
    path.write_text(
        text + "limits: {least_sites: 2, most_steps: 30000, least_training_slices: 60}\n"
    )
    (note,) = [line for line in check_kit(filled_kit)[0] if "is safe" in line]
    assert note.endswith(": least_sites, most_steps")


def test_nvflare_finds_the_site_s_own_deployer_under_the_name_that_it_looks_for(
    filled_kit: Path,
) -> None:
    path = filled_kit / "local" / "resources.json"
    resources = json.loads(path.read_text())
    named = {component["id"]: component["path"] for component in resources["components"]}
    deployer = f"{JobAdmission.__module__}.{JobAdmission.__name__}"
    assert named[SystemComponents.APP_DEPLOYER] == deployer
    assert issubclass(JobAdmission, AppDeployerSpec)
    resources["components"] = [
        component for component in resources["components"] if component["path"] != deployer
    ]
    path.write_text(json.dumps(resources))
    assert f"it lacks {deployer}" in only_fault(filled_kit)


@pytest.mark.parametrize("limit", ["least_sites: 0", "most_steps: many", "least_site: 2"])
def test_a_limit_that_cannot_be_is_named(filled_kit: Path, limit: str) -> None:
    path = filled_kit / "local" / "fedi2i.yaml"
    path.write_text(path.read_text() + f"limits: {{{limit}}}\n")
    assert "fedi2i.yaml" in only_fault(filled_kit) and limit.split(":")[0] in only_fault(filled_kit)


@pytest.mark.parametrize(("days", "fault"), [(-1, True), (361, True), (340, False)])
def test_an_expired_certificate_is_a_fault_and_one_that_expires_soon_a_warning(
    filled_kit: Path, monkeypatch: pytest.MonkeyPatch, days: int, fault: bool
) -> None:
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)

    class Clock(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
            return later

    monkeypatch.setattr(kit_check.datetime, "datetime", Clock)
    fine, wrong = check_kit(filled_kit)
    assert (main(["check", str(filled_kit), "--before-start"]) != 0) is fault
    assert any("clock" in line for line in wrong) is fault
    assert any("renew" in line for line in fine) is not fault


def test_a_certificate_of_another_authority_is_noticed(
    filled_kit: Path, provisioned: Provisioned
) -> None:
    other = provisioned.kits / "north" / "startup" / "client.crt"
    (filled_kit / "startup" / "rootCA.pem").write_bytes(other.read_bytes())
    _, wrong = check_kit(filled_kit)
    assert any("not signed by the project's rootCA.pem" in line for line in wrong)


def test_a_server_name_that_does_not_resolve_is_one_sentence(
    filled_kit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr(kit_route.socket, "getaddrinfo", unknown)
    assert only_fault(filled_kit).startswith("server name 'localhost' does not resolve")


@pytest.mark.parametrize("name", ["server", "lead@north.example.org"])
def test_kits_of_server_and_people_need_no_data(provisioned: Provisioned, name: str) -> None:
    assert check_kit(provisioned.kits / name)[1] == []


def _without(name: str) -> Callable[[dict[str, Any]], None]:
    def change(policy: dict[str, Any]) -> None:
        policy["scopes"][0][name] = []

    return change


def _directed(name: str, direction: str | None) -> Callable[[dict[str, Any]], None]:
    def change(policy: dict[str, Any]) -> None:
        (gate,) = policy["scopes"][0][name]
        gate.pop("direction", None)
        gate.update({} if direction is None else {"direction": direction})

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda policy: policy.clear(), "it has no list of scopes"),
        (lambda policy: policy.update(default_scope="none"), "its default_scope is none of its"),
        (_without("task_result_filters"), "scope 'fedi2i' lacks app_custom.gates.site_policy."),
        (_without("task_data_filters"), "scope 'fedi2i' lacks app_custom.gates.allowed_peer_"),
        (lambda policy: policy["scopes"].append({"name": "open"}), "scope 'open' lacks"),
        (_directed("task_result_filters", "in"), "scope 'fedi2i' lacks app_custom.gates.site_p"),
        (_directed("task_data_filters", "in"), "scope 'fedi2i' lacks app_custom.gates.allowed_"),
        (_directed("task_data_filters", None), "scope 'fedi2i' lacks app_custom.gates.allowed_"),
    ],
)
def test_a_site_that_would_limit_nothing_is_told_so_and_does_not_start(
    filled_kit: Path, change: Callable[[dict[str, Any]], None], said: str
) -> None:
    path = filled_kit / "local" / "privacy.json"
    policy = json.loads(path.read_text())
    change(policy)
    path.write_text(json.dumps(policy))
    assert said in only_fault(filled_kit)
    assert main(["check", str(filled_kit), "--before-start"]) == 2


@pytest.mark.parametrize("content", [None, "", "-----BEGIN CERTIFICATE-----"])
@pytest.mark.parametrize("name", ["client.crt", "rootCA.pem"])
def test_a_damaged_certificate_is_one_sentence(
    filled_kit: Path, name: str, content: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    path = filled_kit / "startup" / name
    path.unlink() if content is None else path.write_text(content)
    assert main(["check", str(filled_kit), "--before-start"]) == 2
    assert f"{path}: missing or damaged; unpack the kit again" in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, "{", "[]"])
@pytest.mark.parametrize("name", ["privacy.json", "authorization.json"])
def test_a_file_of_local_that_is_lost_or_damaged_is_named(
    filled_kit: Path, name: str, content: str | None
) -> None:
    path = filled_kit / "local" / name
    path.unlink() if content is None else path.write_text(content)
    assert f"{path}: " in only_fault(filled_kit)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"class_list_enforcement_mode": "warn"}, "class_list_enforcement_mode is not 'enforce'"),
        ({"app_validator": None}, "its app_validator is not the kit's"),
        ({"app_validator": {"path": CLASS_CHECK}}, "its app_validator is not the kit's"),
        (
            {"components": []},
            "it lacks app_custom.participant.refusal_audit.RefusalAudit; it lacks app_custom",
        ),
        ({"allow_log_streaming": True}, "allow_log_streaming is true"),
    ],
)
def test_a_kit_whose_own_checks_were_taken_away_is_open_and_told_so(
    filled_kit: Path, change: dict[str, Any], fault: str
) -> None:
    path = filled_kit / "local" / "resources.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert f"{path}: {fault}" in only_fault(filled_kit)


@pytest.mark.parametrize("right", ["byoc", "shell_commands"])
@pytest.mark.parametrize("given", ["any", "o:site", ["n:lead@north.example.org"]])
def test_a_kit_that_lets_somebody_bring_code_or_read_files_is_told_so(
    filled_kit: Path, right: str, given: Any
) -> None:
    path = filled_kit / "local" / "authorization.json"
    policy = json.loads(path.read_text())
    policy["permissions"]["lead"][right] = given
    path.write_text(json.dumps(policy))
    assert f"role 'lead' has the right '{right}'" in only_fault(filled_kit)
    policy["permissions"]["lead"] = "any"
    path.write_text(json.dumps(policy))
    assert "role 'lead' has every right at once" in only_fault(filled_kit)


def test_a_kit_that_has_blocked_a_person_has_nothing_to_fix(filled_kit: Path) -> None:
    assert main(["block-person", "lead@north.example.org", str(filled_kit)]) == 0
    assert main(["check", str(filled_kit)]) == 0


def test_a_site_may_share_less_than_the_policy_of_its_kit(filled_kit: Path) -> None:
    path = filled_kit / "local" / "privacy.json"
    policy = json.loads(path.read_text())
    policy["scopes"][0]["task_result_filters"][0]["args"]["networks"] = ["generator"]
    path.write_text(json.dumps(policy))
    assert main(["check", str(filled_kit)]) == 0
    assert main(["check", str(filled_kit), "--before-start"]) == 0


def test_a_folder_that_is_no_kit_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(tmp_path)]) == 2
    assert "no startup kit" in capsys.readouterr().err


@pytest.fixture
def foreign_kit(filled_kit: Path) -> Iterator[Path]:
    """A kit of another account. Root may read everything, so it becomes somebody else for now."""
    filled_kit.chmod(0o000)
    if is_root := os.geteuid() == 0:
        os.seteuid(65534)
    yield filled_kit
    if is_root:
        os.seteuid(0)
    filled_kit.chmod(0o700)


def test_a_kit_that_this_account_may_not_read_is_one_sentence(
    foreign_kit: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(foreign_kit)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {foreign_kit / 'startup'}")
    assert "may not read it; run as the account that the kit belongs to" in line


def test_several_faults_are_all_shown(copied_kit: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copied_kit / "startup" / "client.key").chmod(0o644)
    assert main(["check", str(copied_kit)]) == 2
    shown = capsys.readouterr()
    assert shown.out.count("\nfix  ") == 2
    assert "2 things to fix" in shown.err
