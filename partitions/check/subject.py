"""Hold one subject's scans against the rules: what ``check`` and the preparation have in common."""

from __future__ import annotations

from partitions.check.catalogue import RULES
from partitions.check.finding import Finding, Hit, apply
from partitions.check.rules import headers, subjects, voxels
from partitions.check.scans import ScanVoxels, SubjectScans, SubjectVoxels
from partitions.scans.volume import DamagedScanError, read_volume


def header_findings(subject: SubjectScans) -> list[Finding]:
    """What is wrong with a subject's files as far as their headers."""
    of_files = [
        finding
        for scan in subject.scans.values()
        for finding in apply(headers.RULES, scan, scan.place)
    ]
    return [*of_files, *apply(subjects.RULES, subject, subject.place)]


def read_voxels(subject: SubjectScans) -> tuple[SubjectVoxels, list[Finding]]:
    """Read the voxels of a subject's files, and what is wrong with them.

    Files whose header cannot be used are passed over: `header_findings` names them.
    """
    found: list[Finding] = []
    read: dict[str, ScanVoxels] = {}
    for name, scan in subject.scans.items():
        if scan.header is None or not scan.header.is_readable:
            continue
        try:
            read[name] = ScanVoxels(scan, read_volume(scan.file))
        except DamagedScanError as damage:
            hit = Hit({"reason": damage})
            found.append(RULES["damaged"].finding(hit, scan.place))
            continue
        found += apply(voxels.RULES, read[name], scan.place)
    digests = {name: one.volume.digest() for name, one in read.items() if not one.scan.is_mask}
    together = SubjectVoxels(subject.record, read, digests)
    return together, [*found, *apply(voxels.TOGETHER, together, subject.place)]
