"""Who may command, who is let in."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from certificates import expire_certificate, tls_answer
from federation_jobs import refused_of, sends_directly
from lead_console import Lead
from poc_processes import MEMBER, audited, crash, wait_for

from provision.poc.command_line import JobError
from provision.poc.console import AdminConsole, ConsoleError
from provision.poc.federation import Federation, last_words
from provision.provisioning import provision
from provision.startup_folder import startup_is_genuine

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_a_member_may_not_submit_and_reads_why(
    federation: Federation, small_job: Path, tmp_path: Path
) -> None:
    with pytest.raises(JobError, match=f"user '{MEMBER}' is not authorized for 'submit_job'"):
        federation.user(MEMBER).submit(small_job)
    kit = federation.kits / MEMBER
    console = AdminConsole(kit, tmp_path / "screen.txt", federation.participants.environment)
    with pytest.raises(ConsoleError, match="not authorized"), console:
        console.submit_job(small_job)
    refusals = audited(federation, "server", f"[U:{MEMBER}][A:authorization.refused]submit_job")
    assert len(refusals) == 2  # by command line, and in the console

    secret = federation.kits / "north" / "local" / "fedi2i.yaml"
    (answer,) = sends_directly(federation, ("admin", "x", "north", f"cat {secret}"))
    assert not answer.startswith("ANSWER ok") and "datasets" not in answer
    assert refused_of(federation, MEMBER, "'admin/x'")
    assert audited(federation, "north", "[A:sys.shell]") == []


def test_a_disabled_site_is_out_until_it_is_enabled_again(
    federation: Federation, lead: Lead, tmp_path: Path
) -> None:
    assert "not authorized" in lead.type("disable_client east")  # which is not north's to operate
    east = federation.kits / "east"
    kit = federation.kits / "project.admin@fedi2i.example.org"
    with AdminConsole(kit, tmp_path / "screen", federation.participants.environment) as admin:
        assert '"rejoin_allowed": false' in admin.type("disable_client east")
        wait_for(lambda: "Failed to send heartbeat" in last_words(east, 10**6), 30)  # it goes on
        assert "| east " not in admin.type("check_status server")
        admin.type("enable_client east")
        wait_for(lambda: "| east " in admin.type("check_status server"), 60)


def test_a_changed_startup_file_keeps_a_site_from_starting(
    federation: Federation, tmp_path: Path
) -> None:
    kit = Path(shutil.copytree(federation.kits / "west", tmp_path / "west"))
    path = kit / "startup" / "fed_client.json"
    path.write_text(path.read_text() + "\n")
    done = subprocess.run(
        ["bash", str(kit / "startup" / "sub_start.sh"), "--once"],
        env={**os.environ, **federation.participants.environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode != 0
    assert "The following files are not secure content" in done.stdout
    assert "fed_client.json" in done.stdout


@pytest.fixture
def provisioned_elsewhere(federation: Federation, tmp_path: Path) -> Path:
    """South's kit for the same server, made by somebody else."""
    workspace = federation.kits.parents[1]
    return provision(workspace.parent / "localhost_project.yml", tmp_path / "kits") / "south"


def test_a_site_of_another_authority_is_not_accepted(
    federation: Federation, provisioned_elsewhere: Path
) -> None:
    shutil.copytree(provisioned_elsewhere, federation.kits / "south", dirs_exist_ok=True)
    federation.participants.start("south")
    south = federation.kits / "south"
    wait_for(lambda: "certificate" in last_words(south, 10**6).lower(), 60)
    assert "Successfully registered" not in last_words(south, 10**6)
    assert "New client south" not in (federation.kits / "server" / "log.txt").read_text()
    crash(south)


@pytest.fixture(scope="module")
def expired_west(federation: Federation) -> Path:
    """West's kit, genuine but for a certificate that was valid until yesterday."""
    west = federation.kits / "west"
    expire_certificate(west, federation.kits.parent / "state")
    assert startup_is_genuine(west / "startup")
    return west


def test_a_site_whose_certificate_has_expired_says_so_and_does_not_start(
    federation: Federation, expired_west: Path
) -> None:
    federation.participants.start("west")
    wait_for(lambda: "west" in federation.participants.ended(), 60)
    said = last_words(expired_west, 10**6)
    assert "error: " in said and "this machine's clock says otherwise" in said
    assert "New client west" not in (federation.kits / "server" / "log.txt").read_text()


@pytest.mark.parametrize(("site", "refused"), [("west", True), ("east", False)])
def test_the_server_refuses_an_expired_certificate_whatever_the_site_checks(
    federation: Federation, expired_west: Path, site: str, refused: bool
) -> None:
    answer = tls_answer(federation.kits / site)
    assert answer.startswith("HTTP/1.1 ") is not refused, answer
