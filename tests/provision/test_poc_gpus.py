"""Which GPUs the processes of jobs see, in a federation over TLS with a stand-in for the driver.

Nightly. Faster: the tests about GPUs in ``one_federation`` and, in process,
``tests/app_custom/participant/test_exclusive_gpus.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import stand_in_gpus
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
from provision.poc.federation import Federation, running_federation
from provision.poc.kits import PocConfig

pytestmark = [pytest.mark.nightly, pytest.mark.slow, pytest.mark.timeout(1800)]

ENDLESS = ("--sites", "north,east", "--rounds", "2", "--steps", "20000")


@pytest.fixture(scope="module")
def federation(tiny_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """North has two of the machine's three GPUs, east none."""
    folder = tmp_path_factory.mktemp("gpus")
    with pytest.MonkeyPatch.context() as patch:
        stand_in_gpus.install(folder / "bin", patch, number=3, gib=16)
        config = PocConfig(
            out=folder / "poc",
            datasets={"tiny": tiny_cohort},
            sites=("north", "east"),
            port=free_port(),
            torch_threads=1,
            gpus={"north": (1, 2)},
        )
        with running_federation(config) as running:
            yield running
    assert processes_of(folder) == []


class Jobs:
    """Jobs without end, which are aborted when the test is over."""

    def __init__(self, federation: Federation, folder: Path) -> None:
        self._federation = federation
        self._folder = folder
        self._submitted: list[str] = []

    def submit(self, *options: str) -> str:
        number = len(self._submitted)
        folder = self._folder / str(number) / "fedavg"
        job = export(folder, *ENDLESS, "--set", f"seed={number}", *options)
        self._submitted.append(self._federation.user(LEAD).submit(job))
        return self._submitted[-1]

    def abort(self, *job_ids: str) -> None:
        environment = self._federation.participants.environment
        screen = self._folder / "screen.txt"
        with AdminConsole(self._federation.kits / LEAD, screen, environment) as console:
            for job_id in job_ids:
                console.type(f"abort_job {job_id}")
        wait_for(lambda: not any(self._processes(job_id) for job_id in job_ids), 60)

    def abort_all(self) -> None:
        self.abort(*self._submitted)

    def _processes(self, job_id: str) -> list[object]:
        kits = [self._federation.kits / site for site in ("north", "east")]
        return [process for kit in kits for process in processes_of_job(kit, job_id)]


@pytest.fixture
def jobs(federation: Federation, tmp_path: Path) -> Iterator[Jobs]:
    """No job outlives its test."""
    started = Jobs(federation, tmp_path)
    yield started
    started.abort_all()


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
    federation: Federation, jobs: Jobs
) -> None:
    one = jobs.submit("--gpus", "north=1")
    assert (devices(federation, "north", one), devices(federation, "east", one)) == ("1", "")
    two = jobs.submit("--gpus", "north=1", "--gpu-memory", "8")
    assert devices(federation, "north", two) == "2"
    three = jobs.submit("--gpus", "north=1")
    wait_for(lambda: "waiting for 1 GPU(s): 0 of 2 are free" in status(federation, three), 60)
    assert status(federation, three).startswith("SUBMITTED")
    jobs.abort(one)
    assert devices(federation, "north", three) == "1"


def test_a_job_without_a_claim_computes_on_the_cpu_of_a_site_with_gpus(
    federation: Federation, jobs: Jobs
) -> None:
    claiming = jobs.submit("--gpus", "north=2")
    assert devices(federation, "north", claiming) == "1,2"
    assert devices(federation, "north", jobs.submit()) == ""
