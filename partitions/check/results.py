"""What ``check`` says: on the console, as JSON, and as a page."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from fedi2i.html_pages import page_templates
from partitions.check.finding import ERROR, EXIT_CODES, NOTE, SEVERITIES, WARNING, Finding
from partitions.check.inspection import MOST_PICTURES, Inspection
from partitions.check.manifests import data_set_hash
from partitions.manifest import SPLITS, split_counts

VERSION = 1
"""Format of the JSON file."""
MOST_LINES = 20
"""Findings of one rule that the console lists."""


def exit_code(inspection: Inspection) -> int:
    """2 where preparation would refuse the data, else 0."""
    return max((EXIT_CODES[finding.severity] for finding in inspection.findings), default=0)


def summary(inspection: Inspection) -> str:
    """What was looked at, and how many findings there are of each severity."""
    subjects = sum(len(manifest.subjects) for manifest in inspection.manifests)
    depth = "headers and voxels" if inspection.plan.voxels else "headers"
    counts = ", ".join(_counted(inspection.count(name), name) for name in SEVERITIES)
    return f"read the {depth} of {_counted(subjects, 'subject')}: {counts}"


def console_text(inspection: Inspection) -> str:
    """The findings, rule by rule: at most `MOST_LINES` of each, notes only counted."""
    by_rule: dict[str, list[Finding]] = defaultdict(list)
    for finding in inspection.findings:
        by_rule[finding.rule].append(finding)
    lines: list[str] = []
    for rule, findings in by_rule.items():
        if findings[0].severity == NOTE:
            lines.append(f"note     {rule}: {_first_of(findings)}")
            continue
        lines += _lines_of(rule, findings)
    return "\n".join(lines)


def as_json(inspection: Inspection) -> str:
    """Everything as JSON: the sites, and one object per finding."""
    content = {
        "version": VERSION,
        "dataset": inspection.manifests[0].dataset,
        "hash": data_set_hash(inspection.manifests),
        "voxels": inspection.plan.voxels,
        "exit_code": exit_code(inspection),
        "counts": {name: inspection.count(name) for name in SEVERITIES},
        "sites": _sites(inspection),
        "findings": [
            {**finding.as_dict(), "exit_code": EXIT_CODES[finding.severity]}
            for finding in inspection.findings
        ],
    }
    return json.dumps(content, indent=1) + "\n"


def as_page(inspection: Inspection) -> str:
    """A page in HTML that refers to no other file or address."""
    named: dict[tuple[str, str], set[str]] = defaultdict(set)
    for finding in inspection.findings:
        if finding.severity in (ERROR, WARNING):
            named[finding.site, finding.subject].add(finding.rule)
    return (
        page_templates("partitions.check")
        .get_template("check.html")
        .render(
            dataset=inspection.manifests[0].dataset,
            hash=data_set_hash(inspection.manifests),
            summary=summary(inspection),
            voxels=inspection.plan.voxels,
            computed=any(manifest.computed for manifest in inspection.manifests),
            sites=_sites(inspection),
            splits=SPLITS,
            findings=inspection.findings,
            exit_codes=EXIT_CODES,
            exit_code=exit_code(inspection),
            pictures=inspection.pictures,
            named=named,
            most=MOST_PICTURES,
        )
    )


def _sites(inspection: Inspection) -> list[dict[str, Any]]:
    return [
        {
            "site": manifest.site,
            **split_counts(manifest),
            "all": len(manifest.subjects),
            "computed": manifest.computed,
            "hash": manifest.content_hash(),
            "findings": {
                name: sum(
                    finding.severity == name
                    for finding in inspection.findings
                    if finding.site == manifest.site
                )
                for name in SEVERITIES
            },
        }
        for manifest in inspection.manifests
    ]


def _lines_of(rule: str, findings: Sequence[Finding]) -> list[str]:
    """One line per finding; what to do stands once where it is the same for all."""
    remedies = {finding.remedy for finding in findings}
    alike = len(remedies) == 1
    lines = []
    for finding in findings[:MOST_LINES]:
        file = f"{finding.file}: " if finding.file else ""
        text = f"{file}{finding.sentence}" if alike else finding.text()
        lines.append(f"{finding.severity:<8} {_place(finding)}{rule}: {text}")
    if len(findings) > MOST_LINES:
        more = len(findings) - MOST_LINES
        lines.append(f"{'':8} ... and {more} more of {rule}: --json or --page lists all of them")
    return [*lines, f"{'':8} to do: {findings[0].remedy}"] if alike else lines


def _first_of(findings: Sequence[Finding]) -> str:
    others = len(findings) - 1
    return findings[0].text() + (f" (and {_counted(others, 'file')} more)" if others else "")


def _place(finding: Finding) -> str:
    found = "/".join(part for part in (finding.site, finding.subject) if part)
    return f"{found} " if found else ""


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
