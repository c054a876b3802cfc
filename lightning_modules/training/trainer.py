"""A Lightning trainer for one round, and freeing what the round leaves behind."""

from __future__ import annotations

import gc
import logging
import warnings
from collections.abc import Sequence
from functools import cache

import pytorch_lightning as pl
from lightning_fabric.plugins.environments.lightning import LightningEnvironment

from lightning_modules.training.hardware import Hardware


def quiet_trainer(hardware: Hardware, callbacks: Sequence[pl.Callback]) -> pl.Trainer:
    """A trainer that runs one pass over the round's batches: no logger, no checkpoints, no bars."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    # Lightning's own use of a deprecated torch function: nothing a user could act on.
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
    # Batches come ready-made from memory-mapped arrays: worker processes would only cost.
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    # It asks at every fit whether it is in a job of Slurm, whatever it was told (see below).
    warnings.filterwarnings("ignore", message=".*`srun` command is available.*")
    return pl.Trainer(
        accelerator=hardware.accelerator,
        devices=1,
        precision=hardware.precision,  # type: ignore[arg-type]
        max_epochs=1,
        callbacks=list(callbacks),
        # A site trains in this one process. Inside a job of Slurm Lightning would read the job's
        # numbers of nodes and tasks as its own.
        plugins=[LightningEnvironment()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )


def free_round_garbage() -> None:
    """Free what the round that has ended leaves behind.

    Lightning's trainer, its loops and the module refer to each other: a round's trainer waits for
    Python's cycle collector, which rarely looks at objects that have lived for a while. A site's
    process would grow by a megabyte or more with every round. The first call takes 0.2 s; later
    ones do not look at what it found in use.
    """
    gc.collect()
    _set_apart_what_is_loaded()


@cache
def _set_apart_what_is_loaded() -> None:
    """Modules and classes, half a million objects, stay to the end of the process in any case."""
    gc.freeze()
