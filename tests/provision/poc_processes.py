"""Processes and people of a federation on this machine, as its tests see them."""

from __future__ import annotations

import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from simulator_runs import EXPERIMENT

from provision.poc.federation import Federation, wait_until_registered

LEAD = "lead@north.example.org"
MEMBER = "member@south.example.org"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def poc_command(out: Path, data: Path) -> list[str]:
    """``python -m provision poc`` for the tiny federation."""
    command = [sys.executable, "-m", "provision", "poc", "--experiment", str(EXPERIMENT)]
    command += ["--dataset", f"tiny={data}", "--out", str(out), "--port", str(free_port())]
    return [*command, "--torch-threads", "1"]


def wait_for(condition: Callable[[], object], seconds: float) -> float:
    """Wait until the condition holds; returns the seconds it took."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() < started + seconds
        time.sleep(0.2)
    return time.monotonic() - started


def processes_of(folder: Path) -> list[psutil.Process]:
    """Living processes whose command line names the folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(folder) in " ".join(process.cmdline()):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def processes_of_job(kit: Path, job_id: str) -> list[psutil.Process]:
    """A participant's processes of one job."""
    return [process for process in processes_of(kit) if job_id in " ".join(process.cmdline())]


def crash(kit: Path) -> None:
    """What a power cut does to a participant: all its processes end at once."""
    for process in processes_of(kit):
        process.send_signal(signal.SIGKILL)
    wait_for(lambda: not processes_of(kit), 20)


def start_again(federation: Federation, name: str) -> None:
    """Start a participant that has ended, and wait until all are connected."""
    console = federation.kits / name / "console.txt"
    console.rename(console.with_suffix(f".{time.monotonic_ns()}.txt"))
    federation.participants.start(name)
    if name != "server":
        wait_until_registered(federation.participants, federation.kits, [name])


def server_log(federation: Federation, job_id: str) -> str:
    """What the server's process of a job has logged so far."""
    path = federation.kits / "server" / job_id / "log.txt"
    return path.read_text(errors="replace") if path.is_file() else ""


def round_started(federation: Federation, job_id: str, number: int) -> str:
    """Wait until sites train in a round; returns the job's id."""
    wait_for(lambda: f"Round {number} started" in server_log(federation, job_id), 120)
    return job_id


def devices(federation: Federation, site: str, job_id: str) -> str:
    """CUDA_VISIBLE_DEVICES of a site's process of a job."""
    kit = federation.kits / site
    # The scheduler looks less and less often after a job that waits, at last every 300 seconds.
    wait_for(lambda: processes_of_job(kit, job_id), 330)
    (found,) = {p.environ()["CUDA_VISIBLE_DEVICES"] for p in processes_of_job(kit, job_id)}
    return str(found)


def audited(federation: Federation, who: str, text: str) -> list[str]:
    """Lines of a participant's audit trail that hold a text."""
    trail = (federation.kits / who / "audit.log").read_text().splitlines()
    return [line for line in trail if text in line]
