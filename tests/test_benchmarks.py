"""Benchmarks are run by hand; that they still fit the code is seen here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
PROGRAMS = [path for path in sorted(BENCHMARKS.glob("*.py")) if "__main__" in path.read_text()]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: str(path.stem))
def test_a_benchmark_finds_what_it_measures(program: Path) -> None:
    command = [sys.executable, str(program), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "usage: " in done.stdout.lower()
