from __future__ import annotations

import datetime
import json
import stat
from pathlib import Path
from typing import Any

import pytest
from certificates import attribute, check_startup_signature, key_fits, own_certificate, root
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509 import DNSName, SubjectAlternativeName
from cryptography.x509.oid import NameOID
from nvflare.apis.impl.job_def_manager import SimpleJobDefManager
from nvflare.apis.workspace import Workspace
from nvflare.fuel.sec.authz import AuthzContext, Person
from nvflare.private.fed.app.fl_conf import create_privacy_manager
from nvflare.security.security import FLAuthorizer
from provisioned_project import SITES, Provisioned

from app_custom.ended_jobs import JobsWithReasons
from app_custom.participant.allowed_classes import OPTIONAL_CLASSES
from app_custom.participant.class_check import named_classes
from app_custom.participant.site_configuration import SiteConfig, read_site_config
from fedi2i.errors import ConfigError
from provision.local_policy import server_resources, site_resources
from provision.startup_folder import with_check

JOBS = Path(__file__).resolve().parents[2] / "jobs"
PARTICIPANTS = ("server", *SITES)


def local(provisioned: Provisioned, name: str, file: str) -> Any:
    return json.loads((provisioned.kits / name / "local" / file).read_text(encoding="utf-8"))


def components(provisioned: Provisioned, name: str) -> dict[str, dict[str, Any]]:
    return {c["id"]: c for c in local(provisioned, name, "resources.json")["components"]}


def test_there_is_a_kit_for_server_hospitals_and_every_role(provisioned: Provisioned) -> None:
    names = {kit.name for kit in provisioned.all_kits}
    assert set(PARTICIPANTS) < names
    roles = {
        attribute(own_certificate(kit), NameOID.UNSTRUCTURED_NAME)
        for kit in provisioned.all_kits
        if "@" in kit.name
    }
    assert roles == {"project_admin", "org_admin", "lead", "member"}


def test_every_certificate_chains_to_the_one_root_and_belongs_to_its_key(
    provisioned: Provisioned,
) -> None:
    roots = {root(kit) for kit in provisioned.all_kits}
    assert len(roots) == 1
    (authority,) = roots
    authority.verify_directly_issued_by(authority)
    for kit in provisioned.all_kits:
        mine = own_certificate(kit)
        mine.verify_directly_issued_by(authority)
        assert attribute(mine, NameOID.COMMON_NAME) == kit.name
        assert key_fits(kit)
        assert mine.not_valid_after_utc - mine.not_valid_before_utc < datetime.timedelta(days=366)


def test_the_server_s_certificate_names_the_host_that_sites_connect_to(
    provisioned: Provisioned,
) -> None:
    names = own_certificate(provisioned.kits / "server").extensions.get_extension_for_class(
        SubjectAlternativeName
    )
    assert "localhost" in names.value.get_values_for_type(DNSName)


def test_every_file_of_startup_is_signed_by_the_root(provisioned: Provisioned) -> None:
    for kit in provisioned.all_kits:
        files = {path.name for path in (kit / "startup").iterdir()} - {"signature.json"}
        assert check_startup_signature(kit) == files


def test_a_changed_file_of_startup_no_longer_fits_its_signature(
    provisioned: Provisioned, copied_kit: Path
) -> None:
    path = copied_kit / "startup" / "fed_client.json"
    path.write_text(path.read_text().replace("8002", "8003"))
    with pytest.raises(InvalidSignature):
        check_startup_signature(copied_kit)


def test_private_keys_are_readable_for_their_owner_only(provisioned: Provisioned) -> None:
    keys = list(provisioned.kits.rglob("*.key"))
    assert len(keys) == len(provisioned.all_kits)
    assert all(stat.S_IMODE(key.stat().st_mode) == 0o600 for key in keys)
    state = provisioned.workspace / "fedi2i" / "state"
    assert stat.S_IMODE(state.stat().st_mode) == 0o700


@pytest.mark.parametrize("name", PARTICIPANTS)
def test_the_allow_list_is_exactly_the_classes_of_our_jobs(
    provisioned: Provisioned, name: str
) -> None:
    used = {
        found
        for job in JOBS.glob("*/meta.json")
        for side in ("app_server", "app_site")
        for found in named_classes(job.parent / side / "config")
    }
    used |= set(OPTIONAL_CLASSES)
    resources = local(provisioned, name, "resources.json")
    assert resources["class_list_enforcement_mode"] == "enforce"
    assert set(resources["class_allow_list"]) == used
    assert not [
        entry for entry in resources["class_allow_list"] if "*" in entry or entry[-1] == "."
    ]
    assert len(resources["class_allow_list"]) == len(set(resources["class_allow_list"]))


