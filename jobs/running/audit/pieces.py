"""The audit's pieces of work: computed side by side, each kept in a file until all are there.

Files hold images and scores of patients. They are written for the account that runs the audit alone
(folder 0700, files 0600), and an interrupted audit goes on with what is finished.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol
from zipfile import BadZipFile

import numpy as np

from fedi2i import __version__
from fedi2i.digest import digest
from fedi2i.errors import DataError
from fedi2i.files import PRIVATE_FILE, private_folder, replacing
from partitions.processes import side_by_side

CPU_SECONDS = "cpu_seconds"
"""In every result: what it took."""
Found = Mapping[str, Any]
"""Numbers and arrays by name."""


class Piece(Protocol):
    """One piece of work; everything that its result depends on stands in its fields."""

    @property
    def name(self) -> str:
        """The file's name, and the piece's in the list of progress."""

    def compute(self) -> Found:
        """Do it; in a process of its own."""


@dataclass(frozen=True)
class _Done:
    name: str
    seconds: float


def results_of(pieces: Sequence[Piece], folder: Path, at_once: int) -> dict[str, Found]:
    """The result of every piece by its name; what is kept of an earlier audit is not done again.

    Args:
        pieces: what is to be done; the longest first.
        folder: where results are kept.
        at_once: processes at a time. Results do not depend on it: each has one thread.

    Raises:
        DataError: a process was ended from outside, or the disk gives back other than was written.
    """
    private_folder(folder)
    left = [piece for piece in pieces if _kept(folder, piece) is None]
    done = len(pieces) - len(left)
    if done:
        print(f"{done} of {len(pieces)} pieces are there already", flush=True)
    for finished in side_by_side(partial(_do, folder=folder), left, at_once):
        done += 1
        print(f"[{done}/{len(pieces)}] {finished.name}: {finished.seconds:.0f} s", flush=True)
    return {piece.name: _finished(folder, piece) for piece in pieces}


def _do(piece: Piece, folder: Path) -> _Done:
    started, computed = time.perf_counter(), time.process_time()
    found = {name: np.asarray(value) for name, value in piece.compute().items()}
    found[CPU_SECONDS] = np.asarray(time.process_time() - computed)
    with replacing(_path(folder, piece), PRIVATE_FILE) as temporary:
        np.savez(temporary, key=np.asarray(_key(piece)), **found)  # type: ignore[arg-type]
    return _Done(piece.name, time.perf_counter() - started)


def _finished(folder: Path, piece: Piece) -> Found:
    found = _kept(folder, piece)
    if found is None:
        raise DataError(f"{_path(folder, piece)}: cannot be read back; run the same command again")
    return found


def _kept(folder: Path, piece: Piece) -> Found | None:
    """The result of a piece; None where there is none, a damaged one, or one of other settings."""
    try:
        with np.load(_path(folder, piece), allow_pickle=False) as content:
            found = {name: content[name] for name in content.files}
        return found if str(found.pop("key")) == _key(piece) else None
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error):
        return None


def _path(folder: Path, piece: Piece) -> Path:
    return folder / f"{piece.name.replace(' ', '-').replace('/', '-')}.npz"


def _key(piece: Piece) -> str:
    return digest([__version__, repr(piece)])
