"""The folder of translations: one command at a time, and a note of what each result was made of."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fedi2i.errors import DataError
from fedi2i.files import PRIVATE_FILE, not_written, real_path, write_text

logger = logging.getLogger(__name__)

NOTES = "translated.json"
"""Beside the results: of which scan and by which model each of them is."""
_HALF_WRITTEN = ".writing-*"

Note = dict[str, Any]


@contextmanager
def alone_in(out: Path) -> Iterator[None]:
    """Keep other commands out of a folder, and remove what a killed one left half-written.

    Raises:
        DataError: another command is writing there, or the folder cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        folder = os.open(out, os.O_RDONLY)
    except OSError as error:
        raise DataError(not_written(out / NOTES, error)) from error
    try:
        if _locked(folder, out):
            for left in out.glob(_HALF_WRITTEN):
                _remove(left)
        yield
    finally:
        os.close(folder)  # the lock goes with it, as it does when the process is killed


def _locked(folder: int, out: Path) -> bool:
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise DataError(
            f"{out}: another command is translating into it; wait for it, or give another --out"
        ) from error
    except OSError:  # some network drives lock no folders
        logger.warning(
            "%s: cannot be locked; let one command at a time write there, and remove what a killed "
            "one has left (%s) yourself",
            out,
            _HALF_WRITTEN,
        )
        return False
    return True


def _remove(left: Path) -> None:
    try:
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left)
        else:
            left.unlink()
    except OSError as error:
        logger.warning("%s: half-written, and cannot be removed (%s)", left, error.strerror)


def note_of(scan: Path, weights: str, suv_factor: float | None) -> Note:
    """What makes a translation this one and no other.

    Args:
        scan: file or folder.
        weights: SHA-256 of the model's.
        suv_factor: see ``Wish.suv_factor``.

    Raises:
        DataError: the scan cannot be looked at.
    """
    own = real_path(scan)
    try:
        files = [one for one in own.rglob("*") if one.is_file()] if own.is_dir() else [own]
        found = [one.stat() for one in files]
    except OSError as error:
        raise DataError(f"{scan}: cannot be read ({error.strerror}); name a scan") from error
    return {
        "source": str(own),
        "size": sum(one.st_size for one in found),
        "mtime_ns": max((one.st_mtime_ns for one in found), default=0),
        "weights": weights,
        "suv_factor": suv_factor,
    }


def add_note(result: Path, note: Note) -> None:
    """Note what a result is made of, before it is written.

    A command that is killed in between leaves a note without a result, which does no harm; a result
    without a note would be nobody's.

    Raises:
        DataError: the notes cannot be read or written.
    """
    path = result.with_name(NOTES)
    text = json.dumps({**_notes(path), result.name: note}, indent=1)
    try:
        write_text(path, text + "\n", PRIVATE_FILE)
    except OSError as error:
        raise DataError(not_written(path, error)) from error


def check_note(result: Path, expected: Mapping[str, Any]) -> None:
    """Refuse to take a result that is there for another one.

    Raises:
        DataError: it is of another scan or model, or nobody knows.
    """
    path = result.with_name(NOTES)
    found = _notes(path).get(result.name)
    if found is None:
        raise DataError(f"{result}: is there, and {path.name} does not know it; give another --out")
    if found != expected:
        raise DataError(
            f"{result}: is the translation of another scan, by another model or with another "
            "--suv-factor; give another --out"
        )


def _notes(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read; give another --out") from error
    if not isinstance(found, dict):
        raise DataError(f"{path}: holds no notes of results; give another --out")
    return found
