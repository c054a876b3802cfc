"""``fedi2i data``: the package ``partitions``, and ``withdraw``, which needs a site's kit."""

from __future__ import annotations

from fedi2i.cli.entry import Entry
from fedi2i.commands import Commands
from partitions.readers import reader_names


def _add_data(commands: Commands) -> None:
    from fedi2i.cli.withdraw import add_withdraw
    from partitions.commands import add_commands

    add_commands(commands)
    add_withdraw(commands)


ENTRIES = (
    Entry(
        "data",
        "bring in scans, check and prepare them",
        _add_data,
        (
            *("demo", *reader_names(), "inspect", "check"),
            *("divide", "heterogeneity", "prepare", "withdraw"),
        ),
    ),
)
