"""The one federation, and the jobs that tests of several files look at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import stand_in_gpus
from federation_jobs import (
    HEARTBEAT_SECONDS,
    PARTICIPANTS,
    ROUND_SECONDS,
    ROUNDS,
    TWO_SITES,
    add_island,
    claiming,
    island_s_ledger,
    stop_at_east,
)
from lead_console import Lead
from planted_patients import LOST, plant
from poc_processes import (
    crash,
    free_port,
    processes_of,
    processes_of_job,
    round_started,
    start_again,
    wait_for,
)
from simulator_runs import export

from provision.poc.command_line import COMPLETED
from provision.poc.federation import Federation, running_federation
from provision.poc.kits import PocConfig
from provision.poc.run import submit_by_command_line


@pytest.fixture(scope="package")
def config(tmp_path_factory: pytest.TempPathFactory) -> PocConfig:
    """North has two of the machine's three GPUs, east none; patients have names and numbers."""
    return PocConfig(
        out=tmp_path_factory.mktemp("federation") / "poc",
        datasets=plant(tmp_path_factory.mktemp("hospitals")),
        sites=("north", "east"),
        port=free_port(),
        torch_threads=1,
        gpus={"north": (1, 2)},
        heartbeat_timeout=HEARTBEAT_SECONDS,
    )


@pytest.fixture(scope="package")
def federation(config: PocConfig) -> Iterator[Federation]:
    """Server, north and east, running."""
    with pytest.MonkeyPatch.context() as patch:
        stand_in_gpus.install(config.out.parent / "bin", patch, number=3, gib=16)
        with running_federation(config) as running:
            yield running
    assert processes_of(config.out) == []


@pytest.fixture(scope="package")
def lead(federation: Federation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lead]:
    """The lead's console, open until the server is killed."""
    with Lead(federation, tmp_path_factory.mktemp("lead") / "screen.txt") as console:
        yield console


@pytest.fixture
def small_job(tmp_path: Path) -> Path:
    return export(tmp_path / "fedavg", *TWO_SITES, "--rounds", "1", "--steps", "2")


@pytest.fixture(scope="package")
def lost_scans(lead: Lead, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A job on a data set of which one site has lost its scans; it has ended."""
    sizes = ("--rounds", "1", "--steps", "2", "--dataset", LOST)
    folder = tmp_path_factory.mktemp("lost") / "fedavg"
    job_id = lead.submit(export(folder, *TWO_SITES, *sizes))
    assert lead.wait_for_end(job_id) != COMPLETED
    return job_id


@pytest.fixture(scope="package")
def diminished(
    federation: Federation, config: PocConfig, lead: Lead, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """A job that has lost two of three sites: east is back at once, island stays away."""
    add_island(federation, config)
    sizes = ("--rounds", "2", "--steps", "60", "--min-sites", "1")
    folder = tmp_path_factory.mktemp("diminished") / "fedavg"
    job_id = lead.submit(export(folder, "--sites", "north,east,island", *sizes))
    round_started(federation, job_id, 0)
    crash(federation.kits / "east")
    start_again(federation, "east")
    round_started(federation, job_id, 1)
    wait_for(lambda: len(island_s_ledger(federation)) == 3, 60)
    crash(federation.kits / "island")
    return job_id


@pytest.fixture(scope="package")
def stalled(federation: Federation, lead: Lead, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A job on one of north's GPUs; it waits for east."""
    job_id = lead.submit(claiming(tmp_path_factory.mktemp("stalled"), 1))
    stop_at_east(federation, job_id)
    return job_id


@pytest.fixture(scope="package")
def waiting(lead: Lead, stalled: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A job that asks for both GPUs of north while one is taken."""
    timeout = ("--round-timeout", str(ROUND_SECONDS))
    return lead.submit(claiming(tmp_path_factory.mktemp("waiting"), 2, *timeout))


@pytest.fixture(scope="package")
def aborted(federation: Federation, lead: Lead, stalled: str, waiting: str) -> str:
    """The job that stood still, aborted from the console; now the one that waited can start."""
    assert all(processes_of_job(federation.kits / name, stalled) for name in PARTICIPANTS)
    lead.type(f"abort_job {stalled}")
    return stalled


@pytest.fixture(scope="package")
def unanswered(federation: Federation, lead: Lead, aborted: str, waiting: str) -> str:
    """The job that waited: now it runs, and east does not answer."""
    stop_at_east(federation, waiting)
    return waiting


@pytest.fixture(scope="package")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """FedAvgM, as the server keeps its momentum from round to round."""
    folder = tmp_path_factory.mktemp("jobs") / "fedavgm"
    sizes = ("--rounds", str(ROUNDS), "--steps", "60")
    return export(folder, *TWO_SITES, *sizes, strategy="fedavgm")


@pytest.fixture(scope="package")
def undisturbed(
    federation: Federation, job: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The server's folder of a run in which nothing happened, as ``make poc`` submits it."""
    return submit_by_command_line(federation, job, tmp_path_factory.mktemp("undisturbed"))
