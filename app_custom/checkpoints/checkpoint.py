"""Finished rounds of a server are kept in files that outlive the job's own folders."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout

from fedi2i.errors import UserError
from lightning_modules.sharing.tensor_file import read_tensors, write_tensors

Weights = dict[str, np.ndarray]
_FILE = "finished-rounds.pt"


@dataclass(frozen=True)
class FinishedRounds:
    """Everything that a server needs to continue after its last finished round.

    Attributes:
        rounds: number of finished rounds.
        weights: the global model after them.
        best_weights: the best global model so far, or None before the first comparison.
        best_round: number of rounds that it had; 0 before the first comparison.
        rows: the rows of the metrics file.
        memory: what the strategy keeps at the server, see ``Aggregator``.
    """

    rounds: int
    weights: Weights
    best_weights: Weights | None
    best_round: int
    rows: list[tuple[str, int, str, float]]
    memory: Weights = field(default_factory=dict)


class RoundFiles:
    """Keeps one run's finished rounds in one folder; the newest replaces the one before."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self) -> FinishedRounds | None:
        """Read the rounds of an unfinished run; None if there are none.

        Raises:
            DataError: the file is damaged.
        """
        path = self.folder / _FILE
        if not path.is_file():
            return None
        return read_tensors(
            path, "damaged; delete the folder to start the run anew", _finished_rounds
        )

    def save(self, finished: FinishedRounds) -> None:
        """Write atomically: a crash leaves the rounds that were saved before.

        Raises:
            DataError: there is no room, or the folder may not be written.
        """
        content = {
            "rounds": finished.rounds,
            "weights": _tensors(finished.weights),
            "best_weights": finished.best_weights and _tensors(finished.best_weights),
            "best_round": int(finished.best_round),
            "rows": [list(row) for row in finished.rows],
            "memory": _tensors(finished.memory),
        }
        write_tensors(self.folder / _FILE, content)

    def clear(self) -> None:
        """Forget the run: it is complete."""
        (self.folder / _FILE).unlink(missing_ok=True)
        with suppress(OSError):  # the folder stays where something else lies in it
            self.folder.rmdir()


def lock_run(path: Path) -> FileLock:
    """Hold a run for this process: two jobs with the same name would share one run's files.

    The system lets go of the run when the process ends, however it ends.

    Args:
        path: the lock's file.

    Returns:
        The lock; its ``release`` lets another job have the run.

    Raises:
        UserError: another process holds the run.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # NVFlare starts and ends a run in different threads. A lock that is only a file's existence
    # (filelock's way out on file systems without locks) would outlive a crash.
    lock = FileLock(path, blocking=False, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise UserError(
            "a job with the same name, sites and settings is running; wait for its end or "
            "abort it, or give this one another name or seed"
        ) from error
    return lock


def _finished_rounds(content: Any) -> FinishedRounds:
    return FinishedRounds(
        rounds=int(content["rounds"]),
        weights=_arrays(content["weights"]),
        best_weights=content["best_weights"] and _arrays(content["best_weights"]),
        best_round=int(content["best_round"]),
        rows=[(str(s), int(r), str(m), float(v)) for s, r, m, v in content["rows"]],
        memory=_arrays(content["memory"]),
    )


def _tensors(weights: Weights) -> dict[str, Any]:
    return {key: torch.from_numpy(np.array(value, order="C")) for key, value in weights.items()}


def _arrays(weights: dict[str, Any]) -> Weights:
    return {key: value.numpy() for key, value in weights.items()}
