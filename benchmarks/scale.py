"""Seconds, bytes and the server's memory per round, for more and more sites in the simulator.

Usage: ``make benchmark-scale`` (or ``python benchmarks/scale.py [--sites 2 4 8 16 32]
[--model small|medium|large]``).
Every site has the same three patients of the demo cohort under a name of its own, takes two steps a
round, and all sites run at once, so that with the small model the time is the federation's own. The
first round, in which processes start, is left out. A site needs 0.7 GB and five times its model.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import itertools
import re
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from process_memory import watch_memory

from app_custom.aggregation.compression import KINDS
from jobs.writing.export import export_job
from jobs.writing.federation import DEFAULT_FILE, read_federated_experiment
from jobs.writing.workspace import prepare_workspace
from partitions.manifest import read_manifest, write_manifest

REPOSITORY = Path(__file__).resolve().parents[1]
ROUNDS = 4
CHANNELS = {
    "small": (16, 32, 64),
    "medium": (64, 128, 256, 512, 1024),
    "large": (145, 290, 580, 1160, 2320),
}
"""U-Nets of 0.2, 10.5 and 54 million parameters."""

_LINE = re.compile(r"^(\S+ \S+) - .*Round (\d+) (started|finished)\.", re.MULTILINE)


@dataclass(frozen=True)
class Measured:
    """Per round, without the first: seconds, bytes both ways; and the server's peak memory."""

    seconds: float
    megabytes: float
    server_mib: float


def main() -> None:
    """Run and print the table."""
    options = _parser().parse_args()
    print(f"model: {options.model}")
    print(f"{'sites':>5} {'compression':>11} {'s/round':>9} {'MB/round':>9} {'server MiB':>10}")
    for sites, kind in itertools.product(options.sites, options.compression):
        found = measure(options.data.resolve(), sites, CHANNELS[options.model], kind)
        print(
            f"{sites:>5} {kind:>11} {found.seconds:>9.2f} "
            f"{found.megabytes:>9.1f} {found.server_mib:>10.0f}",
            flush=True,
        )


def measure(data: Path, sites: int, channels: tuple[int, ...], compression: str) -> Measured:
    """One run of the simulator."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        names = [f"site-{number:02d}" for number in range(sites)]
        for site in names:
            few_patients(data / "north", folder / "data" / site, site)
        job = read_federated_experiment(DEFAULT_FILE, _changes(names, channels, compression))
        export_job("fedavg", job, folder / "fedavg")
        workspace = prepare_workspace(folder / "ws", {"demo": folder / "data"}, torch_threads=1)
        command = [str(Path(sys.executable).with_name("nvflare")), "simulator"]
        command += [str(folder / "fedavg"), "-w", str(workspace), "-t", str(sites)]
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
            peaks: dict[str, int] = {}
            watch = threading.Thread(target=watch_memory, args=(process, peaks))
            watch.start()
            process.wait()
            watch.join()
        text = (folder / "log").read_text()
        if process.returncode:
            sys.exit(f"error: the simulator failed:\n{text[-2000:]}")
        metrics = workspace / "server" / "simulate_job" / "metrics.csv"
        return Measured(_seconds(text), _megabytes(metrics), peaks["server"] / 2**20)


def few_patients(source: Path, target: Path, site: str) -> None:
    """A site of its own with one patient of every split of another one."""
    target.mkdir(parents=True)
    manifest = read_manifest(source)
    chosen = {subject.split: subject for subject in manifest.subjects}.values()
    for subject in chosen:
        (target / subject.subject).symlink_to(source / subject.subject)
    subjects = tuple(dataclasses.replace(subject, site=site) for subject in chosen)
    write_manifest(dataclasses.replace(manifest, site=site, subjects=subjects, root=target))


def _changes(names: list[str], channels: tuple[int, ...], compression: str) -> dict[str, object]:
    return {
        "federation": {"sites": names, "unseen": [], "compression": compression},
        "experiment": {
            "training": {"rounds": ROUNDS, "steps": 2},
            "model": {"generator": {"channels": list(channels)}},
        },
    }


def _seconds(log: str) -> float:
    moments = {
        (int(number), what): datetime.strptime(moment, "%Y-%m-%d %H:%M:%S,%f")
        for moment, number, what in _LINE.findall(log)
    }
    first, last = moments[1, "started"], moments[ROUNDS - 1, "finished"]
    return (last - first).total_seconds() / (ROUNDS - 1)


def _megabytes(metrics: Path) -> float:
    with metrics.open(newline="", encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["metric"].startswith("traffic/")]
    ours = [row for row in rows if row["round"] == "1" and row["site"] != "all"]
    return sum(float(row["value"]) for row in ours) / 1e6


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=REPOSITORY / "data" / "demo")
    parser.add_argument("--sites", type=int, nargs="+", default=[2, 4, 8, 16, 32])
    parser.add_argument("--model", choices=CHANNELS, default="small")
    parser.add_argument("--compression", choices=KINDS, nargs="+", default=["none"])
    return parser


if __name__ == "__main__":
    main()
