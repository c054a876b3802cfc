"""Faults one by one in a federation over TLS, with the times and the network of a hospital.

Nightly. Every test names the faster tests of its statement.
"""

from __future__ import annotations

import datetime
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import yaml
from certificates import sign_again
from connect_proxy import ConnectProxy
from cuttable_link import CuttableLink
from network_cable import Cable, NoCableError
from poc_processes import (
    LEAD,
    crash,
    free_port,
    processes_of,
    processes_of_job,
    server_log,
    start_again,
    wait_for,
)
from simulator_runs import export, prepared_workspace, simulate

from app_custom.gates.job_limits import SIMULATION
from app_custom.participant.proxy import PASSWORD, USER
from app_custom.participant.used_data import KEY, RECORD
from fedi2i.typed_config import as_dict, read_yaml
from provision.add_participants import add_site
from provision.poc.command_line import COMPLETED, JobCommands
from provision.poc.console import AdminConsole
from provision.poc.federation import (
    Federation,
    is_listening,
    running_federation,
    wait_until_registered,
)
from provision.poc.kits import PocConfig

pytestmark = [pytest.mark.nightly, pytest.mark.slow, pytest.mark.timeout(1800)]

ROUNDS = 3
BEHIND_PROXY = "fedi2i.invalid:8002"
Model = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def federation(
    tiny_cohort: Path, tmp_path_factory: pytest.TempPathFactory, port: int
) -> Iterator[Federation]:
    """Server, north and east, running."""
    config = PocConfig(
        out=tmp_path_factory.mktemp("faults") / "poc",
        datasets={"tiny": tiny_cohort},
        sites=("north", "east"),
        port=port,
        torch_threads=1,
    )
    with running_federation(config) as running:
        yield running
    assert processes_of(config.out) == []


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """FedAvgM, as the server keeps its momentum from round to round."""
    folder = tmp_path_factory.mktemp("jobs") / "fedavgm"
    sizes = ("--rounds", str(ROUNDS), "--steps", "60")
    return export(folder, "--sites", "north,east", *sizes, strategy="fedavgm")


@pytest.fixture(scope="module")
def undisturbed(
    federation: Federation, job: Path, tmp_path_factory: pytest.TempPathFactory
) -> Model:
    """The model of a run in which nothing happened."""
    folder = tmp_path_factory.mktemp("undisturbed")
    status, _ = ended(federation, federation.user(LEAD).submit(job), folder)
    assert status == COMPLETED
    return model_in(folder)


def wait_for_end(federation: Federation, job_id: str, seconds: int = 300) -> str:
    """Wait until a job has ended; returns its status."""
    user = federation.user(LEAD)
    with user.waiting(job_id, seconds) as waiting:
        waiting.communicate()
    return user.status(job_id)


def ended(federation: Federation, job_id: str, folder: Path) -> tuple[str, str]:
    """Status and server log of a job that has ended; its results are in the folder."""
    status = wait_for_end(federation, job_id)
    return status, (federation.user(LEAD).download(job_id, folder) / "log.txt").read_text()


def model_in(folder: Path) -> Model:
    (path,) = folder.rglob("FL_global_model.pt")
    model: Model = torch.load(path, weights_only=True)["model"]
    return model


def assert_equal(one: Model, other: Model) -> None:
    assert one.keys() == other.keys()
    for key, value in one.items():
        assert value.equal(other[key]), key


def submit_and_wait_for_round(federation: Federation, job: Path, number: int) -> str:
    """Submit and wait until sites train in a round; returns the job's id."""
    job_id = federation.user(LEAD).submit(job)
    wait_for(lambda: f"Round {number} started" in server_log(federation, job_id), 600)
    return job_id


def test_a_killed_server_goes_on_after_the_last_finished_round_when_the_job_is_sent_again(
    federation: Federation, job: Path, undisturbed: Model, port: int, tmp_path: Path
) -> None:
    """Faster: ``one_federation``, a run outlives a killed server, clock and network."""
    broken = submit_and_wait_for_round(federation, job, 1)
    crash(federation.kits / "server")
    start_again(federation, "server")
    wait_for(lambda: is_listening(port), 60)
    for site in ("north", "east"):  # the sites give up what the server knows nothing of
        wait_for(lambda s=site: not processes_of_job(federation.kits / s, broken), 600)

    status, log = ended(federation, federation.user(LEAD).submit(job), tmp_path)
    assert status == COMPLETED
    assert f"continuing an interrupted run after 1 of {ROUNDS} finished rounds" in log
    assert "Round 0 started" not in log
    assert_equal(model_in(tmp_path), undisturbed)


