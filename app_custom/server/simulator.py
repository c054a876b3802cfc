"""What a run does in the simulator alone: it ends with its command, and fails with its sites.

NVFlare 2.9 runs the simulator's server in a child of the command that one sees. When the command is
killed, the child would go on: the same command, given again at once, empties the workspace below it
and meets its lock, and both runs are lost. The simulator also ends with exit code 0 when its sites'
processes are gone, whatever is left to do.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from contextlib import suppress
from multiprocessing.connection import wait
from pathlib import Path

import psutil
from nvflare.apis.fl_constant import FLContextKey
from nvflare.apis.fl_context import FLContext
from nvflare.private.fed.simulator.simulator_const import SimulatorConstants

_LOOK_EVERY_SECONDS = 0.5
_GONE = (
    "the simulator's command is gone (killed?), so its run ends here; give the same command again: "
    "it goes on after the last finished round"
)
_EMPTIED = (
    "another simulator was started in this workspace and has emptied it, so this run ends here; "
    "the other one goes on after the last finished round. Give each run a workspace of its own"
)
NOBODY_LEFT = (
    "the processes of all sites have ended, or could not start, before the run was over; the lines "
    "above and each site's log say why. Give the same command again when that is mended"
)


def in_simulator(fl_ctx: FLContext) -> bool:
    """Whether the job runs in the simulator, which calls every job the same."""
    return bool(fl_ctx.get_job_id() == SimulatorConstants.JOB_NAME)


def nobody_left(fl_ctx: FLContext) -> bool:
    """Whether the simulator ends the run early although no fault was reported.

    Nobody can abort a job in the simulator. It does so itself when no site's process is left.
    """
    runner = fl_ctx.get_prop(FLContextKey.RUNNER)
    failed = fl_ctx.get_prop(FLContextKey.FATAL_SYSTEM_ERROR, False)
    return in_simulator(fl_ctx) and bool(runner.abort_signal.triggered) and not failed


def end_with_command(deployed: Path) -> None:
    """End this process when the simulator's command is gone, or another has taken its workspace.

    It ends as if the machine had stopped, and its sites' processes with it: every file that a new
    start needs is whole at any time, and nothing is written any more where another run may be.

    Args:
        deployed: the folder of the job's configuration in the workspace, which no run changes.
    """
    command = multiprocessing.parent_process()
    if command is not None and command.pid is not None:
        others = _forks_of(command.pid)
        thread = threading.Thread(
            target=_watch, args=(command.sentinel, others, deployed), daemon=True
        )
        thread.start()


def _watch(command: int, others: list[psutil.Process], deployed: Path) -> None:
    own = _made(deployed)
    while not wait([command], timeout=_LOOK_EVERY_SECONDS):
        if _made(deployed) != own:
            _end(_EMPTIED, [])
    _end(_GONE, others)


def _end(said: str, others: list[psutil.Process]) -> None:
    with suppress(OSError, ValueError):  # nobody reads what is printed any more
        print(said, file=sys.stderr, flush=True)
    for process in (*others, *psutil.Process().children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            process.kill()
    os.kill(os.getpid(), signal.SIGKILL)


def _made(folder: Path) -> int | None:
    """When a folder was made, as far as one can tell; None where there is none."""
    try:
        return folder.stat().st_ctime_ns
    except OSError:
        return None


def _forks_of(pid: int) -> list[psutil.Process]:
    """The command's other children of the same command line: its manager of shared values."""
    with suppress(psutil.NoSuchProcess):
        command = psutil.Process(pid)
        return [
            child
            for child in command.children()
            if child.pid != os.getpid() and child.cmdline() == command.cmdline()
        ]
    return []
