"""What a reader found in a folder, before anything is written; how its records come to be."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from fedi2i.errors import DataError
from partitions.manifest import PATIENT_ID, SiteManifest, SubjectRecord, with_grouped_age
from partitions.site_folders import TO_BE_DRAWN, path_from, write_site_folders

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class FoundScan:
    """One subject as it lies in a public layout.

    Attributes:
        subject: identifier, unique within its site.
        patient: the person; the subject where nobody has two scans.
        site: the site that it becomes part of.
        files: sequence name to file.
        mask: head or body mask.
        lesion_mask: lesion region.
        split: ``train``, ``val`` or ``test`` where the layout has splits.
        metadata: what is known of it, see ``partitions.manifest.SubjectRecord``.
    """

    subject: str
    patient: str
    site: str
    files: Mapping[str, Path]
    mask: Path | None = None
    lesion_mask: Path | None = None
    split: str = TO_BE_DRAWN
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    """What a folder holds.

    Attributes:
        scans: the subjects that can be brought in.
        problems: what a person should know, a sentence each.
    """

    scans: tuple[FoundScan, ...]
    problems: tuple[str, ...] = ()

    @property
    def pairs(self) -> int:
        """Subjects with two sequences or more: those that paired training can use."""
        return sum(len(scan.files) > 1 for scan in self.scans)

    def patients_by_site(self) -> dict[str, int]:
        """Number of persons of every site, in the order of the sites' names."""
        persons = {(scan.site, scan.patient) for scan in self.scans}
        return dict(sorted(Counter(site for site, _ in persons).items()))

    def subjects_by_sequence(self) -> dict[str, int]:
        """Number of subjects that have a sequence, the most frequent first."""
        counts = Counter(name for scan in self.scans for name in scan.files)
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


@dataclass(frozen=True)
class Recognised:
    """What ``inspect`` says of a folder that a reader knows.

    Attributes:
        found: what the folder holds.
        arguments: what follows ``fedi2i data <reader>`` in the command to run next.
    """

    found: Found
    arguments: tuple[str, ...]


def write_found(out: Path, dataset: str, found: Found, seed: int) -> tuple[SiteManifest, ...]:
    """Write the manifests of what was found; the scans stay where they are.

    The problems are said as warnings. See ``write_site_folders`` for the arguments and errors.
    """
    say(found.problems)
    return write_site_folders(out, dataset, [record_of(scan, out) for scan in found.scans], seed)


def record_of(scan: FoundScan, out: Path) -> SubjectRecord:
    """The record of a subject whose scans stay where they are."""
    root = out / scan.site
    metadata = with_grouped_age(scan.metadata)
    if scan.patient != scan.subject:
        metadata[PATIENT_ID] = scan.patient
    return SubjectRecord(
        subject=scan.subject,
        site=scan.site,
        split=scan.split,
        files={name: path_from(root, path) for name, path in sorted(scan.files.items())},
        mask=None if scan.mask is None else path_from(root, scan.mask),
        lesion_mask=None if scan.lesion_mask is None else path_from(root, scan.lesion_mask),
        metadata=metadata,
    )


def at_one_site(scans: Iterable[FoundScan]) -> tuple[tuple[FoundScan, ...], tuple[str, ...]]:
    """Let every person belong to one site: the one that has most of their images.

    A person at two sites would be trained on at one of them and tested on at the other.

    Returns:
        The scans at those sites, and the subjects of all others.
    """
    by_person: dict[str, list[FoundScan]] = {}
    for scan in scans:
        by_person.setdefault(scan.patient, []).append(scan)
    kept: list[FoundScan] = []
    moved: list[str] = []
    for found in by_person.values():
        images: Counter[str] = Counter()
        for scan in found:
            images[scan.site] += len(scan.files)
        ((site, _),) = images.most_common(1)
        kept += [scan for scan in found if scan.site == site]
        moved += [scan.subject for scan in found if scan.site != site]
    return tuple(kept), tuple(moved)


def usable(
    items: Iterable[Item], convert: Callable[[Item], Result]
) -> tuple[list[Result], list[str]]:
    """Convert the scans of one patient after the other; what is wrong with one ends nothing.

    Args:
        items: what the scans are made from.
        convert: makes them; raises ``DataError`` before it writes anything.

    Returns:
        What was made, and a sentence for each item that cannot be used.
    """
    made, problems = [], []
    for item in items:
        try:
            made.append(convert(item))
        except DataError as problem:
            problems.append(f"left out: {problem}")
    return made, problems


def say(problems: Iterable[str]) -> None:
    """Tell the person who imports what should be known."""
    for problem in problems:
        logger.warning("%s", problem)


def some_of(names: Sequence[str], most: int = 3) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
