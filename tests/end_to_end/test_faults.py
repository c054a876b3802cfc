"""Sites that die or fail in the middle of a run."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from simulator_runs import (
    SimulatorRun,
    assert_same,
    export,
    prepared_workspace,
    simulate,
    simulator,
)

pytestmark = pytest.mark.slow


def simulate_and_kill(
    job: Path, workspace: Path, site: str, during_round: int, *options: str
) -> SimulatorRun:
    """Run the job and ``kill -9`` the process of one site while it works on a round."""
    lines: list[str] = []
    with simulator(job, workspace, *options) as process:
        guard = threading.Timer(400, os.killpg, (process.pid, signal.SIGKILL))
        guard.start()
        for line in process.stdout or ():
            lines.append(line)
            if f"Round {during_round} started" in line:
                threading.Thread(target=kill_site, args=(process.pid, site)).start()
        process.wait()
        guard.cancel()
    return SimulatorRun(workspace, process.returncode, "".join(lines))


def kill_site(simulator_pid: int, site: str) -> None:
    """Wait for the site's process and kill it a little later, in the middle of its work."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        for process in psutil.Process(simulator_pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):  # it ended on its own: wait for the next one
                command = process.cmdline()
                if "--client" in command and command[command.index("--client") + 1] == site:
                    time.sleep(0.5)
                    process.kill()
                    return
        time.sleep(0.2)


@pytest.fixture(scope="module")
def workspace(new_workspace: Callable[[str], Path]) -> Path:
    """One workspace for a run that is broken off twice."""
    return new_workspace("faults")


@pytest.fixture(scope="module")
def with_a_killed_site(tiny_job: Path, workspace: Path) -> SimulatorRun:
    """The run is broken off for the first time: one site dies in the second round of three."""
    return simulate_and_kill(tiny_job, workspace, "east", 1, "-t", "2")


@pytest.fixture(scope="module")
def killed_as_a_whole(
    with_a_killed_site: SimulatorRun, tiny_job: Path, workspace: Path
) -> SimulatorRun:
    """The same job again, broken off for the second time: its command is killed in the third."""
    lines: list[str] = []
    with simulator(tiny_job, workspace, "-t", "2") as process:
        for line in process.stdout or ():
            lines.append(line)
            if "Round 2 started" in line:
                break
        process.kill()  # no more than what one sees; the next test starts the same again at once
    return SimulatorRun(workspace, process.returncode, "".join(lines))


def test_a_killed_site_ends_the_job_and_is_named(with_a_killed_site: SimulatorRun) -> None:
    assert with_a_killed_site.exit_code != 0
    assert "site 'east' is lost" in with_a_killed_site.output
    said = "the run ended after 1 of 3 rounds; start the same job again"
    assert said in with_a_killed_site.output


def test_a_rerun_after_a_killed_site_continues_with_the_unfinished_round(
    killed_as_a_whole: SimulatorRun,
) -> None:
    assert killed_as_a_whole.exit_code == -signal.SIGKILL
    continued = "continuing an interrupted run after 1 of 3 finished rounds"
    assert continued in killed_as_a_whole.output
    assert "Round 0 started" not in killed_as_a_whole.output


def test_a_run_that_was_broken_off_twice_ends_with_the_same_weights_also_with_one_thread(
    killed_as_a_whole: SimulatorRun, finished_run: SimulatorRun, tiny_job: Path, workspace: Path
) -> None:
    """The command is the literal one: without ``-t`` every task starts its site's process anew."""
    continued = simulate(tiny_job, workspace)
    assert continued.exit_code == 0, continued.output[-3000:]
    assert "continuing an interrupted run after 2 of 3 finished rounds" in continued.output
    assert "Round 1 started" not in continued.output
    assert_same(continued.weights, finished_run.weights)


def test_nothing_is_left_of_a_simulator_whose_command_was_killed(
    killed_as_a_whole: SimulatorRun, finished_run: SimulatorRun, workspace: Path
) -> None:
    left = [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if str(workspace) in " ".join(process.info["cmdline"] or [])
    ]
    assert left == []


