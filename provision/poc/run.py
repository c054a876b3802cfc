"""The proof of concept from start to end: submit twice, follow, download, show, stop."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from types import FrameType

from jobs.writing.export import export_job
from jobs.writing.federation import FederatedExperiment
from provision.poc.command_line import JobCommands
from provision.poc.console import AdminConsole
from provision.poc.federation import SERVER, Federation, PocConfig, running_federation
from provision.poc.results import metrics_table

_LEAD = "lead@north.example.org"
_JOB = "fedavg"
_JOB_SECONDS = 3600
_FOLLOWED = ("global model after", "ERROR", "refused")
_TRANSCRIPT = "console.txt"


def run_poc(config: PocConfig, job: FederatedExperiment) -> None:
    """Run the whole proof of concept.

    Raises:
        UserError: what cannot be started, or a job that was refused or failed.
    """
    # All three stop the participants. A shell starts background jobs with Ctrl-C's signal ignored.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    started = time.monotonic()
    _say(f"making kits in {config.out} and starting server and {len(config.sites)} sites")
    with running_federation(config) as federation:
        _say(f"connected over TLS at localhost:{config.port} ({_since(started)})")
        folder = export_job(_JOB, job, config.out / "jobs" / _JOB)
        user = federation.user(_LEAD)
        _by_command_line(federation, user, folder, config.out)
        _by_console(federation, user, folder, config.out)
        _say("stopping all")
    left = federation.participants.processes()
    _say(f"stopped; processes left: {len(left)} ({_since(started)})")


def _by_command_line(federation: Federation, user: JobCommands, job: Path, out: Path) -> None:
    _say(f"$ nvflare job submit -j {job} --startup-kit {federation.kits / _LEAD}")
    job_id = user.submit(job)
    _say(f"$ nvflare job wait {job_id}")
    follow(federation, user, job_id)
    _say(f"$ nvflare job download {job_id}")
    _show(user.download(job_id, out / "results"))


def _by_console(federation: Federation, user: JobCommands, job: Path, out: Path) -> None:
    transcript = out / _TRANSCRIPT
    _say(f"the same in the admin console; its screen: {transcript}")
    with AdminConsole(
        federation.kits / _LEAD, transcript, federation.participants.environment
    ) as console:
        console.type("check_status server")
        _say(f"> submit_job {job}")
        job_id = console.submit_job(job)
        follow(federation, user, job_id)
        console.type(f"list_jobs {job_id}")
        _say(f"> download_job {job_id}")
        console.type(f"download_job {job_id}", seconds=300)
    _show(federation.kits / _LEAD / "transfer" / job_id / "workspace")


def follow(federation: Federation, user: JobCommands, job_id: str) -> None:
    """Print the rounds of a job until it ends.

    Raises:
        JobError: it did not complete.
    """
    log = federation.kits / SERVER / job_id / "log.txt"
    shown = 0
    with user.waiting(job_id, _JOB_SECONDS) as waiting:
        while True:
            ended = waiting.poll() is not None
            shown = _print_new(log, shown)
            if ended:
                break
            time.sleep(0.5)
    user.check_completed(job_id)


def _print_new(log: Path, shown: int) -> int:
    if not log.is_file():
        return shown
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    for line in lines[shown:]:
        if any(word in line for word in _FOLLOWED):
            _say("  " + line.split(" - ")[-1].split("]: ")[-1])
    return len(lines)


def _show(run_folder: Path) -> None:
    _say(f"result in {run_folder}; validation PSNR in dB / SSIM:")
    print(metrics_table(run_folder), flush=True)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _since(started: float) -> str:
    return f"{time.monotonic() - started:.0f} s"


def _say(text: str) -> None:
    print(f"[poc] {text}", flush=True)
