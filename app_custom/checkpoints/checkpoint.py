"""Finished rounds of a server, in files that outlive the job's own folders."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fedi2i.errors import DataError
from lightning_modules.sharing.tensor_file import write_tensors

Weights = dict[str, np.ndarray]
_FILE = "finished-rounds.pt"


@dataclass(frozen=True)
class FinishedRounds:
    """All that a server needs to go on after its last finished round.

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
    """One experiment's finished rounds in one folder; the newest replaces the one before."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self) -> FinishedRounds | None:
        """The rounds of an unfinished run, or None.

        Raises:
            DataError: the file is damaged.
        """
        path = self.folder / _FILE
        if not path.is_file():
            return None
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
            return FinishedRounds(
                rounds=int(content["rounds"]),
                weights=_arrays(content["weights"]),
                best_weights=content["best_weights"] and _arrays(content["best_weights"]),
                best_round=int(content["best_round"]),
                rows=[(str(s), int(r), str(m), float(v)) for s, r, m, v in content["rows"]],
                memory=_arrays(content["memory"]),
            )
        except Exception as error:  # torch raises many unrelated types on damaged files
            raise DataError(
                f"{path}: cannot be read ({error}); delete the folder to start the run anew"
            ) from error

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


def _tensors(weights: Weights) -> dict[str, Any]:
    return {key: torch.from_numpy(np.array(value, order="C")) for key, value in weights.items()}


def _arrays(weights: dict[str, Any]) -> Weights:
    return {key: value.numpy() for key, value in weights.items()}
