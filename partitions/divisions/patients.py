"""The unit that is divided: a patient with all of their scans."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from partitions.manifest import AGE, OLDEST, SiteManifest, SubjectRecord

MISSING = "unknown"
"""The category of patients about whom the metadata do not say."""
SEVERAL = "several"
"""The category of patients whose scans say different things."""


@dataclass(frozen=True)
class Patient:
    """One person and all of their scans; sites number theirs by themselves.

    Attributes:
        site: the site whose manifest names the scans.
        name: the person's name there.
        records: the scans, in the order of their names.
    """

    site: str
    name: str
    records: tuple[SubjectRecord, ...]

    @property
    def key(self) -> tuple[str, str]:
        """What patients are sorted by, so that the order of a table changes nothing."""
        return self.site, self.name

    @property
    def sequences(self) -> frozenset[str]:
        """The sequences that every scan of the patient has."""
        return frozenset.intersection(*(frozenset(record.files) for record in self.records))

    def category(self, key: str) -> str:
        """What the metadata say under a key: a text, `MISSING` or `SEVERAL`."""
        found = {_text(record.metadata.get(key)) for record in self.records} - {""}
        if not found:
            return MISSING
        return found.pop() if len({text.casefold() for text in found}) == 1 else SEVERAL

    def age(self) -> float | None:
        """Years at the first scan, `OLDEST` as 90; None when no scan says it."""
        ages = [_years(record.metadata.get(AGE)) for record in self.records]
        return min((age for age in ages if age is not None), default=None)


def patients_of(manifests: Iterable[SiteManifest]) -> tuple[Patient, ...]:
    """The patients of several sites, in the order of their keys."""
    scans: dict[tuple[str, str], list[SubjectRecord]] = {}
    for manifest in manifests:
        for record in sorted(manifest.subjects, key=lambda record: record.subject):
            scans.setdefault((manifest.site, record.patient), []).append(record)
    return tuple(Patient(*key, tuple(records)) for key, records in sorted(scans.items()))


def categories_of(patients: Sequence[Patient], keys: Sequence[str]) -> dict[str, list[Patient]]:
    """The patients by what the metadata say under some keys, in the order of the categories.

    Values that differ in upper and lower case alone are one category, called as most patients'.
    Several keys make one category: ``GE Discovery 3``. `MISSING` and `SEVERAL` win over the rest.
    """
    said = {patient.key: [patient.category(key) for key in keys] for patient in patients}
    spellings = Counter(text for texts in said.values() for text in texts)
    usual: dict[str, str] = {}
    for text, _ in sorted(spellings.items(), key=lambda item: (-item[1], item[0])):
        usual.setdefault(text.casefold(), text)
    found: dict[str, list[Patient]] = {}
    for patient in patients:
        texts = [usual[text.casefold()] for text in said[patient.key]]
        odd = [text for text in (MISSING, SEVERAL) if text in texts]
        found.setdefault(odd[0] if odd else " ".join(texts), []).append(patient)
    return dict(sorted(found.items()))


def _text(value: Any) -> str:
    """A value of the metadata as a text; 3 and 3.0 are one field strength."""
    if isinstance(value, bool) or value is None:
        return "" if value is None else str(value).lower()
    return f"{value:g}" if isinstance(value, int | float) else " ".join(str(value).split())


def _years(value: Any) -> float | None:
    if value == OLDEST:
        return 90.0
    try:
        years = float(value)
    except (TypeError, ValueError):
        return None
    return years if 0 <= years < 150 else None