def test_a_killed_site_ends_the_job_is_named_and_takes_part_again_after_its_restart(
    federation: Federation, job: Path, undisturbed: Model, tmp_path: Path
) -> None:
    """Faster: ``one_federation``, sites that join, crash, return and stay away."""
    broken = submit_and_wait_for_round(federation, job, 1)
    crash(federation.kits / "east")
    start_again(federation, "east")
    status, log = ended(federation, broken, tmp_path / "broken")
    assert status != COMPLETED
    assert "Client east is deemed disconnected" in log
    assert f"the run ended after 1 of {ROUNDS} rounds; start the same job again" in log
    wait_for(lambda: not processes_of_job(federation.kits / "north", broken), 60)

    again = tmp_path / "again"
    status, log = ended(federation, federation.user(LEAD).submit(job), again)
    assert status == COMPLETED
    assert "Round 0 started" not in log
    assert_equal(model_in(again), undisturbed)


def test_a_site_that_crashes_and_stays_away_is_lost_after_two_minutes_and_the_rest_goes_on(
    federation: Federation, tmp_path: Path
) -> None:
    """Faster: ``one_federation``, sites that join, crash, return and stay away."""
    sizes = ("--rounds", "2", "--steps", "60", "--min-sites", "1")
    job = export(tmp_path / "fedavg", "--sites", "north,east", *sizes)
    job_id = submit_and_wait_for_round(federation, job, 0)
    crash(federation.kits / "east")
    try:
        status, log = ended(federation, job_id, tmp_path)
        assert status == COMPLETED
        assert "no usable update from east" in log
    finally:
        start_again(federation, "east")


def test_a_site_that_never_answers_ends_the_job_when_the_round_s_time_is_over(
    federation: Federation, tmp_path: Path
) -> None:
    """Faster: ``one_federation``, the test of the same name."""
    sizes = ("--rounds", "2", "--steps", "60", "--round-timeout", "45")
    job = export(tmp_path / "fedavg", "--sites", "north,east", *sizes)
    job_id = submit_and_wait_for_round(federation, job, 0)
    east = federation.kits / "east"
    wait_for(lambda: processes_of_job(east, job_id), 60)
    for process in processes_of_job(east, job_id):
        process.send_signal(signal.SIGSTOP)
    status, log = ended(federation, job_id, tmp_path)
    assert status != COMPLETED
    assert "1 site(s) answered, at least 2 are needed; missing: east" in log
    wait_for(lambda: not processes_of_job(east, job_id), 600)


@pytest.fixture
def link_of_east(federation: Federation, port: int) -> Iterator[CuttableLink]:
    """East reaches the server over a link that can be cut."""
    link = CuttableLink(port)
    reconnect_east(federation, f"localhost:{link.port}")
    yield link
    reconnect_east(federation, f"localhost:{port}")
    link.close()


def reconnect_east(federation: Federation, target: str) -> None:
    east = federation.kits / "east"
    crash(east)
    path = east / "startup" / "fed_client.json"
    config = json.loads(path.read_text())
    config["servers"][0]["service"]["target"] = target
    path.write_text(json.dumps(config))
    sign_again(east, federation.kits.parent / "state")
    start_again(federation, "east")


def test_a_job_outlives_a_cut_of_a_site_s_network_for_a_minute(
    federation: Federation,
    job: Path,
    undisturbed: Model,
    link_of_east: CuttableLink,
    tmp_path: Path,
) -> None:
    """Faster: ``one_federation``, a run outlives a killed server, clock and network."""
    job_id = submit_and_wait_for_round(federation, job, 1)
    link_of_east.cut()
    time.sleep(60)
    assert "Round 2 started" not in server_log(federation, job_id)
    link_of_east.join()
    status, log = ended(federation, job_id, tmp_path)
    assert status == COMPLETED
    assert "no usable update" not in log
    assert_equal(model_in(tmp_path), undisturbed)


