"""The proof of concept as a command: it starts everything, submits twice, and stops everything.

Nightly. Faster tests of the same statements: ``one_federation`` submits in both ways on a
federation that runs already, and ``test_poc_parts.py`` stops the command while it starts.
"""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest
from poc_processes import LEAD, poc_command, processes_of, wait_for
from run_results import check_equal, check_learnt

pytestmark = [pytest.mark.nightly, pytest.mark.slow, pytest.mark.timeout(1800)]

SIZES = ("--rounds", "2", "--steps", "40")


def test_both_submissions_finish_learn_and_leave_nothing_running(
    tiny_cohort: Path, tmp_path: Path
) -> None:
    """Faster: ``one_federation``, the job from the command line and the run that goes on."""
    out = tmp_path / "poc"
    done = subprocess.run(
        [*poc_command(out, tiny_cohort), *SIZES], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "processes left: 0" in done.stdout
    assert processes_of(out) == []
    (by_command,) = (out / "results").iterdir()
    (by_console,) = next((out / "kits").rglob(LEAD)).joinpath("transfer").iterdir()
    assert by_command.name != by_console.name
    for result in (by_command, by_console):
        check_learnt(result / "workspace", rounds=2)
    check_equal(by_command / "workspace", by_console / "workspace")
    screen = (out / "console.txt").read_text()
    assert f"User Name: {LEAD}" in screen and "> submit_job " in screen
    assert f"Submitted job: {by_console.name}" in screen and "FINISHED:COMPLETED" in screen


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_it_in_the_middle_of_a_job_leaves_nothing_running(
    tiny_cohort: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """Faster: ``test_poc_parts.py``, stopping it while it starts."""
    out = tmp_path / "poc"
    with subprocess.Popen(
        [*poc_command(out, tiny_cohort), *SIZES],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as running:
        wait_for(lambda: list(out.glob("kits/*/prod_00/north/*-*-*-*-*")), 200)
        wait_for(lambda: len(processes_of(out)) > 8, 200)  # each job is a process of its own
        running.send_signal(number)
        output, _ = running.communicate(timeout=60)
    assert running.returncode == 130, output
    assert "stopped; nothing is left running" in output
    assert processes_of(out) == []
