"""A stand-in for ``nvidia-smi``: as many GPUs as a test wants, for the assignment alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_SCRIPT = """#!/bin/sh
case "$1" in
  --query-gpu=index) echo index ;;
  --query-gpu=memory.*) echo "memory [MiB]" ;;
  *) exit 9 ;;
esac
for gpu in $(seq 0 {last}); do
  case "$1" in *index) echo $gpu ;; *) echo "{mib} MiB" ;; esac
done
"""


def install(folder: Path, patch: pytest.MonkeyPatch, number: int, gib: int) -> None:
    """Put the stand-in first in the search path, and forget devices chosen before."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "nvidia-smi"
    program.write_text(_SCRIPT.format(last=number - 1, mib=gib * 1024))
    program.chmod(0o755)
    patch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    patch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
