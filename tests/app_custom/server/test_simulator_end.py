"""What a run does in the simulator when its command or its sites are gone."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import FLContextKey
from nvflare.apis.fl_context import FLContext, FLContextManager
from nvflare_fakes import JOB, Engine, server_runner

from app_custom.server.global_metrics import GlobalMetrics
from app_custom.server.simulator import NOBODY_LEFT
from app_custom.server.site_watch import SiteWatch

COMMAND = """
import multiprocessing, subprocess, sys, time
from pathlib import Path
from types import SimpleNamespace
from app_custom.server.simulator import end_with_command

def serve():
    end_with_command(Path(sys.argv[1]))
    site = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    print(multiprocessing.current_process().pid, site.pid, flush=True)
    time.sleep(600)

manager = multiprocessing.Manager()
print(manager._process.pid, flush=True)
multiprocessing.Process(target=serve).start()
time.sleep(600)
"""
"""As NVFlare starts it: a manager of shared values, the server beside it, a site below."""


@pytest.fixture
def simulation(tmp_path: Path) -> Iterator[tuple[psutil.Process, list[psutil.Process]]]:
    """The command, and its manager, server and site. What it says stands in ``said.txt``."""
    (tmp_path / "command.py").write_text(COMMAND)
    (tmp_path / "config").mkdir()
    program = [sys.executable, str(tmp_path / "command.py"), str(tmp_path / "config")]
    with (tmp_path / "said.txt").open("w") as said:
        command = psutil.Popen(program, stdout=subprocess.PIPE, stderr=said, text=True)
    numbers = [int(n) for line in range(2) for n in command.stdout.readline().split()]
    below = [psutil.Process(number) for number in numbers]
    assert len(below) == 3
    yield command, below
    for process in (command, *below):
        with suppress(psutil.NoSuchProcess):
            process.kill()
    command.stdout.close()
    command.wait()


def test_when_the_command_is_killed_server_and_sites_end_at_once(
    simulation: tuple[psutil.Process, list[psutil.Process]], tmp_path: Path
) -> None:
    command, below = simulation
    command.kill()
    command.wait()
    _, left = psutil.wait_procs(below, timeout=10)
    assert left == []
    assert "give the same command again" in (tmp_path / "said.txt").read_text()


def has_ended(process: psutil.Process) -> bool:
    """Whether it has, also if nobody has asked for its exit code yet."""
    with suppress(psutil.NoSuchProcess):
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    return True


def test_when_another_simulator_empties_the_workspace_the_run_ends_at_once(
    simulation: tuple[psutil.Process, list[psutil.Process]], tmp_path: Path
) -> None:
    _, (manager, server, site) = simulation
    (tmp_path / "config").rmdir()
    (tmp_path / "config").mkdir()
    until = time.monotonic() + 10
    while not (has_ended(server) and has_ended(site)):
        assert time.monotonic() < until
        time.sleep(0.1)
    assert manager.is_running()  # the command asks it for the exit code
    assert "has emptied it, so this run ends here" in (tmp_path / "said.txt").read_text()


def context(engine: Engine, job: str, aborted: bool) -> FLContext:
    ctx = FLContextManager(engine, "server", job).new_context()
    ctx.set_prop(FLContextKey.RUNNER, server_runner(aborted=aborted), private=True, sticky=True)
    return ctx


@pytest.mark.parametrize(
    ("job", "aborted", "fails"),
    [("simulate_job", True, True), ("simulate_job", False, False), (JOB, True, False)],
)
def test_a_run_that_the_simulator_breaks_off_fails(job: str, aborted: bool, fails: bool) -> None:
    """Its exit code would be 0. On provisioned sites somebody has typed ``abort_job``."""
    engine = Engine()
    SiteWatch().handle_event(EventType.ABOUT_TO_END_RUN, context(engine, job, aborted))
    assert engine.panics() == ([NOBODY_LEFT] if fails else [])


def test_the_sites_that_are_gone_are_the_reason_that_is_told(tmp_path: Path) -> None:
    """``GlobalMetrics`` hears of the end first, and fails every other run that was aborted."""
    engine = Engine(tmp_path)
    engine.components["aggregator"] = SimpleNamespace(diagnostics=[])
    ctx = context(engine, "simulate_job", aborted=True)
    for part in (GlobalMetrics(), SiteWatch()):
        part.handle_event(EventType.ABOUT_TO_END_RUN, ctx)
    assert engine.panics() == [NOBODY_LEFT]


def test_a_run_that_has_failed_before_keeps_its_reason() -> None:
    engine = Engine()
    ctx = context(engine, "simulate_job", aborted=True)
    ctx.set_prop(FLContextKey.FATAL_SYSTEM_ERROR, True, private=True, sticky=True)
    SiteWatch().handle_event(EventType.ABOUT_TO_END_RUN, ctx)
    assert engine.panics() == []
