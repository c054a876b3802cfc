"""Who has been withdrawn from a site folder: a later import leaves them out.

The list has a keyed digest of each patient's name instead of the name. Whoever holds the file can
still try names, as the key stands in it: it belongs to the site and stays there.
"""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from fedi2i.digest import keyed_digest
from fedi2i.errors import DataError
from fedi2i.files import write_text
from partitions.manifest import SubjectRecord

logger = logging.getLogger(__name__)

FILE_NAME = "withdrawn-patients.json"
VERSION = 1


@dataclass(frozen=True)
class WithdrawnPatients:
    """The list of one site folder.

    Attributes:
        key: of the digests, in hexadecimal.
        days: a patient's digest to the day of the withdrawal.
    """

    key: str
    days: Mapping[str, str] = field(default_factory=dict)

    def day(self, patient: str) -> str | None:
        """The day on which a patient was withdrawn, or None."""
        return self.days.get(keyed_digest(self.key, patient))

    def with_patient(self, patient: str) -> WithdrawnPatients:
        """The list with a patient on it since today; a patient who is on it keeps the day."""
        today = f"{datetime.now(UTC):%Y-%m-%d}"
        return replace(self, days={keyed_digest(self.key, patient): today, **self.days})


def read_withdrawn(folder: Path) -> WithdrawnPatients:
    """Read a site folder's list; a new one where there is none.

    Raises:
        DataError: the list is damaged. It is not passed over: who is on it would come back.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        return WithdrawnPatients(secrets.token_hex(32))
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["version"] != VERSION:
            raise ValueError(f"version {content['version']}")
        days = {str(name): str(day) for name, day in content["withdrawn"].items()}
        bytes.fromhex(content["key"])
        return WithdrawnPatients(str(content["key"]), days)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path}: cannot be read ({error}); put a copy of it back: it says who was withdrawn "
            "and must not be brought in again"
        ) from error


def write_withdrawn(folder: Path, withdrawn: WithdrawnPatients) -> None:
    """Write a site folder's list."""
    content = {"version": VERSION, "key": withdrawn.key, "withdrawn": dict(withdrawn.days)}
    write_text(folder / FILE_NAME, json.dumps(content, indent=1) + "\n")
    (folder / FILE_NAME).chmod(0o600)


def is_withdrawn(folder: Path, patient: str) -> bool:
    """Whether a patient is on a site folder's list: a reader that converts asks before it writes.

    Raises:
        DataError: the list is damaged.
    """
    return read_withdrawn(folder).day(patient) is not None


def without_withdrawn(folder: Path, records: Iterable[SubjectRecord]) -> tuple[SubjectRecord, ...]:
    """The records of patients who are not on a site folder's list; a warning counts the others.

    Raises:
        DataError: the list is damaged.
    """
    found = tuple(records)
    withdrawn = read_withdrawn(folder)
    kept = tuple(record for record in found if withdrawn.day(record.patient) is None)
    if len(kept) < len(found):
        logger.warning(
            "%s: %d scan(s) of withdrawn patients are left out; %s lists them by digest and day: "
            "to bring somebody in again, delete their line there",
            folder,
            len(found) - len(kept),
            FILE_NAME,
        )
    return kept
