"""The federation itself: processes, TLS, both ways to submit, and who is refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from certificates import expire_certificate
from poc_processes import LEAD, MEMBER, free_port, processes_of, wait_for
from simulator_runs import EXPERIMENT, export
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from provision.add_participants import add_site
from provision.poc.command_line import JobError
from provision.poc.console import AdminConsole, ConsoleError
from provision.poc.federation import (
    Federation,
    last_words,
    running_federation,
    wait_until_registered,
)
from provision.poc.kits import PocConfig
from provision.poc.run import metric_values
from provision.startup_folder import startup_is_genuine

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def poc_command(out: Path, data: Path) -> list[str]:
    command = [sys.executable, "-m", "provision", "poc", "--experiment", str(EXPERIMENT)]
    command += ["--dataset", f"tiny={data}", "--out", str(out), "--port", str(free_port())]
    return [*command, "--rounds", "2", "--steps", "40", "--torch-threads", "1"]


def test_both_submissions_finish_learn_and_leave_nothing_running(
    tiny_cohort: Path, tmp_path: Path
) -> None:
    out = tmp_path / "poc"
    done = subprocess.run(
        poc_command(out, tiny_cohort), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "processes left: 0" in done.stdout
    assert processes_of(out) == []
    (by_command,) = (out / "results").iterdir()
    (by_console,) = next((out / "kits").rglob(LEAD)).joinpath("transfer").iterdir()
    assert by_command.name != by_console.name
    for result in (by_command, by_console):
        metrics = metric_values(result / "workspace")
        before, after = (metrics["all", number, "val/psnr"] for number in (0, 2))
        assert after > before + 1.0
        assert (result / "workspace" / "app_server" / "FL_global_model.pt").is_file()
        # No participant was wrongly taken for lost, and no picture came along.
        assert "is lost" not in (result / "workspace" / "log.txt").read_text()
        assert not list(result.rglob("*.png"))
        for kind, names in streamed(result).items():
            assert bool(names) is (kind == "scalars"), (kind, names)
    screen = (out / "console.txt").read_text()
    assert f"User Name: {LEAD}" in screen and "> submit_job " in screen
    assert f"Submitted job: {by_console.name}" in screen and "FINISHED:COMPLETED" in screen


def streamed(result: Path) -> dict[str, set[str]]:
    """Names of the curves and of the pictures that the sites sent for TensorBoard."""
    names: dict[str, set[str]] = {"scalars": set(), "images": set()}
    for folder in {path.parent for path in result.rglob("events.out.tfevents.*")}:
        events = EventAccumulator(str(folder))
        events.Reload()
        for kind, found in names.items():
            found.update(events.Tags()[kind])
    return names


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_it_in_the_middle_of_a_job_leaves_nothing_running(
    tiny_cohort: Path, tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "poc"
    with subprocess.Popen(
        poc_command(out, tiny_cohort), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as running:
        wait_for(lambda: list(out.glob("kits/*/prod_00/north/*-*-*-*-*")), 200)
        wait_for(lambda: len(processes_of(out)) > 8, 200)  # each job is a process of its own
        running.send_signal(number)
        output, _ = running.communicate(timeout=60)
    assert running.returncode == 130, output
    assert "stopped; nothing is left running" in output
    assert processes_of(out) == []


@pytest.fixture(scope="module")
def federation(tiny_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """Server, north and east, running."""
    config = PocConfig(
        out=tmp_path_factory.mktemp("federation") / "poc",
        datasets={"tiny": tiny_cohort},
        sites=("north", "east"),
        port=free_port(),
        torch_threads=1,
    )
    with running_federation(config) as running:
        yield running
    assert processes_of(config.out) == []


@pytest.fixture
def small_job(tmp_path: Path) -> Path:
    return export(tmp_path / "fedavg", "--sites", "north,east", "--rounds", "1", "--steps", "2")


def refused(federation: Federation, job: Path) -> str:
    """What the lead reads of a job that was refused when it was sent to the sites."""
    lead = federation.user(LEAD)
    job_id = lead.submit(job)
    with lead.waiting(job_id, 120) as waiting:
        waiting.communicate()
    with pytest.raises(JobError) as error:
        lead.check_completed(job_id)
    assert "FINISHED:FAILED_TO_RUN" in str(error.value)
    return str(error.value)


def audited(federation: Federation, who: str, text: str) -> list[str]:
    """Lines of a participant's audit trail that hold a text."""
    trail = (federation.kits / who / "audit.log").read_text().splitlines()
    return [line for line in trail if text in line]


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


