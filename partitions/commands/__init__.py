"""The commands of ``fedi2i data``."""

from __future__ import annotations

from fedi2i.commands import Commands
from partitions.commands.divide import add_divide
from partitions.commands.heterogeneity import add_heterogeneity
from partitions.commands.layouts import add_inspect
from partitions.commands.manifests import add_check, add_demo, add_readers
from partitions.commands.prepare import add_prepare


def add_commands(commands: Commands) -> None:
    """Add all commands of this package."""
    add_demo(commands)
    add_readers(commands)
    add_inspect(commands)
    add_check(commands)
    add_divide(commands)
    add_heterogeneity(commands)
    add_prepare(commands)
