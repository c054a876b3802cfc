"""A round's rubbish goes, and looking for it stays cheap."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import gc
import weakref
import torch
from lightning_modules.training.trainer import free_round_garbage

class Trainer:
    def __init__(self):
        self.loop = self

gc.disable()
for number in range(3):
    trainer = Trainer()
    left = weakref.ref(trainer)
    del trainer
    assert left() is not None
    free_round_garbage()
    assert left() is None
print(len(gc.get_objects()), gc.get_freeze_count())
"""


def test_cycles_are_freed_and_what_was_loaded_before_is_not_searched_again() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    searched, apart = map(int, done.stdout.split())
    assert apart > 50_000
    assert searched < 0.01 * apart
