"""One file per command of ``fedi2i data``; each has ``add_to`` and ``run``."""

from __future__ import annotations

from fedi2i.commands import Commands
from partitions.commands import check, csv_table, demo, lgg, prepare


def add_commands(commands: Commands) -> None:
    """Add all commands of this package."""
    for module in (demo, csv_table, lgg, check, prepare):
        module.add_to(commands)
