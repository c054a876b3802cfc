"""The pass of ``check`` over a data set: manifests, headers, hashes, and voxels where asked for."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from fedi2i.digest import file_digest
from fedi2i.errors import DataError, UserError
from fedi2i.typed_config import choose
from partitions.check.catalogue import RULES
from partitions.check.finding import NOTE, SEVERITIES, Finding, Hit, Place
from partitions.check.manifests import copies, manifest_findings
from partitions.check.pictures import Picture, pictures_of
from partitions.check.rules.data_sets import HeldScan
from partitions.check.scans import SubjectScans, open_scans
from partitions.check.subject import header_findings, read_voxels
from partitions.manifest import SiteManifest, SubjectRecord, read_manifest
from partitions.processes import side_by_side
from partitions.site_folders import WITHDRAWN

MOST_PICTURES = 60
"""Subjects shown on a page; the page stays a few megabytes."""

_COPY_RULES = ("copied-scan", "same-voxels")
_READERS = 16
"""Headers read at a time: readers mostly wait for the disk."""
_END = 1 << 16

Progress = Callable[[Iterable["SubjectResult"], int], Iterable["SubjectResult"]]


@dataclass(frozen=True)
class Plan:
    """What to look at.

    Attributes:
        voxels: whether to read every voxel, and not only headers.
        pictures: whether to make pictures of some subjects.
        sequences: the sequences to look at; None for all.
        workers: processes that read voxels at a time.
    """

    voxels: bool = False
    pictures: bool = False
    sequences: tuple[str, ...] | None = None
    workers: int = 1


@dataclass(frozen=True)
class Inspection:
    """What was found.

    Attributes:
        manifests: of the sites whose manifest could be read.
        findings: the worst first.
        pictures: of some subjects, those with findings first; empty unless asked for.
        plan: what was looked at.
    """

    manifests: tuple[SiteManifest, ...]
    findings: tuple[Finding, ...]
    pictures: tuple[Picture, ...]
    plan: Plan

    def count(self, severity: str) -> int:
        """The number of findings of one severity."""
        return sum(finding.severity == severity for finding in self.findings)


@dataclass(frozen=True)
class SubjectTask:
    """One subject whose voxels are to be read.

    Attributes:
        record: the subject.
        root: its site's folder.
        sequences: see `Plan`.
        pictured: whether to make its picture.
        pictured_if_found: whether to make it if its voxels are found wanting.
    """

    record: SubjectRecord
    root: Path
    sequences: tuple[str, ...] | None
    pictured: bool
    pictured_if_found: bool


@dataclass(frozen=True)
class SubjectResult:
    """What the voxels of one subject say; small enough to come back from another process."""

    record: SubjectRecord
    findings: tuple[Finding, ...]
    digests: dict[str, str]
    picture: Picture | None


def inspect(
    folders: Sequence[Path], plan: Plan, progress: Progress, withdrawn: Sequence[Path] = ()
) -> Inspection:
    """Look at every site of a data set; what is wrong with one does not hide the others.

    Args:
        folders: the site folders.
        plan: what to look at.
        progress: wraps the results of the subjects whose voxels are read; told their number.
        withdrawn: folders of sites that have left the data set.

    Raises:
        DataError: no manifest can be read.
        ConfigError: no subject has one of the sequences.
    """
    manifests, found = _read_manifests(folders)
    known = {name for site in manifests for record in site.subjects for name in record.files}
    for name in plan.sequences or ():
        choose(name, known, "--sequences")
    found += [_withdrawn_finding(folder) for folder in withdrawn]
    found += manifest_findings(manifests)
    held = _open_all(manifests, plan.sequences)
    for subject in held:
        found += header_findings(subject)
    found += copies(_equal_files(held))
    results, lost = _read_some(_to_read(manifests, found, plan), plan, progress)
    found += [*chain.from_iterable(result.findings for result in results), *lost]
    found += copies(_equal_voxels(results, manifests))
    ordered = _in_order(found)
    return Inspection(manifests, ordered, _pictures(results, ordered), plan)


def _read_manifests(folders: Sequence[Path]) -> tuple[tuple[SiteManifest, ...], list[Finding]]:
    manifests, errors = [], []
    for folder in folders:
        try:
            manifests.append(read_manifest(folder))
        except UserError as error:
            errors.append(error)
    if not manifests:
        raise errors[0]
    rule = RULES["manifest"]
    return tuple(manifests), [rule.finding(Hit({"reason": error}), Place()) for error in errors]


def _withdrawn_finding(folder: Path) -> Finding:
    hit = Hit({"name": WITHDRAWN})
    return RULES["withdrawn-site"].finding(hit, Place(folder.name, file=str(folder)))


def _open_all(
    manifests: Sequence[SiteManifest], sequences: Collection[str] | None
) -> list[SubjectScans]:
    pairs = [(record, site.root) for site in manifests for record in site.subjects]
    with ThreadPoolExecutor(_READERS) as pool:
        return list(pool.map(lambda pair: open_scans(pair[0], pair[1], sequences), pairs))


def _equal_files(held: Iterable[SubjectScans]) -> Iterator[HeldScan]:
    """Images whose bytes are equal to another one's.

    Only files of one size can be equal, and most of them differ at their ends: few are read whole.
    """
    by_size: dict[int, list[HeldScan]] = defaultdict(list)
    for subject in held:
        for scan in subject.images:
            if scan.file.size:
                where = HeldScan(subject.record, scan.name, str(scan.file.path), "", "bytes")
                by_size[scan.file.size].append(where)
    for same_size in by_size.values():
        for same_ends in _grouped(same_size, _ends_digest):
            for same_bytes in _grouped(same_ends, file_digest):
                yield from same_bytes


def _grouped(
    scans: Sequence[HeldScan], digest: Callable[[Path], str]
) -> Iterator[Sequence[HeldScan]]:
    """The scans that share a digest with another one, group by group."""
    if len(scans) < 2:
        return
    groups: dict[str, list[HeldScan]] = defaultdict(list)
    for scan in scans:
        key = digest(Path(scan.file))
        groups[key].append(HeldScan(scan.record, scan.name, scan.file, key, scan.kind))
    yield from (group for group in groups.values() if len(group) > 1)


def _ends_digest(path: Path) -> str:
    with path.open("rb") as stream:
        start = stream.read(_END)
        stream.seek(-min(_END, path.stat().st_size), 2)
        return hashlib.sha256(start + stream.read()).hexdigest()


def _to_read(
    manifests: Sequence[SiteManifest], found: Sequence[Finding], plan: Plan
) -> list[SubjectTask]:
    """The subjects whose voxels are read: all, or those that are pictured."""
    named = {(one.site, one.subject) for one in found if one.severity != NOTE}
    everyone = [(record, site.root) for site in manifests for record in site.subjects]
    ordered = sorted(everyone, key=lambda pair: (pair[0].site, pair[0].subject) not in named)
    shown = ordered[:MOST_PICTURES] if plan.pictures else []
    chosen = {(record.site, record.subject) for record, _ in shown}
    return [
        SubjectTask(
            record,
            root,
            plan.sequences,
            (record.site, record.subject) in chosen,
            pictured_if_found=plan.pictures,
        )
        for record, root in (everyone if plan.voxels else shown)
    ]


def _read_some(
    tasks: Sequence[SubjectTask], plan: Plan, progress: Progress
) -> tuple[list[SubjectResult], list[Finding]]:
    """The results in the order of the tasks; and a finding where a process was killed."""
    results: dict[tuple[str, str], SubjectResult] = {}
    lost: list[Finding] = []
    try:
        for result in progress(side_by_side(_read_one, tasks, plan.workers), len(tasks)):
            results[result.record.site, result.record.subject] = result
    except (DataError, MemoryError) as error:
        unread = len(tasks) - len(results)
        reason = error if isinstance(error, DataError) else "memory ran out"
        hit = Hit({"reason": reason, "unread": unread, "all": len(tasks)})
        lost = [RULES["process-killed"].finding(hit, Place())]
    order = [(task.record.site, task.record.subject) for task in tasks]
    return [results[key] for key in order if key in results], lost


def _read_one(task: SubjectTask) -> SubjectResult:
    subject = open_scans(task.record, task.root, task.sequences)
    together, found = read_voxels(subject)
    wanted = task.pictured or (task.pictured_if_found and found)
    picture = pictures_of(together) if wanted else None
    return SubjectResult(task.record, tuple(found), dict(together.digests), picture)


def _pictures(results: Iterable[SubjectResult], found: Iterable[Finding]) -> tuple[Picture, ...]:
    """At most `MOST_PICTURES`, those of subjects with errors or warnings first."""
    named = {(one.site, one.subject) for one in found if one.severity != NOTE}
    made = [result.picture for result in results if result.picture is not None]
    made.sort(key=lambda picture: (picture.site, picture.subject) not in named)
    return tuple(made[:MOST_PICTURES])


def _equal_voxels(
    results: Iterable[SubjectResult], manifests: Sequence[SiteManifest]
) -> Iterator[HeldScan]:
    roots = {manifest.site: manifest.root for manifest in manifests}
    for result in results:
        for name, digest in result.digests.items():
            path = roots[result.record.site] / result.record.files[name]
            yield HeldScan(result.record, name, str(path), digest, "voxels")


def _in_order(found: Iterable[Finding]) -> tuple[Finding, ...]:
    """The worst first; a copy that was found by its bytes is not named again for its voxels."""
    seen: dict[tuple[str, ...], Finding] = {}
    for finding in found:
        what = ("copy",) if finding.rule in _COPY_RULES else (finding.rule, finding.sentence)
        seen.setdefault((finding.site, finding.subject, finding.file, *what), finding)
    return tuple(
        sorted(
            seen.values(),
            key=lambda finding: (
                SEVERITIES.index(finding.severity),
                finding.site,
                finding.subject,
                finding.file,
            ),
        )
    )
