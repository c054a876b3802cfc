"""A participant's release of FedI2I and its code are compared with the others' before training.

A site of another release would train with its own code and say nothing: averages of two programs
are the result of neither. Jobs carry the release that wrote them. Server and sites announce release
and code to each other in NVFlare's public context. That finds mistakes; a hostile participant can
announce what it likes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path

from nvflare.apis.fl_context import FLContext

from app_custom.gates.job_limits import JobLimits, JobRefusedError, Rule
from fedi2i import __version__

PACKAGES = ("app_custom", "fedi2i", "lightning_modules", "partitions")
"""All that a job can reach at a participant: every class that it names, and what those import."""

_ANNOUNCED = "fedi2i.release"
_UNSTATED = "of an unstated release"


@cache
def own_release() -> str:
    """The installed release and a digest of its code, such as ``0.3.0 (code 5f0c9a1b2d3e)``."""
    content = hashlib.sha256()
    for package in PACKAGES:
        root = Path(import_module(package).__file__ or "").parent
        for path in sorted(root.rglob("*.py")):
            content.update(f"{package}/{path.relative_to(root).as_posix()}\0".encode())
            # However a checkout ends its lines.
            content.update(path.read_bytes().replace(b"\r\n", b"\n"))
    return f"{__version__} (code {content.hexdigest()[:12]})"


def announce(fl_ctx: FLContext) -> None:
    """Let the participants of the running job know this one's release."""
    fl_ctx.set_prop(_ANNOUNCED, own_release(), private=False, sticky=True)


def announced_by_peer(fl_ctx: FLContext) -> str:
    """Return the release of the participant whose message is being handled; empty if unknown."""
    peer = fl_ctx.get_peer_context()
    return str(peer.get_prop(_ANNOUNCED, "")) if peer is not None else ""


@dataclass(frozen=True)
class Releases:
    """The releases of others that a site knows when it opens its session.

    Attributes:
        job: the release that wrote the job; empty where it does not say.
        server: what the server has announced; None before the first task.
    """

    job: str = ""
    server: str | None = None

    def check(self, limits: JobLimits) -> None:
        """Refuse a job of another release, and a server of another release or with other code.

        Args:
            limits: this participant's.

        Raises:
            JobRefusedError: there is a difference, and this participant does not take others.
        """
        if limits.other_release:
            return
        if self.job != __version__:
            raise JobRefusedError(
                Rule.OTHER_RELEASE,
                f"FedI2I {self.job or _UNSTATED} wrote the job, and here runs {__version__}; "
                "export it again with the release that all participants run",
            )
        if self.server is not None and self.server != own_release():
            raise JobRefusedError(
                Rule.OTHER_RELEASE,
                f"the server runs FedI2I {self.server or _UNSTATED}, and here runs "
                f"{own_release()}; install the same release at all participants",
            )
