"""What a site keeps between rounds: optimizers, networks that are not shared, a strategy's memory.

A site's process may die between any two tasks, so the state lives in files. Each file belongs to
one finished round and is written atomically. With it stays the file that the round started from:
until the server has taken the round, the site may have to start there again. A site that missed
rounds goes on with the state of the last one it took part in.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from lightning_modules.sharing.tensor_file import read_tensors, write_tensors

LocalState = dict[str, Any]
_NAME = re.compile(r"^after-round-(\d{5})\.pt$")


class LocalStateStore:
    """State of one job at one site, by round.

    Args:
        folder: a folder of this job at this site alone; made when first needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, before_round: int) -> tuple[int, LocalState] | None:
        """The state left by the last round before a round, and that round; or None.

        Raises:
            DataError: the file is damaged.
        """
        rounds = [number for number in self._rounds() if number < before_round]
        if not rounds:
            return None
        path = self.path(max(rounds))
        refusal = (
            "local state is damaged; delete it to start this round with fresh optimizers and local "
            "networks"
        )
        state: LocalState = read_tensors(path, refusal, dict)
        return max(rounds), state

    def save(self, after_round: int, state: LocalState, started_from: int) -> None:
        """Write the state of a finished round; keep that and the one it started from.

        State of other rounds is older, or was left by a federation that has gone back, by a round
        that the server did not take, or by an older run.

        Args:
            after_round: the finished round.
            state: what is kept of it.
            started_from: the round whose state it started from, or -1.

        Raises:
            DataError: there is no room, or the folder may not be written.
        """
        write_tensors(self.path(after_round), state)
        for number in self._rounds():
            if number not in (after_round, started_from):
                self.path(number).unlink(missing_ok=True)

    def _rounds(self) -> list[int]:
        if not self._folder.is_dir():
            return []
        matches = [_NAME.match(path.name) for path in self._folder.iterdir()]
        return sorted(int(match[1]) for match in matches if match)

    def path(self, after_round: int) -> Path:
        """The file with the state after a round."""
        return self._folder / f"after-round-{after_round:05d}.pt"
