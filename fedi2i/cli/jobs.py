"""``fedi2i jobs``, ``compare``, ``study``, ``audit`` and ``governance``: the package ``jobs``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from fedi2i.cli.entry import Entry
from fedi2i.commands import Commands

if TYPE_CHECKING:
    from provision.poc.command_line import JobCommands


def _add_jobs(commands: Commands) -> None:
    from jobs.commands import add_job_commands

    add_job_commands(commands)


def _add_compare(commands: Commands) -> None:
    from jobs.commands.comparison import add_compare

    add_compare(commands)


def _add_study(commands: Commands) -> None:
    from jobs.commands.study import add_study

    add_study(commands, _federation_of)


def _federation_of(kit: Path) -> JobCommands:
    """``nvflare job`` with a person's kit."""
    from provision.poc.command_line import JobCommands

    return JobCommands(kit, dict(os.environ))


def _add_audit(commands: Commands) -> None:
    from jobs.commands.audit import add_audit

    add_audit(commands)


def _add_governance(commands: Commands) -> None:
    from jobs.commands.governance import add_governance

    add_governance(commands)


ENTRIES = (
    Entry(
        "jobs",
        "write NVFlare job folders and simulator workspaces, tune a strategy",
        _add_jobs,
        ("export", "committed", "workspace", "statistics", "tune", "clipping", "epsilon"),
    ),
    Entry("compare", "run all arms of an experiment in the simulator, evaluate them", _add_compare),
    Entry("study", "run all arms with several seeds, whose outcome is named before", _add_study),
    Entry("audit", "attack models trained as a run's, measure what leaks of patients", _add_audit),
)
GOVERNANCE = (
    Entry("governance", "begin the documents of data protection from a run", _add_governance),
)
