"""``fedi2i provision``: the package ``provision``."""

from __future__ import annotations

from fedi2i.cli.entry import Entry
from fedi2i.commands import Commands


def _add_provision(commands: Commands) -> None:
    from provision.commands import add_commands

    add_commands(commands)


ENTRIES = (
    Entry(
        "provision",
        "make and keep the kits of real sites, try them out here",
        _add_provision,
        (
            *("kits", "check", "add-site", "add-person", "block-person", "renew"),
            *("new-key", "open-model", "allow", "prune", "poc"),
        ),
        stopped="stopped; nothing is left running",
    ),
)