@pytest.mark.parametrize(
    ("side", "who"),
    [
        ("app_server/config/config_fed_server.json", "server"),
        ("app_site/config/config_fed_client.json", "north"),
    ],
)
def test_a_class_off_the_allow_list_is_refused_by_name_and_audited(
    federation: Federation, small_job: Path, side: str, who: str
) -> None:
    config = json.loads((small_job / side).read_text())
    stranger = "nvflare.app_common.logging.job_log_streamer.JobLogStreamer"
    config["components"].append({"id": "stranger", "path": stranger, "args": {}})
    (small_job / side).write_text(json.dumps(config))
    reason = refused(federation, small_job)
    assert f"{who}: " in reason
    assert f"not on this participant's class_allow_list: {stranger}" in reason
    assert audited(federation, who, stranger)


@pytest.mark.parametrize(("side", "who"), [("app_server", "server"), ("app_site", "north")])
def test_a_job_that_carries_code_is_refused_and_audited_and_no_site_keeps_the_code(
    federation: Federation, small_job: Path, side: str, who: str
) -> None:
    code = small_job / side / "custom" / "innocent.py"
    code.parent.mkdir()
    code.write_text("print('x')\n")
    before = len(audited(federation, who, "[A:authorization.refused]byoc"))
    assert "BYOC not permitted" in refused(federation, small_job)
    assert len(audited(federation, who, f"[U:{LEAD}][A:authorization.refused]byoc")) > before
    for site in ("north", "east"):
        assert not list((federation.kits / site).rglob("innocent.py"))


@pytest.fixture
def strict_north(federation: Federation) -> Iterator[Path]:
    """North keeps discriminators; the job of every test is told otherwise."""
    path = federation.kits / "north" / "local" / "privacy.json"
    before = path.read_text()
    path.write_text(before.replace('"discriminator",', ""))
    yield federation.kits / "north"
    path.write_text(before)


def test_what_a_site_keeps_stays_there_although_the_job_asks_and_filters_nothing(
    federation: Federation, small_job: Path, strict_north: Path
) -> None:
    config = small_job / "app_site" / "config" / "config_fed_client.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "task_result_filters": []}))
    lead = federation.user(LEAD)
    job_id = lead.submit(small_job)
    with lead.waiting(job_id, 300) as waiting:
        waiting.communicate()
    assert lead.status(job_id) != "FINISHED:COMPLETED"
    log = (strict_north / job_id / "log.txt").read_text()
    assert "parameter 'discriminator." in log and "is outside the sharing scope" in log
    result = lead.download(job_id, small_job.parent / "result")
    server_log = (result / "log.txt").read_text()
    assert "site 'north' could not do its task 'train'" in server_log
    assert not (result / "app_server" / "FL_global_model.pt").exists()


def test_a_site_that_joins_later_runs_and_says_that_its_data_is_not_mapped(
    federation: Federation, tmp_path: Path
) -> None:
    workspace = federation.kits.parents[1]
    kit = add_site(workspace.parent / "localhost_project.yml", workspace, "island", "island")
    shutil.move(kit, federation.kits / "island")
    federation.participants.start("island")
    wait_until_registered(federation.participants, federation.kits, ["island"])
    job = export(tmp_path / "fedavg", "--sites", "island", "--rounds", "1", "--steps", "2")
    lead = federation.user(LEAD)
    job_id = lead.submit(job)
    with lead.waiting(job_id, 200) as waiting:
        waiting.communicate()
    with pytest.raises(JobError):
        lead.check_completed(job_id)
    log = (federation.kits / "island" / job_id / "log.txt").read_text()
    assert "site 'island' maps no data set: write 'tiny: <folder with its manifest.json>'" in log


