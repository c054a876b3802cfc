"""``fedi2i report`` and ``fedi2i readers``: the package ``report``."""

from __future__ import annotations

from fedi2i.cli.entry import Entry
from fedi2i.commands import Commands


def _add_report(commands: Commands) -> None:
    from report.commands import add_commands

    add_commands(commands)


def _add_readers(commands: Commands) -> None:
    from report.readers.commands import add_commands

    add_commands(commands)


ENTRIES = (
    Entry("report", "write tables, figures and a page from a run's files", _add_report),
    Entry(
        "readers",
        "let people judge pictures, blinded: a reader study",
        _add_readers,
        ("prepare", "score"),
    ),
)