@pytest.fixture
def cable_of_east(federation: Federation, port: int, tmp_path: Path) -> Iterator[Cable]:
    """East is a host with an address of its own."""
    try:
        cable = Cable("east", 7)
    except NoCableError as reason:
        pytest.skip(f"no host with an address of its own: {reason}")
    environment = federation.participants.environment
    before = environment["PATH"]
    environment["PATH"] = os.pathsep.join([str(cable.python(tmp_path / "bin")), before])
    reconnect_east(federation, f"{cable.here}:{port}")
    environment["PATH"] = before
    yield cable
    cable.join()
    reconnect_east(federation, f"localhost:{port}")
    cable.close()


@pytest.fixture(scope="module")
def simulated(job: Path, tiny_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The model of the same job in the simulator."""
    workspace = prepared_workspace(tmp_path_factory.mktemp("simulated") / "ws", tiny_cohort)
    run = simulate(job, workspace, "-t", "2")
    assert run.exit_code == 0, run.output[-3000:]
    return run.weights


def test_a_cable_that_is_cut_for_forty_seconds_changes_no_bit(
    federation: Federation, job: Path, simulated: Model, cable_of_east: Cable, tmp_path: Path
) -> None:
    """Faster: ``one_federation``, a run outlives a killed server, clock and network."""
    job_id = submit_and_wait_for_round(federation, job, 1)
    cable_of_east.cut()
    time.sleep(40)
    assert "Round 2 started" not in server_log(federation, job_id)
    cable_of_east.join()
    status, log = ended(federation, job_id, tmp_path)
    assert status == COMPLETED
    assert "no usable update" not in log
    assert f"{cable_of_east.address}:" in (federation.kits / "server" / "log.txt").read_text()
    assert_equal(model_in(tmp_path), simulated)


def test_after_a_cable_was_cut_for_three_minutes_the_job_sent_again_ends_in_the_same_bits(
    federation: Federation, job: Path, simulated: Model, cable_of_east: Cable, tmp_path: Path
) -> None:
    """Faster: ``one_federation``, sites that join, crash, return and stay away."""
    log_file, back = federation.kits / "server" / "log.txt", "Re-activate the client: east"
    before = log_file.read_text().count(back)
    broken = submit_and_wait_for_round(federation, job, 1)
    cable_of_east.cut()
    time.sleep(170)
    cable_of_east.join()
    status, log = ended(federation, broken, tmp_path / "broken")
    assert status != COMPLETED
    assert "Client east is deemed disconnected" in log
    wait_for(lambda: not processes_of_job(federation.kits / "east", broken), 180)
    wait_for(lambda: log_file.read_text().count(back) > before, 180)
    again = tmp_path / "again"
    status, log = ended(federation, federation.user(LEAD).submit(job), again)
    assert status == COMPLETED
    assert "continuing an interrupted run after 1 of" in log
    assert_equal(model_in(again), simulated)


@pytest.fixture
def proxy_of_east(federation: Federation, port: int) -> Iterator[ConnectProxy]:
    """East and its lead know the server by a name that a proxy alone can look up."""
    settings = federation.kits / "east" / "local" / "fedi2i.yaml"
    environment, before = federation.participants.environment, settings.read_text()
    with ConnectProxy(port, login="east:let me out") as proxy:
        settings.write_text(before.replace("proxy: null", f"proxy: {proxy.url}"))
        environment.update({USER: "east", PASSWORD: "let me out"})
        reconnect_east(federation, BEHIND_PROXY)
        yield proxy
        del environment[USER], environment[PASSWORD]
        settings.write_text(before)
        reconnect_east(federation, f"localhost:{port}")


def lead_behind(federation: Federation, proxy: ConnectProxy, folder: Path) -> Path:
    """The lead's kit on a machine behind the proxy."""
    kit = Path(shutil.copytree(federation.kits / LEAD, folder / LEAD))
    path = kit / "startup" / "fed_admin.json"
    config = json.loads(path.read_text())
    config["admin"]["host"], _, number = BEHIND_PROXY.partition(":")
    config["admin"]["port"] = int(number)
    path.write_text(json.dumps(config))
    (kit / "local" / "fedi2i.yaml").write_text(f"proxy: {proxy.url}\n")
    sign_again(kit, federation.kits.parent / "state")
    return kit


def test_a_site_and_its_lead_behind_a_proxy_train_to_the_same_weights(
    federation: Federation,
    job: Path,
    undisturbed: Model,
    proxy_of_east: ConnectProxy,
    tmp_path: Path,
) -> None:
    """Faster: ``test_proxy.py``, a message through the proxy, and what builds the route."""
    environment = federation.participants.environment
    kit = lead_behind(federation, proxy_of_east, tmp_path)
    user = JobCommands(kit, environment)
    job_id = user.submit(job)
    assert wait_for_end(federation, job_id) == COMPLETED
    before = proxy_of_east.tunnels
    with AdminConsole(kit, tmp_path / "screen.txt", environment) as console:
        assert job_id in console.type("list_jobs")
    assert proxy_of_east.tunnels > before
    user.download(job_id, tmp_path / "result")
    assert_equal(model_in(tmp_path / "result"), undisturbed)
    # East, its process of the job, submitting, the console, downloading.
    assert proxy_of_east.tunnels >= 5
    assert set(proxy_of_east.asked) == {f"CONNECT {BEHIND_PROXY} HTTP/1.1"}
    said = (federation.kits / "east" / job_id / "log.txt").read_text()
    assert f"created backbone external connector to http://{BEHIND_PROXY}" in said


@pytest.fixture
def set_clock_of_east(federation: Federation, tmp_path: Path) -> Iterator[Callable[[int], None]]:
    """Start east again with a clock that is so many seconds ahead of the others'."""
    environment = federation.participants.environment
    before = environment.get("PYTHONPATH")

    def start_with(path: str | None) -> None:
        crash(federation.kits / "east")
        environment.pop("PYTHONPATH", None)
        environment.update({} if path is None else {"PYTHONPATH": path})
        start_again(federation, "east")

    def set_clock(ahead: int) -> None:
        # Python runs a module of this name before anything else, in every process of the site.
        (tmp_path / "sitecustomize.py").write_text(
            "import time\nright, right_ns = time.time, time.time_ns\n"
            f"time.time = lambda: right() + {ahead}\n"
            f"time.time_ns = lambda: right_ns() + {ahead} * 10**9\n"
        )
        start_with(os.pathsep.join([str(tmp_path), *([before] if before else [])]))

    yield set_clock
    start_with(before)


@pytest.mark.parametrize("ahead", [86400, -86400], ids=["a_day_ahead", "a_day_behind"])
def test_a_site_whose_clock_is_wrong_takes_part_as_if_it_were_right(
    federation: Federation,
    job: Path,
    undisturbed: Model,
    set_clock_of_east: Callable[[int], None],
    ahead: int,
    tmp_path: Path,
) -> None:
    """Faster: ``one_federation``, a run outlives a killed server, clock and network."""
    set_clock_of_east(ahead)
    job_id = federation.user(LEAD).submit(job)
    status, log = ended(federation, job_id, tmp_path / "result")
    assert status == COMPLETED
    assert "no usable update" not in log
    assert_equal(model_in(tmp_path / "result"), undisturbed)
    written = (federation.kits / "east" / job_id / "log.txt").read_text()[: len("2026-01-31")]
    difference = datetime.date.fromisoformat(written) - datetime.datetime.now().date()
    assert difference.total_seconds() == ahead


@pytest.fixture
def full_disk_at_east(federation: Federation, tmp_path: Path) -> Iterator[Path]:
    """East's state folder lies on a disk of a few kilobytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(disk)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this account may not mount a small disk")
    settings = federation.kits / "east" / "local" / "fedi2i.yaml"
    before = settings.read_text()
    settings.write_text(before.replace("state: null", f"state: {disk}"))
    assert settings.read_text() != before
    yield disk
    settings.write_text(before)
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_at_a_site_is_said_there_and_the_server_names_the_site(
    federation: Federation, full_disk_at_east: Path, tmp_path: Path
) -> None:
    """Faster, in process: a failed write, the site's log, and the server that names the site.

    ``tests/lightning_modules/training/test_local_state.py``,
    ``tests/app_custom/executor/test_translation_executor.py`` and
    ``tests/app_custom/server/test_site_watch.py``.
    """
    sizes = ("--rounds", "2", "--steps", "2", "--set", "training.optimizer_state=keep")
    job = export(tmp_path / "fedavg", "--sites", "north,east", *sizes)
    job_id = federation.user(LEAD).submit(job)
    status, log = ended(federation, job_id, tmp_path / "result")
    assert status != COMPLETED
    assert "site 'east' could not do its task 'train'" in log
    said = (federation.kits / "east" / job_id / "log.txt").read_text()
    assert f"cannot do 'train': {full_disk_at_east}/east/" in said
    assert "no space left on device" in said
    kept = [path for path in full_disk_at_east.rglob("*") if path.is_file()]
    written = {path.name for path in kept if path.stat().st_size}
    assert written <= {KEY, RECORD}  # nothing half-written


def test_the_same_job_twice_at_once_is_refused_and_disturbs_nothing(
    federation: Federation, tmp_path: Path
) -> None:
    """Faster: ``tests/app_custom/checkpoints/test_continuation.py``, while a run goes on."""
    job = export(tmp_path / "fedavg", "--sites", "north,east", "--rounds", "2", "--steps", "1000")
    first = submit_and_wait_for_round(federation, job, 0)
    status, log = ended(federation, federation.user(LEAD).submit(job), tmp_path / "second")
    assert status != COMPLETED
    assert "a job with the same name, sites and settings is running" in log
    assert wait_for_end(federation, first) == COMPLETED


def test_two_different_jobs_run_at_once(federation: Federation, tmp_path: Path) -> None:
    """Faster: ``one_federation``, a job that fails beside one that is stalled."""
    sizes = ("--sites", "north,east", "--rounds", "2", "--steps", "40")
    user = federation.user(LEAD)
    jobs = [
        user.submit(export(tmp_path / name, *sizes, strategy=name)) for name in ("fedavg", "ditto")
    ]
    wait_for(lambda: all("Round 0 started" in server_log(federation, job) for job in jobs), 600)
    assert [wait_for_end(federation, job) for job in jobs] == [COMPLETED, COMPLETED]


def test_two_jobs_with_the_same_settings_under_other_names_disturb_nothing_that_sites_keep(
    federation: Federation, tmp_path: Path
) -> None:
    """Faster: ``tests/jobs/test_job_folders.py``, a run under one name that no other job has."""
    sizes = ("--sites", "north,east", "--rounds", "3", "--steps", "20")
    user = federation.user(LEAD)
    jobs = [
        user.submit(export(tmp_path / name, *sizes, strategy="scaffold"))
        for name in ("first", "second")
    ]
    wait_for(lambda: all("Round 0 started" in server_log(federation, job) for job in jobs), 600)
    for job in jobs:
        assert ended(federation, job, tmp_path / job)[0] == COMPLETED
    assert_equal(*(model_in(tmp_path / job) for job in jobs))


def test_a_job_that_is_aborted_from_the_console_leaves_no_process_at_any_site(
    federation: Federation, tmp_path: Path
) -> None:
    """Faster: ``one_federation``, an aborted job leaves no process."""
    job = export(tmp_path / "fedavg", "--sites", "north,east", "--rounds", "2", "--steps", "2000")
    job_id = submit_and_wait_for_round(federation, job, 0)
    kits = [federation.kits / name for name in ("server", "north", "east")]
    wait_for(lambda: all(processes_of_job(kit, job_id) for kit in kits), 60)
    with AdminConsole(
        federation.kits / LEAD, tmp_path / "screen.txt", federation.participants.environment
    ) as console:
        console.type(f"abort_job {job_id}")
    assert wait_for_end(federation, job_id) == "FINISHED:ABORTED"
    wait_for(lambda: not any(processes_of_job(kit, job_id) for kit in kits), 60)


def test_a_site_that_joins_later_says_that_its_data_is_not_mapped(
    federation: Federation, tmp_path: Path
) -> None:
    """Faster: a site joins later in ``one_federation``, the sentence in
    ``tests/app_custom/participant/test_site_configuration.py``.
    """
    workspace = federation.kits.parents[1]
    kit = add_site(workspace.parent / "localhost_project.yml", workspace, "island", "island")
    shutil.move(kit, federation.kits / "island")
    # With the limits of a real site the job would be refused before anybody looks for data.
    own = federation.kits / "island" / "local" / "fedi2i.yaml"
    own.write_text(yaml.safe_dump({**read_yaml(own), "limits": as_dict(SIMULATION)}))
    federation.participants.start("island")
    wait_until_registered(federation.participants, federation.kits, ["island"])
    job = export(tmp_path / "fedavg", "--sites", "island", "--rounds", "1", "--steps", "2")
    job_id = federation.user(LEAD).submit(job)
    assert wait_for_end(federation, job_id) != COMPLETED
    log = (federation.kits / "island" / job_id / "log.txt").read_text()
    assert "site 'island' maps no data set: write 'tiny: <folder with its manifest.json>'" in log