@pytest.mark.parametrize("name", PARTICIPANTS)
def test_nothing_of_nvflare_s_defaults_is_left_that_could_count_instead(
    provisioned: Provisioned, name: str
) -> None:
    files = {path.name for path in (provisioned.kits / name / "local").iterdir()}
    assert files == {
        "authorization.json",
        "resources.json",
        "privacy.json",
        "fedi2i.yaml",
        "log_config.json.default",
    }


@pytest.mark.parametrize("site", SITES)
def test_no_log_of_a_site_is_streamed(provisioned: Provisioned, site: str) -> None:
    assert local(provisioned, site, "resources.json")["allow_log_streaming"] is False
    assert "site_log_streamer" not in components(provisioned, site)
    assert "log_receiver" not in components(provisioned, "server")


def test_jobs_get_the_gpus_that_the_project_names_and_nowhere_else_any(
    provisioned: Provisioned,
) -> None:
    for site in SITES:
        managed = components(provisioned, site)["resource_manager"]
        assert managed["path"].endswith("ExclusiveGPUs")
        gpus = (managed["args"]["num_of_gpus"], managed["args"]["mem_per_gpu_in_GiB"])
        assert gpus == ((2, 24) if site == "east" else (0, 0))
    assert components(provisioned, "east")["resource_consumer"]["path"].endswith(
        "GPUResourceConsumer"
    )


def test_a_job_that_waits_for_gpus_is_not_given_up_within_a_week(provisioned: Provisioned) -> None:
    arguments = components(provisioned, "server")["job_scheduler"]["args"]
    assert arguments["max_schedule_count"] * arguments["max_schedule_interval"] >= 7 * 86400


def test_the_server_keeps_jobs_where_the_project_says(provisioned: Provisioned) -> None:
    storage = str(provisioned.workspace.parent / "storage")
    text = (provisioned.kits / "server" / "local" / "resources.json").read_text()
    assert f'"{storage}/jobs"' in text and f'"{storage}/snapshots"' in text
    assert "/nvflare/" not in text


def test_the_server_s_own_store_of_jobs_tells_why_a_job_ended(provisioned: Provisioned) -> None:
    store = components(provisioned, "server")["job_manager"]
    assert issubclass(JobsWithReasons, SimpleJobDefManager)
    assert store["path"] == f"{JobsWithReasons.__module__}.{JobsWithReasons.__name__}"
    assert isinstance(JobsWithReasons(**store["args"]), JobsWithReasons)


ROLES = ("project_admin", "org_admin", "lead", "member")
RIGHTS: dict[str, set[str]] = {
    # Command: which users of north may give it at north, for a job of north's lead.
    "submit_job": {"project_admin", "lead"},
    "clone_job": {"project_admin", "lead"},
    "abort_job": {"project_admin", "org_admin", "lead"},
    "delete_job": {"project_admin", "org_admin", "lead"},
    "download_job": {"project_admin", "org_admin", "lead"},
    "list_jobs": set(ROLES),
    "check_status": set(ROLES),
    "show_errors": {"project_admin", "org_admin", "lead"},
    "shutdown": {"project_admin", "org_admin", "lead"},
    "disable_client": {"project_admin", "org_admin", "lead"},
    "cat": set(),
    "ls": set(),
    "grep": set(),
    "byoc": set(),
    "server-predeployed-flwr": set(),
}


@pytest.mark.parametrize("participant", PARTICIPANTS)
@pytest.mark.parametrize("right", RIGHTS)
def test_nvflare_grants_each_role_what_it_should_and_nobody_code_or_shell(
    provisioned: Provisioned, participant: str, right: str
) -> None:
    authorizer = FLAuthorizer("north", local(provisioned, participant, "authorization.json"))
    lead = Person("lead@north.example.org", "north", "lead")
    granted = set()
    for role in ROLES:
        name = lead.name if role == "lead" else f"{role}@north.example.org"
        context = AuthzContext(right, Person(name, "north", role), lead)
        granted |= {role} if authorizer.authorize(context)[0] else set()
    assert granted == RIGHTS[right]


