"""The proof of concept from start to end: submit twice, follow, download, show, stop."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from types import FrameType

from fedi2i.errors import DataError
from fedi2i.metric_files import FILE_NAME, read_metrics
from fedi2i.site_names import ALL_SITES
from jobs.writing.export import export_job
from jobs.writing.federation import FederatedExperiment
from provision.poc.console import AdminConsole
from provision.poc.federation import SERVER, Federation, running_federation
from provision.poc.kits import PocConfig

LEAD = "lead@north.example.org"
"""Who submits the jobs of a proof of concept."""

_JOB = "fedavg"
_JOB_SECONDS = 3600
_FOLLOWED = ("global model after", "ERROR", "refused")
_TRANSCRIPT = "console.txt"
_SHOWN = ("val/psnr", "val/ssim")


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
    _say("each site's fedi2i.yaml has the limits of a simulation: a job may ask for one patient")
    with running_federation(config) as federation:
        _say(f"connected over TLS at localhost:{config.port} ({_since(started)})")
        folder = export_job(_JOB, job, config.out / "jobs" / _JOB)
        _show(submit_by_command_line(federation, folder, config.out / "results"))
        _show(submit_by_console(federation, folder, config.out / _TRANSCRIPT))
        _say("stopping all")
    left = federation.participants.processes()
    _say(f"stopped; processes left: {len(left)} ({_since(started)})")


def submit_by_command_line(federation: Federation, job: Path, results: Path) -> Path:
    """Submit with ``nvflare job``, follow and download; returns the folder of the server's run.

    Args:
        federation: it runs.
        job: the job's folder.
        results: the folder for the download.

    Raises:
        JobError: the job was refused or did not complete.
    """
    user = federation.user(LEAD)
    _say(f"$ nvflare job submit -j {job} --startup-kit {federation.kits / LEAD}")
    job_id = user.submit(job)
    _say(f"$ nvflare job wait {job_id}")
    follow(federation, job_id)
    _say(f"$ nvflare job download {job_id}")
    return user.download(job_id, results)


def submit_by_console(federation: Federation, job: Path, transcript: Path) -> Path:
    """Submit in the admin console, follow and download; returns the folder of the server's run.

    Args:
        federation: it runs.
        job: the job's folder.
        transcript: the file for the console's screen.

    Raises:
        ConsoleError: the console refused the job, or did not come back.
        JobError: the job did not complete.
    """
    _say(f"the same in the admin console; its screen: {transcript}")
    kit = federation.kits / LEAD
    with AdminConsole(kit, transcript, federation.participants.environment) as console:
        console.type("check_status server")
        _say(f"> submit_job {job}")
        job_id = console.submit_job(job)
        follow(federation, job_id)
        console.type(f"list_jobs {job_id}")
        _say(f"> download_job {job_id}")
        console.type(f"download_job {job_id}", seconds=300)
    return kit / "transfer" / job_id / "workspace"


def follow(federation: Federation, job_id: str) -> None:
    """Print the rounds of a job until it ends.

    Raises:
        JobError: it did not complete.
    """
    user = federation.user(LEAD)
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


def metrics_table(run_folder: Path) -> str:
    """A row per round of the global model, a column per site: PSNR in dB, then SSIM.

    Raises:
        DataError: the result holds no metrics.
    """
    values = metric_values(run_folder)
    rounds = sorted({number for _, number, metric in values if metric in _SHOWN})
    sites = sorted({site for site, _, metric in values if metric in _SHOWN and site != ALL_SITES})
    lines = ["global model after   " + "".join(f"{name:>16}" for name in [*sites, "mean"])]
    for number in rounds:
        cells = [_cell(values, site, number) for site in [*sites, ALL_SITES]]
        lines.append(f"{number} round(s)".ljust(21) + "".join(f"{cell:>16}" for cell in cells))
    return "\n".join(lines)


def metric_values(run_folder: Path) -> dict[tuple[str, int, str], float]:
    """The server's record: (site, round, metric) to value.

    Raises:
        DataError: the result holds no metrics.
    """
    path = run_folder / FILE_NAME
    if not path.is_file():
        raise DataError(f"{path}: missing; the job ended before its first validation")
    rows = read_metrics(path)
    return {(site, number, metric): value for site, number, metric, value in rows}


def _show(run_folder: Path) -> None:
    _say(f"result in {run_folder}; validation PSNR in dB / SSIM:")
    print(metrics_table(run_folder), flush=True)


def _cell(values: dict[tuple[str, int, str], float], site: str, number: int) -> str:
    psnr, ssim = (values.get((site, number, metric)) for metric in _SHOWN)
    return "-" if psnr is None or ssim is None else f"{psnr:.2f} / {ssim:.3f}"


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _since(started: float) -> str:
    return f"{time.monotonic() - started:.0f} s"


def _say(text: str) -> None:
    print(f"[poc] {text}", flush=True)
