"""Run one arm as a process of its own: log to a file, key lines to the console, skip if done."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from fedi2i.digest import digest
from fedi2i.errors import UserError
from fedi2i.files import write_text

FINISHED = "finished"
"""In the run folder; holds a record of every process that has finished."""


class ArmFailedError(UserError):
    """An arm's process did not produce what it should."""


@dataclass(frozen=True)
class ArmProcess:
    """One process.

    Attributes:
        name: the arm's name.
        command: program and arguments.
        log: file that receives everything the process prints.
        produces: file that exists when the process has done its work; an exit code of 0 does not
            prove it for NVFlare's simulator.
        key: changes whenever settings or data change.
        show: lines with one of these words go to the console.
    """

    name: str
    command: tuple[str, ...]
    log: Path
    produces: Path
    key: str
    show: tuple[str, ...]


def run_process(process: ArmProcess, records: Path) -> float:
    """Run the process unless it has finished before with the same key; returns its seconds.

    A second command, here or on another machine that shares the folder, waits for the first one's
    process and then finds it finished.

    Raises:
        ArmFailedError: it failed or did not write its result.
    """
    with _locked(process.name, records):
        seconds = finished_seconds(process, records)
        if seconds is not None:
            _say(process.name, f"unchanged since it finished ({seconds:.0f} s); not run again")
            return seconds
        return _run(process, records / f"{process.name}.json")


def finished_seconds(process: ArmProcess, records: Path) -> float | None:
    """What the process took when it finished with this very key; None where it has not."""
    try:
        content = json.loads((records / f"{process.name}.json").read_text(encoding="utf-8"))
        known, seconds = content["key"], float(content["seconds"])
    except (OSError, ValueError, KeyError, TypeError):  # missing or damaged: run again
        return None
    return seconds if known == digest(process.key) and process.produces.exists() else None


@contextmanager
def _locked(name: str, records: Path) -> Iterator[None]:
    """Hold an arm's lock; the operating system frees it when the process ends in any way."""
    records.mkdir(parents=True, exist_ok=True)
    lock = FileLock(records / f"{name}.lock", fallback_to_soft=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        _say(name, "another command is running this arm; waiting for it")
        lock.acquire()
    except (OSError, NotImplementedError) as error:
        raise ArmFailedError(
            f"{records}: no file can be locked there ({error}); put the run folder on a file "
            "system with locks"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _run(process: ArmProcess, record: Path) -> float:
    _say(process.name, f"$ {_short(process.command)}")
    record.unlink(missing_ok=True)
    before = process.produces.stat().st_mtime_ns if process.produces.exists() else None
    started = time.perf_counter()
    try:
        code = _run_logged(process)
    except OSError as error:
        raise ArmFailedError(f"arm '{process.name}' could not be run ({error})") from error
    seconds = time.perf_counter() - started
    made = process.produces.exists() and process.produces.stat().st_mtime_ns != before
    if code != 0 or not made:
        raise ArmFailedError(f"arm '{process.name}' failed (exit code {code}); see {process.log}")
    _say(process.name, f"done in {seconds:.0f} s")
    write_text(record, json.dumps({"key": digest(process.key), "seconds": seconds}) + "\n")
    return seconds


def _run_logged(process: ArmProcess) -> int:
    process.log.parent.mkdir(parents=True, exist_ok=True)
    with (
        process.log.open("w", encoding="utf-8") as log,
        subprocess.Popen(
            process.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as running,
    ):
        for line in running.stdout or ():
            log.write(line)
            if any(word in line for word in process.show):
                _say(process.name, _message(line))
    return running.returncode


def _message(line: str) -> str:
    """The message of an NVFlare log line, without its time, logger and context."""
    return line.rstrip().split(" - ")[-1].split("]: ")[-1]


def _short(command: tuple[str, ...]) -> str:
    return shlex.join((Path(command[0]).name, *command[1:]))


def _say(name: str, text: str) -> None:
    print(f"[{name}] {text}", file=sys.stdout, flush=True)