@pytest.mark.nightly
def test_a_simulator_none_of_whose_sites_can_start_fails_with_a_sentence(
    tiny_job: Path,
    new_workspace: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Faster: ``tests/app_custom/server/test_simulator_end.py``, a run that is broken off."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "if any('simulator_worker' in part for part in sys.orig_argv):\n"
        "    raise SystemExit('this machine has no memory left')\n"
    )
    before = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), before]))
    run = simulate(tiny_job, new_workspace("no_site"), "-t", "2")
    assert run.exit_code == 2, run.output[-3000:]
    assert "the processes of all sites have ended, or could not start" in run.output
    assert "this machine has no memory left" in run.output


@pytest.mark.nightly
def test_a_strategy_with_state_at_server_and_sites_continues_to_the_same_weights(
    tmp_path: Path, tiny_cohort: Path
) -> None:
    """Faster: tests/strategies/test_server_restart.py, for every strategy in one process."""
    options = ("--rounds", "3", "--steps", "60", "--set", "training.optimizer_state=keep")
    job = export(tmp_path / "scaffold", *options, strategy="scaffold")
    whole = simulate(job, prepared_workspace(tmp_path / "whole" / "ws", tiny_cohort), "-t", "4")
    workspace = prepared_workspace(tmp_path / "broken" / "ws", tiny_cohort)
    broken = simulate_and_kill(job, workspace, "south", 2, "-t", "4")
    assert broken.exit_code != 0
    continued = simulate(job, workspace, "-t", "1")
    assert continued.exit_code == 0, continued.output[-3000:]
    assert "continuing an interrupted run after 2 of 3 finished rounds" in continued.output, (
        broken.output[-3000:]
    )
    assert_same(continued.weights, whole.weights)


@pytest.mark.nightly
def test_with_one_thread_a_killed_site_ends_the_job_and_loses_no_finished_round(
    finished_run: SimulatorRun, tiny_job: Path, new_workspace: Callable[[str], Path]
) -> None:
    """Faster: the run above that is broken off twice, with two threads and then with one."""
    workspace = new_workspace("killed_one_thread")
    broken = simulate_and_kill(tiny_job, workspace, "south", 1, "-t", "1")
    assert "the run ended after 1 of 3 rounds" in broken.output
    continued = simulate(tiny_job, workspace, "-t", "2")
    assert "continuing an interrupted run after 1 of 3 finished rounds" in continued.output
    assert_same(continued.weights, finished_run.weights)


@pytest.mark.nightly
def test_with_enough_sites_left_the_rounds_complete_and_the_missing_site_is_named(
    tmp_path: Path, tiny_cohort: Path
) -> None:
    """Faster: test_site_watch.py (NVFlare's workflow is told of a lost site) and
    test_aggregator.py (with the needed sites the round is made, the missing one named).
    """
    job = export(tmp_path / "job", "--rounds", "2", "--steps", "150", "--min-sites", "3")
    workspace = prepared_workspace(tmp_path / "ws", tiny_cohort)
    run = simulate_and_kill(job, workspace, "east", 1, "-t", "4")
    assert run.exit_code == 0, run.output[-3000:]
    assert "round 1: no usable update from east" in run.output
    assert "Round 1 finished" in run.output
    assert "run complete" in run.output


@pytest.mark.nightly
def test_a_site_without_data_ends_the_job_with_the_reason(
    tmp_path: Path, tiny_cohort: Path, tiny_job: Path
) -> None:
    """Faster: test_site_without_data.py and, for the server, test_site_watch.py."""
    data = tmp_path / "data"
    shutil.copytree(tiny_cohort, data)
    shutil.rmtree(data / "south")
    run = simulate(tiny_job, prepared_workspace(tmp_path / "ws", data), "-t", "2")
    assert run.exit_code != 0
    assert f"{data / 'south'}: no such data folder" in run.output
    assert "site 'south' could not do its task 'train'" in run.output


@pytest.mark.nightly
def test_another_sites_data_in_a_sites_folder_is_refused(
    tmp_path: Path, tiny_cohort: Path, tiny_job: Path
) -> None:
    """Faster: test_site_without_data.py."""
    data = tmp_path / "data"
    shutil.copytree(tiny_cohort, data)
    shutil.rmtree(data / "south")
    shutil.copytree(data / "north", data / "south")
    run = simulate(tiny_job, prepared_workspace(tmp_path / "ws", data), "-t", "2")
    assert run.exit_code != 0
    assert "holds the data of site 'north', but this is site 'south'" in run.output
