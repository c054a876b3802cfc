"""What the map of the project (``fedi2i --help``) says of one command or one group of commands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fedi2i.commands import STOPPED, ArgumentParser, Commands, commands_of, sentence_of


@dataclass(frozen=True)
class Entry:
    """One entry of the map. Its package is imported when the command line names it.

    Attributes:
        name: the word after ``fedi2i``.
        purpose: what it is for, in a few words.
        add: adds the commands: those of the group to the group's, a command of its own to
            ``fedi2i``'s. Imports what it needs.
        members: the commands of a group, known here without importing the package; empty for a
            command of its own.
        stopped: what to say after Ctrl-C.
    """

    name: str
    purpose: str
    add: Callable[[Commands], None]
    members: tuple[str, ...] = ()
    stopped: str = STOPPED

    def add_to(self, parser: ArgumentParser) -> None:
        """Add the command, or the group with its commands, to the parser of ``fedi2i``."""
        commands: Commands = parser.add_subparsers(
            metavar="COMMAND", prog=parser.prog, parser_class=ArgumentParser
        )
        if not self.members:
            self.add(commands)
            return
        group = commands.add_parser(self.name, description=sentence_of(self.purpose))
        self.add(commands_of(group))
