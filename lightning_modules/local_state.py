"""What a site keeps between rounds: kept optimizers and networks that are not shared.

A site's process may die between any two tasks, so the state lives in files. Each file belongs to
one finished round, is written atomically and stays until the next-but-one round has finished: a
federation that goes back one round finds the state that belongs to it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from partitions.atomic_file import replacing
from partitions.errors import DataError

LocalState = dict[str, Any]
_KEPT_ROUNDS = 2
_NAME = re.compile(r"^after-round-(\d{5})\.pt$")


class LocalStateStore:
    """State of one job at one site, by round.

    Args:
        folder: a folder of this job at this site alone; made when first needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, after_round: int) -> LocalState | None:
        """The state left by a round, or None when that round left none.

        Raises:
            DataError: the file is damaged.
        """
        path = self._path(after_round)
        if not path.is_file():
            return None
        try:
            state: LocalState = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises many unrelated types on damaged files
            # Not torch's own text: it has many lines and recommends loading without safety.
            raise DataError(
                f"{path}: local state is damaged; delete it to start this round with fresh "
                "optimizers and local networks"
            ) from error
        return state

    def save(self, after_round: int, state: LocalState) -> None:
        """Write the state of a finished round and drop what is older than two rounds."""
        with replacing(self._path(after_round)) as temporary:
            torch.save(state, temporary)
        for path in self._folder.iterdir():
            match = _NAME.match(path.name)
            if match and int(match[1]) <= after_round - _KEPT_ROUNDS:
                path.unlink(missing_ok=True)

    def _path(self, after_round: int) -> Path:
        return self._folder / f"after-round-{after_round:05d}.pt"
