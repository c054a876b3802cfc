"""A round's rubbish goes, and looking for it stays cheap."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from pytorch_lightning.plugins.environments import SLURMEnvironment

from lightning_modules.training.hardware import Hardware
from lightning_modules.training.trainer import quiet_trainer

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


JOB = {"NTASKS": "4", "PROCID": "3", "LOCALID": "3", "NODEID": "1", "JOB_NAME": "batch"}


@pytest.mark.parametrize("job", [JOB, {}], ids=["inside a job", "beside one"])
def test_slurm_does_not_become_lightning_s_launcher_and_is_not_warned_of(
    job: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "srun").write_text("#!/bin/sh\n")
    (tmp_path / "srun").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    for key in JOB:
        monkeypatch.delenv(f"SLURM_{key}", raising=False)
    for key, value in job.items():
        monkeypatch.setenv(f"SLURM_{key}", value)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trainer = quiet_trainer(Hardware("cpu", "32-true", 1), [])
        if not job:
            assert not SLURMEnvironment.detect()  # as every fit asks
    assert (trainer.world_size, trainer.global_rank, trainer.num_nodes) == (1, 0, 1)
