"""The commands of ``fedi2i jobs``, ``compare``, ``audit`` and ``governance``."""

from __future__ import annotations

from fedi2i.commands import Commands
from jobs.commands.audit import add_audit
from jobs.commands.clipping import add_clipping
from jobs.commands.comparison import add_compare, add_tune
from jobs.commands.epsilon import add_epsilon
from jobs.commands.governance import add_governance
from jobs.commands.job_folders import add_committed, add_export
from jobs.commands.statistics import add_statistics
from jobs.commands.workspace import add_workspace


def add_commands(commands: Commands) -> None:
    """Add all commands of this package."""
    add_job_commands(commands)
    add_compare(commands)
    add_audit(commands)
    add_governance(commands)


def add_job_commands(commands: Commands) -> None:
    """Add the commands that ``fedi2i jobs`` groups: those without a name of their own."""
    for add in (
        *(add_export, add_committed, add_workspace, add_statistics),
        *(add_tune, add_clipping, add_epsilon),
    ):
        add(commands)
