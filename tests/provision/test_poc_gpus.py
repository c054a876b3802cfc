"""Which GPUs the processes of jobs see, in a federation over TLS with a stand-in for the driver."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import stand_in_gpus
from omegaconf import OmegaConf
from poc_processes import (
    LEAD,
    free_port,
    processes_of,
    processes_of_job,
    server_log,
    wait_for,
)
from simulator_runs import export

from provision.poc.console import AdminConsole
from provision.poc.federation import Federation, PocConfig, running_federation
from provision.provisioning import PROJECT_FILE

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ENDLESS = ("--sites", "north,east", "--rounds", "2", "--steps", "100000")


@pytest.fixture(scope="module")
def federation(tiny_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """North has two GPUs, east none."""
    folder = tmp_path_factory.mktemp("gpus")
    project = OmegaConf.load(PROJECT_FILE)
    for participant in project.participants:
        if participant.name == "north":
            participant.capacity = {"num_of_gpus": 2, "mem_per_gpu_in_GiB": 16}
    OmegaConf.save(project, folder / "project.yml")
    with pytest.MonkeyPatch.context() as patch:
        stand_in_gpus.install(folder / "bin", patch, number=2, gib=16)
        config = PocConfig(
            out=folder / "poc",
            datasets={"tiny": tiny_cohort},
            sites=("north", "east"),
            port=free_port(),
            project_file=folder / "project.yml",
            torch_threads=1,
        )
        with running_federation(config) as running:
            yield running
    assert processes_of(folder) == []


@pytest.fixture(autouse=True)
def nothing_left(federation: Federation, tmp_path: Path) -> Iterator[None]:
    """No job outlives its test."""
    yield
    with console(federation, tmp_path) as typed:
        for job_id in list_jobs(federation):
            typed.type(f"abort_job {job_id}")
    sites = [federation.kits / site for site in ("north", "east")]
    wait_for(lambda: not any("worker_process" in line for k in sites for line in commands(k)), 60)


def commands(kit: Path) -> list[str]:
    return [" ".join(process.cmdline()) for process in processes_of(kit)]


def list_jobs(federation: Federation) -> list[str]:
    return [path.name for path in (federation.kits / "server").glob("*-*-*-*-*")]


def console(federation: Federation, folder: Path) -> AdminConsole:
    screen = folder / "screen.txt"
    return AdminConsole(federation.kits / LEAD, screen, federation.participants.environment)


def submit(federation: Federation, folder: Path, name: str, *options: str) -> str:
    job = export(folder / name / "fedavg", *ENDLESS, "--set", f"seed={len(name)}", *options)
    return federation.user(LEAD).submit(job)


def devices(federation: Federation, site: str, job_id: str) -> str:
    """CUDA_VISIBLE_DEVICES of a site's process of a job, once it trains."""
    kit = federation.kits / site
    wait_for(lambda: "Round 0 started" in server_log(federation, job_id), 120)
    wait_for(lambda: processes_of_job(kit, job_id), 60)
    (found,) = {p.environ()["CUDA_VISIBLE_DEVICES"] for p in processes_of_job(kit, job_id)}
    return str(found)


def status(federation: Federation, job_id: str) -> str:
    meta = federation.user(LEAD).meta(job_id)
    return f"{meta['status']} {meta.get('schedule_history', '')}"


def test_jobs_get_gpus_of_their_own_a_third_waits_and_starts_when_one_is_aborted(
    federation: Federation, tmp_path: Path
) -> None:
    one = submit(federation, tmp_path, "a", "--gpus", "north=1")
    assert (devices(federation, "north", one), devices(federation, "east", one)) == ("0", "")
    two = submit(federation, tmp_path, "bb", "--gpus", "north=1", "--gpu-memory", "8")
    assert devices(federation, "north", two) == "1"
    three = submit(federation, tmp_path, "ccc", "--gpus", "north=1")
    wait_for(lambda: "waiting for 1 GPU(s): 0 of 2 are free" in status(federation, three), 60)
    assert status(federation, three).startswith("SUBMITTED")
    with console(federation, tmp_path) as typed:
        typed.type(f"abort_job {one}")
    assert devices(federation, "north", three) == "0"
    assert not processes_of_job(federation.kits / "north", one)


def test_a_job_without_a_claim_computes_on_the_cpu_of_a_site_with_gpus(
    federation: Federation, tmp_path: Path
) -> None:
    claiming = submit(federation, tmp_path, "a", "--gpus", "north=2")
    assert devices(federation, "north", claiming) == "0,1"
    plain = submit(federation, tmp_path, "bb")
    assert devices(federation, "north", plain) == ""


def test_a_claim_that_no_site_can_ever_meet_is_not_started_and_says_why(
    federation: Federation, tmp_path: Path
) -> None:
    too_many = submit(federation, tmp_path, "a", "--gpus", "north=3")
    wait_for(
        lambda: "north: the job asks for 3 GPU(s), this site has 2" in status(federation, too_many),
        60,
    )
    assert processes_of_job(federation.kits / "north", too_many) == []
