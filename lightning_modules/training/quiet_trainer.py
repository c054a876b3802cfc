"""A Lightning trainer for one round: no logger, no checkpoints, no bars."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence

import pytorch_lightning as pl

from lightning_modules.training.hardware import Hardware


def quiet_trainer(hardware: Hardware, callbacks: Sequence[pl.Callback]) -> pl.Trainer:
    """A trainer that runs one pass over the round's batches and leaves no files behind."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    # Lightning's own use of a deprecated torch function: nothing a user could act on.
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
    # Batches come ready-made from memory-mapped arrays: worker processes would only cost.
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    return pl.Trainer(
        accelerator=hardware.accelerator,
        devices=1,
        precision=hardware.precision,  # type: ignore[arg-type]
        max_epochs=1,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
