"""A site's own record of which job used which patients; it never leaves the site.

When a person withdraws, or a table turns out to be wrong, somebody asks which models were trained
with those scans. The manifest says who is there now, and a cache is made anew when the data change,
so the site writes a line when a job opens its data. Patients stand in it by keyed digests, the key
is a file of its own: the record alone, in a backup or a request for help, names nobody.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

from fedi2i.digest import keyed_digest
from fedi2i.errors import DataError
from fedi2i.files import not_written
from partitions.manifest import PATIENT_ID, SPLITS
from partitions.preparation import PreparedSite

RECORD = "used_data.jsonl"
KEY = "used_data.key"


@dataclass(frozen=True)
class Use:
    """One job that opened this site's data.

    Attributes:
        job: NVFlare's id of the job.
        run: the folder that the site keeps the run's state in; it begins with the run's name.
        submitter: who sent the job, empty in the simulator.
        dataset: name of the data set.
        content_hash: names manifest, scans and settings of the preparation.
        pictures: whether pictures of a validation patient were sent.
        accounted: whether the site's differential privacy stood in the way of its updates.
        patients: split to the digests of its patients.
        time: when the job opened the data, in UTC.
    """

    job: str
    run: str
    submitter: str
    dataset: str
    content_hash: str
    pictures: bool
    accounted: bool
    patients: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    time: str = ""


class UsedData:
    """The record of one site.

    Args:
        folder: the site's state folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / RECORD

    def note(self, use: Use, prepared: PreparedSite) -> None:
        """Write a line, unless the record has it: a site's process may begin anew for every task.

        Args:
            use: the job; its patients and time are filled in here.
            prepared: the data that it opens.

        Raises:
            DataError: the line cannot be written. A site trains for no job that it could not name
                when a patient withdraws.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{self._path}.lock"):
                patients = {name: self._digests(prepared, name) for name in SPLITS}
                line = {**asdict(use), "patients": patients}
                if line not in [{**said, "time": ""} for said in self._lines()]:
                    now = datetime.now(UTC).isoformat(timespec="seconds")
                    self._append(json.dumps({**line, "time": now}))
        except OSError as error:
            raise DataError(not_written(self._path, error)) from error

    def of(self, patient: str) -> tuple[tuple[Use, tuple[str, ...]], ...]:
        """The jobs that used a patient, oldest first, each with the splits the patient was in.

        Raises:
            DataError: the record, or its key, is damaged or missing; nobody can tell then.
        """
        if not self._path.is_file():
            return ()
        name = keyed_digest(self._key(), patient)
        found = []
        for line in self._lines():
            use = Use(**line)
            splits = tuple(split for split, held in use.patients.items() if name in held)
            found += [(use, splits)] if splits else []
        return tuple(found)

    def _digests(self, prepared: PreparedSite, split: str) -> list[str]:
        key = self._key()
        subjects = prepared.split(split).subjects
        names = {str(s.metadata.get(PATIENT_ID) or s.subject) for s in subjects}
        return sorted(keyed_digest(key, name) for name in names)

    def _key(self) -> str:
        """The record's key; made with the record, and never again beside an old one."""
        path = self._folder / KEY
        if not path.exists() and not self._path.exists():
            _write_durably(path, secrets.token_hex(32))
        try:
            key = path.read_text(encoding="utf-8").strip()
            bytes.fromhex(key)
        except (OSError, ValueError) as error:
            raise self._damaged(f"its key {KEY} cannot be read") from error
        return key

    def _lines(self) -> list[dict[str, Any]]:
        """The whole lines. A torn last one is of a job that never got to see the data."""
        if not self._path.is_file():
            return []
        *whole, _ = self._path.read_bytes().split(b"\n")
        lines = []
        for number, text in enumerate(whole, start=1):
            try:
                lines.append({**json.loads(text)})
                Use(**lines[-1])
            except (ValueError, TypeError) as error:
                raise self._damaged(f"line {number} is damaged") from error
        return lines

    def _append(self, line: str) -> None:
        if self._path.is_file():
            whole = self._path.read_bytes().rfind(b"\n") + 1
            os.truncate(self._path, whole)
        _write_durably(self._path, line + "\n")

    def _damaged(self, what: str) -> DataError:
        return DataError(
            f"{self._path}: {what}; put a copy back: without it nobody can tell which jobs used a "
            "patient"
        )


def _write_durably(path: Path, text: str) -> None:
    """Append to a file that this account alone may read; it is on the disk when this returns."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(handle, "a", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
