from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from app_custom.checkpoints.run_lock import RunLock
from fedi2i.errors import UserError

HOLDER = """
import sys, time, pathlib
from app_custom.checkpoints.run_lock import RunLock
lock = RunLock(pathlib.Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def test_a_second_process_is_refused_until_the_first_has_ended_even_by_force(
    tmp_path: Path,
) -> None:
    path = tmp_path / "server" / "fedavg-1.lock"
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="same name, sites and settings is running"):
            RunLock(path)
        holder.kill()
        holder.wait()
    RunLock(path).release()


def test_a_released_run_and_another_run_are_free(tmp_path: Path) -> None:
    first = RunLock(tmp_path / "a.lock")
    RunLock(tmp_path / "b.lock").release()
    first.release()
    RunLock(tmp_path / "a.lock").release()
