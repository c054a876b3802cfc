"""The lead at an admin console that stays open: every new program would import NVFlare first."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any

from poc_processes import LEAD, wait_for

from provision.poc.console import AdminConsole
from provision.poc.federation import Federation


class Lead:
    """Submits jobs, asks for them, aborts and downloads them.

    Args:
        federation: it runs.
        transcript: the file for the console's screen.
    """

    def __init__(self, federation: Federation, transcript: Path) -> None:
        self._kit = federation.kits / LEAD
        self._environment = federation.participants.environment
        self._transcript = transcript

    def __enter__(self) -> Lead:
        self._console = AdminConsole(self._kit, self._transcript, self._environment).__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._console.__exit__(kind, error, trace)

    def type(self, command: str) -> str:
        """What the console shows after a command."""
        return self._console.type(command)

    def submit(self, job: Path) -> str:
        """The id of the submitted job."""
        return self._console.submit_job(job)

    def meta(self, job_id: str) -> dict[str, Any]:
        """What the server knows of a job."""
        shown = self.type(f"get_job_meta {job_id}")
        meta: dict[str, Any] = json.loads(shown[shown.index("{") : shown.rindex("}") + 1])
        return meta

    def status(self, job_id: str) -> str:
        """The job's status, e.g. ``RUNNING``."""
        return str(self.meta(job_id)["status"])

    def wait_for_end(self, job_id: str, seconds: float = 200) -> str:
        """Wait until a job has ended; returns its status."""
        wait_for(lambda: self.status(job_id).startswith("FINISHED"), seconds)
        return self.status(job_id)

    def download(self, job_id: str) -> Path:
        """The server's folder of a job that has ended."""
        self.type(f"download_job {job_id}")
        return self._kit / "transfer" / job_id / "workspace"
