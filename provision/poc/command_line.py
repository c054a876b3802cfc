"""``nvflare job ...`` for one user: submit, wait, download, and why a job was refused."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from app_custom.ended_jobs import REASON
from fedi2i.errors import UserError
from provision.provisioning import nvflare_program

COMPLETED = "FINISHED:COMPLETED"


class JobError(UserError):
    """A job that was refused or did not complete, in NVFlare's words."""


class JobCommands:
    """NVFlare's command line with one user's startup kit.

    Args:
        kit: the user's kit.
        environment: environment of the commands.
    """

    def __init__(self, kit: Path, environment: dict[str, str]) -> None:
        self._kit = kit
        self._environment = environment

    def submit(self, job: Path) -> str:
        """``nvflare job submit``; returns the job's id.

        Raises:
            JobError: the server refused it.
        """
        return str(self._run("submit", "-j", str(job))["job_id"])

    def waiting(self, job_id: str, seconds: int) -> subprocess.Popen[str]:
        """Start ``nvflare job wait``, which ends with the job."""
        return self._start("wait", job_id, "--interval", "1", "--timeout", str(seconds))

    def meta(self, job_id: str) -> dict[str, Any]:
        """``nvflare job meta``: what the server knows of a job."""
        return self._run("meta", job_id)

    def status(self, job_id: str) -> str:
        """The job's status, e.g. ``FINISHED:COMPLETED``."""
        return str(self.meta(job_id).get("status", ""))

    def download(self, job_id: str, out: Path) -> Path:
        """``nvflare job download``; returns the folder of the server's run."""
        path = self._run("download", job_id, "-o", str(out), "--force")["download_path"]
        return Path(path) / "workspace"

    def check_completed(self, job_id: str) -> None:
        """Refuse a job that did not complete.

        Raises:
            JobError: its status, and what each participant said where that is known.
        """
        meta = self.meta(job_id)
        status = str(meta.get("status", "unknown"))
        if status != COMPLETED:
            ended = str(meta.get(REASON) or "see error_log.txt of the server")
            said = "; ".join(meta.get("job_deploy_detail") or [ended])
            raise JobError(f"job {job_id} ended as {status}: {said}")

    def _run(self, *arguments: str) -> dict[str, Any]:
        with self._start(*arguments) as process:
            output, _ = process.communicate()
        answer = _answer(output)
        if answer.get("status") != "ok":
            raise JobError(f"nvflare job {arguments[0]}: {answer.get('message', output.strip())}")
        data: dict[str, Any] = answer["data"]
        return data

    def _start(self, *arguments: str) -> subprocess.Popen[str]:
        command = [nvflare_program(), "--format", "json", "--connect-timeout", "30", "job"]
        return subprocess.Popen(
            [*command, *arguments, "--startup-kit", str(self._kit)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=self._environment,
        )


def _answer(output: str) -> dict[str, Any]:
    """The JSON line among what a command printed."""
    for line in reversed(output.splitlines()):
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict):
            return found
    return {}
