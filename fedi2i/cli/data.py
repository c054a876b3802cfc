"""``fedi2i data``: the package ``partitions``, and what of it needs a site's kit."""

from __future__ import annotations

from fedi2i.cli.entry import Entry
from fedi2i.commands import Commands
from partitions.readers import reader_names


def _add_data(commands: Commands) -> None:
    from partitions.commands import add_commands
    from provision.withdrawal_command import add_withdraw

    add_commands(commands)
    add_withdraw(commands)


ENTRIES = (
    Entry(
        "data",
        "bring in scans, check and prepare them",
        _add_data,
        ("demo", *reader_names(), "check", "prepare", "withdraw"),
    ),
)