def test_a_disabled_site_is_out_until_it_is_enabled_again(
    federation: Federation, tmp_path: Path
) -> None:
    def console(user: str) -> AdminConsole:
        kit = federation.kits / user
        return AdminConsole(kit, tmp_path / user, federation.participants.environment)

    with console("org.admin@north.example.org") as at_north:
        assert "not authorized" in at_north.type("disable_client east")
    with console("project.admin@fedi2i.example.org") as admin:
        assert '"rejoin_allowed": false' in admin.type("disable_client east")
        time.sleep(12)  # east goes on trying
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


def test_a_site_of_another_authority_is_not_accepted(
    federation: Federation, provisioned_elsewhere: Path
) -> None:
    shutil.copytree(provisioned_elsewhere, federation.kits / "south", dirs_exist_ok=True)
    federation.participants.start("south")
    south = federation.kits / "south"
    wait_for(lambda: "certificate" in last_words(south, 10**6).lower(), 60)
    assert "Successfully registered" not in last_words(south, 10**6)
    assert "New client south" not in (federation.kits / "server" / "log.txt").read_text()


def test_nobody_commands_a_site_past_the_server(federation: Federation) -> None:
    """NVFlare passes such a message on, and the site would have printed the file."""
    secret = federation.kits / "north" / "local" / "fedi2i.yaml"
    kit = federation.kits / MEMBER
    script = Path(__file__).with_name("direct_command.py")
    before = len(audited(federation, "server", f"[U:{MEMBER}][A:command_guard.refused]"))
    done = subprocess.run(
        [sys.executable, str(script), MEMBER, str(kit), "north", f"cat {secret}"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    (answer,) = [line for line in done.stdout.splitlines() if line.startswith("ANSWER")]
    assert not answer.startswith("ANSWER ok"), done.stdout + done.stderr
    assert "datasets" not in done.stdout
    assert len(audited(federation, "server", f"[U:{MEMBER}][A:command_guard.refused]")) > before
    assert audited(federation, "north", "[A:sys.shell]") == []


def test_a_site_whose_privacy_policy_is_lost_while_it_runs_takes_no_job(
    federation: Federation, small_job: Path
) -> None:
    policy = federation.kits / "north" / "local" / "privacy.json"
    content = policy.read_bytes()
    policy.unlink()
    try:
        assert "this site's privacy.json would limit nothing" in refused(federation, small_job)
    finally:
        policy.write_bytes(content)


@pytest.fixture
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


def tls_answer(kit: Path) -> str:
    """The server's answer to a request with a kit's certificate; empty where it hangs up."""
    startup = kit / "startup"
    context = ssl.create_default_context(cafile=str(startup / "rootCA.pem"))
    context.load_cert_chain(startup / "client.crt", startup / "client.key")
    target = json.loads((startup / "fed_client.json").read_text())["servers"][0]["service"]
    host, port = target["target"].rsplit(":", 1)
    try:
        with (
            socket.create_connection((host, int(port)), timeout=20) as plain,
            context.wrap_socket(plain, server_hostname=host) as connection,
        ):
            connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return connection.recv(100).decode()
    except (ssl.SSLError, ConnectionError):
        return ""


@pytest.fixture
def provisioned_elsewhere(federation: Federation, tmp_path: Path) -> Path:
    """South's kit for the same server, made by somebody else."""
    from provision.provisioning import provision

    workspace = federation.kits.parents[1]
    return provision(workspace.parent / "localhost_project.yml", tmp_path / "kits") / "south"