def test_another_hospital_s_users_operate_nothing_here(provisioned: Provisioned) -> None:
    authorizer = FLAuthorizer("north", local(provisioned, "north", "authorization.json"))
    lead = Person("lead@north.example.org", "north", "lead")
    for role in ("org_admin", "lead", "member"):
        stranger = Person(f"{role}@east.example.org", "east", role)
        for right in ("shutdown", "abort_job", "download_job", "show_errors", "cat", "byoc"):
            assert not authorizer.authorize(AuthzContext(right, stranger, lead))[0]
        assert authorizer.authorize(AuthzContext("list_jobs", stranger, lead))[0]


def test_nvflare_builds_the_site_s_filters_from_its_privacy_policy(
    provisioned: Provisioned,
) -> None:
    workspace = Workspace(str(provisioned.kits / "north"), "north")
    manager = create_privacy_manager(workspace, names_only=False)
    scope = manager.get_scope(None)
    assert scope is manager.get_scope("fedi2i")
    assert manager.get_scope("public") is None
    (gate,) = scope.task_result_filters["out"]
    assert type(gate).__name__ == "SitePolicy"
    (peers,) = scope.task_data_filters["out"]
    assert type(peers).__name__ == "AllowedPeerMessage"


def test_the_site_s_policy_lets_all_our_jobs_share_and_no_more(provisioned: Provisioned) -> None:
    (scope,) = local(provisioned, "north", "privacy.json")["scopes"]
    most = scope["task_result_filters"][0]["args"]
    arrays: set[str] = set()
    for path in JOBS.glob("*/app_site/config/config_fed_client.json"):
        for entry in json.loads(path.read_text())["task_result_filters"]:
            if entry["tasks"] == ["fed_stats"]:
                continue  # no update: what may leave is another list, see allowed_statistics.py
            gates = [f for f in entry["filters"] if ".gates." in f["path"]]
            assert gates
            for gate in gates:
                assert set(gate["args"]["networks"]) <= set(most["networks"])
                arrays |= set(gate["args"]["arrays"])
    assert arrays == set(most["arrays"])


def test_the_data_mapping_is_a_template_that_maps_nothing_and_sends_no_pictures(
    provisioned: Provisioned,
) -> None:
    for site in SITES:
        config = read_site_config(provisioned.kits / site / "local")
        assert config == SiteConfig()
        assert not config.share_images
        assert "#   demo: " in (provisioned.kits / site / "local" / "fedi2i.yaml").read_text()
    assert read_site_config(provisioned.kits / "server" / "local") == SiteConfig()


def test_every_kit_explains_itself(provisioned: Provisioned) -> None:
    fingerprint = root(provisioned.kits / "north").fingerprint(SHA256()).hex(":")
    for kit in provisioned.all_kits:
        text = (kit / "README.md").read_text()
        assert kit.name in text and fingerprint in text and "8002" in text
        assert f"{own_certificate(kit).not_valid_after_utc:%Y-%m-%d}" in text
        assert not list(kit.rglob("readme.txt"))
    assert "2 with 24 GiB each" in (provisioned.kits / "east" / "README.md").read_text()


@pytest.mark.parametrize("capacity", [{"num_of_gpus": 0, "mem_per_gpu_in_GiB": 8}, {"gpus": 2}])
def test_a_capacity_that_cannot_be_is_refused(capacity: dict[str, Any]) -> None:
    manager = {"id": "resource_manager", "path": "x", "args": {}}
    with pytest.raises(ConfigError, match=r"write e\.g\. capacity: \{num_of_gpus: 2"):
        site_resources({"components": [manager]}, capacity)


@pytest.mark.parametrize("storage", [None, "jobs", ""])
def test_a_server_without_an_absolute_storage_folder_is_refused(storage: str | None) -> None:
    with pytest.raises(ConfigError, match="write an absolute folder"):
        server_resources({"components": []}, storage)


def test_server_and_sites_check_their_certificate_before_they_start(
    provisioned: Provisioned,
) -> None:
    for name in ("server", *SITES):
        script = (provisioned.kits / name / "startup" / "sub_start.sh").read_text()
        check, start = script.index('check "$SOURCE_WORKSPACE"'), script.index("nvflare.private")
        assert check < start


def test_a_start_script_of_another_nvflare_is_not_edited_blindly() -> None:
    with pytest.raises(ConfigError, match=r"not as NVFlare 2\.9 writes it"):
        with_check("#!/bin/bash\npython3 -m something\n")


def test_the_server_counts_a_silent_site_as_lost_after_two_minutes(
    provisioned: Provisioned,
) -> None:
    config = json.loads((provisioned.kits / "server" / "startup" / "fed_server.json").read_text())
    assert [server["heart_beat_timeout"] for server in config["servers"]] == [120]
