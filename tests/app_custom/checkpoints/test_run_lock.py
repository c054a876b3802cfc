from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from app_custom.checkpoints.checkpoint import lock_run
from fedi2i.errors import UserError

HOLDER = """
import sys, time, pathlib
from app_custom.checkpoints.checkpoint import lock_run
lock = lock_run(pathlib.Path(sys.argv[1]))
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
            lock_run(path)
        holder.kill()
        holder.wait()
    lock_run(path).release()


def test_a_released_run_and_another_run_are_free(tmp_path: Path) -> None:
    first = lock_run(tmp_path / "a.lock")
    lock_run(tmp_path / "b.lock").release()
    first.release()
    lock_run(tmp_path / "a.lock").release()


def test_a_run_that_one_thread_took_can_be_released_by_another(tmp_path: Path) -> None:
    """NVFlare starts and ends a run in different threads."""
    lock = lock_run(tmp_path / "a.lock")
    with pytest.raises(UserError):
        lock_run(tmp_path / "a.lock")
    thread = threading.Thread(target=lock.release)
    thread.start()
    thread.join()
    lock_run(tmp_path / "a.lock").release()
