"""Fifty rounds in the simulator: does any process grow?

Usage: ``make benchmark-soak`` (or ``python benchmarks/soak.py [--rounds 50]``). Resident memory and
open files of the server and of every site, read once a second. The first three columns are the
memory after a tenth, half and all of the time; growth is the slope of a straight line through the
readings of the second half, when caches are full.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from jobs.writing.export import export_job
from jobs.writing.federation import DEFAULT_FILE, read_federated_experiment
from jobs.writing.workspace import prepare_workspace

REPOSITORY = Path(__file__).resolve().parents[1]
Reading = tuple[float, float, float]
"""Seconds since the start, MiB, open files."""


def main() -> None:
    """Run and print a line per process."""
    options = _parser().parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        training = {"rounds": options.rounds, "steps": 5}
        job = read_federated_experiment(DEFAULT_FILE, {"experiment": {"training": training}})
        export_job("fedavg", job, folder / "fedavg")
        workspace = prepare_workspace(folder / "ws", {"demo": options.data.resolve()})
        command = [str(Path(sys.executable).with_name("nvflare")), "simulator"]
        command += [str(folder / "fedavg"), "-w", str(workspace), "-t", "4"]
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
            readings = watch(process)
        if process.returncode:
            sys.exit(f"error: the simulator failed:\n{(folder / 'log').read_text()[-2000:]}")
    print(f"{options.rounds} rounds")
    print(f"{'process':<12}{'MiB: tenth':>12}{'half':>8}{'end':>8}", end="")
    print(f"{'growth per round':>18}{'files':>8}{'growth':>9}")
    for name, found in sorted(readings.items()):
        print(_line(name, found, options.rounds))


def watch(process: subprocess.Popen[bytes]) -> dict[str, list[Reading]]:
    """Read every process once a second until the end."""
    readings: dict[str, list[Reading]] = {}
    started = time.monotonic()
    while process.poll() is None:
        seconds = time.monotonic() - started
        for name, found in _now(process.pid).items():
            readings.setdefault(name, []).append((seconds, *found))
        time.sleep(1.0)
    return readings


def _now(simulator: int) -> dict[str, tuple[float, float]]:
    """MiB and open files of each site, and of the server with what it has started for itself."""
    found: dict[str, tuple[float, float]] = {}
    try:
        for process in psutil.Process(simulator).children(recursive=True):
            command = process.cmdline()
            name = command[command.index("--client") + 1] if "--client" in command else "server"
            memory, files = found.get(name, (0.0, 0.0))
            memory += process.memory_info().rss / 2**20
            found[name] = (memory, files + process.num_fds())
    except psutil.NoSuchProcess:
        return {}
    return found


def _line(name: str, readings: list[Reading], rounds: int) -> str:
    seconds, memory, files = np.array(readings[len(readings) // 2 :]).T
    per_round = (seconds[-1] - seconds[0]) / (0.5 * rounds)
    grows = [np.polyfit(seconds, values, 1)[0] * per_round for values in (memory, files)]
    early = readings[len(readings) // 10][1]
    return (
        f"{name:<12}{early:>12.0f}{memory[0]:>8.0f}{memory[-1]:>8.0f}"
        f"{grows[0]:>14.3f} MiB{files[-1]:>8.0f}{grows[1]:>9.3f}"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=REPOSITORY / "data" / "demo")
    parser.add_argument("--rounds", type=int, default=50)
    return parser


if __name__ == "__main__":
    main()
