"""What a finished study took: seconds of every seed and arm, and the runner's own share.

Usage: ``python benchmarks/study_runner.py runs/study``, of the study's own files and no copies: an
arm ended when its file in ``finished/`` was written. The runner's own time is that between the
first and the last process of an arm or of an evaluation when none of them ran.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

MINUTE = 60.0


@dataclass(frozen=True)
class Ran:
    """One process of an arm or of an evaluation; seconds since 1970."""

    seed: str
    arm: str
    begun: float
    ended: float


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="of a study")
    processes = read(parser.parse_args().folder)
    if not processes:
        sys.exit("error: no finished arm; give the folder of a study")
    wall = max(one.ended for one in processes) - min(one.begun for one in processes)
    idle = wall - covered((one.begun, one.ended) for one in processes)
    print(f"{wall / MINUTE:.1f} minutes; the runner's own: {idle / wall:.1%}")
    for seed in sorted({one.seed for one in processes}):
        own = [one for one in processes if one.seed == seed]
        took = max(one.ended for one in own) - min(one.begun for one in own)
        print(f"{seed}: {took / MINUTE:.1f} minutes")
    seconds = defaultdict(list)
    for one in processes:
        seconds[one.arm].append(one.ended - one.begun)
    for arm, took_each in sorted(seconds.items(), key=lambda item: -median(item[1])):
        print(f"{arm:<24}{median(took_each):7.0f} s (median of {len(took_each)})")


def read(folder: Path) -> list[Ran]:
    """The processes of a study that have ended."""
    found = []
    for path in sorted(folder.glob("seed-*/finished/*.json")):
        ended = path.stat().st_mtime
        seconds = json.loads(path.read_text(encoding="utf-8"))["seconds"]
        found.append(Ran(path.parts[-3], path.stem, ended - seconds, ended))
    return found


def covered(intervals: Iterable[tuple[float, float]]) -> float:
    """Length of the union of intervals."""
    total, reached = 0.0, float("-inf")
    for begun, ended in sorted(intervals):
        total += max(0.0, ended - max(begun, reached))
        reached = max(reached, ended)
    return total


if __name__ == "__main__":
    main()
