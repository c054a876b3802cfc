"""All rules, and the documents' table of them."""

from __future__ import annotations

import re
from typing import Any

from partitions.check.finding import Rule
from partitions.check.rules import data_sets, headers, subjects, voxels

GROUPS: dict[str, tuple[Rule[Any], ...]] = {
    "a file": headers.RULES,
    "a file's voxels": voxels.RULES,
    "a subject": subjects.RULES,
    "a subject's voxels": voxels.TOGETHER,
    "a data set": (*data_sets.RULES, *data_sets.COPIES),
}
"""The rules by what they look at."""

RULES: dict[str, Rule[Any]] = {rule.name: rule for group in GROUPS.values() for rule in group}
"""The rules by name."""


def findings_table() -> str:
    """One row per rule, as a table in Markdown."""
    rows = [
        f"| `{rule.name}` | {seen} | {rule.severity} | {_plain(rule.sentence)} | {rule.remedy} |"
        for seen, group in GROUPS.items()
        for rule in group
    ]
    header = "| finding | looks at | severity | the sentence says | what to do |"
    return "\n".join([header, "|---|---|---|---|---|", *rows])


def _plain(sentence: str) -> str:
    """A sentence without the formats of its details, e.g. ``{value:g}``."""
    return re.sub(r":[^{}]*}", "}", sentence)
