"""What our command lines share: how they are read, how a command runs, what a mistake looks like.

A mistake is one sentence that names the nearest known word; there is no traceback.
"""

from __future__ import annotations

import argparse
import os
import select
import sys
from collections.abc import Callable, Iterable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

from fedi2i.errors import ConfigError, UserError

USER_ERROR = 2
INTERRUPTED = 130
READER_GONE = 141
"""What a shell reports for a program whose output nobody reads any more (128 + SIGPIPE)."""
STOPPED = "stopped; the same command goes on from here"

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""What a package's ``add_commands`` adds its commands to."""


class _SubCommands(argparse._SubParsersAction):  # type: ignore[type-arg]  # generic in stubs alone
    """Commands whose own help begins with what the list of commands says of them."""

    def add_parser(self, name: str, **settings: Any) -> Any:
        """Add a command; without a description, its ``help`` is a sentence of its own."""
        purpose = settings.get("help")
        if purpose:
            settings.setdefault("description", sentence_of(purpose))
        return super().add_parser(name, **settings)


class ArgumentParser(argparse.ArgumentParser):
    """Like its parent, with shorter answers to mistakes.

    A mistake ends the program with code 2 and one line, which says where help is found. Options
    cannot be shortened, so that a new option never changes what a script means.
    """

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        settings.setdefault("allow_abbrev", False)
        super().__init__(*arguments, **settings)
        self.register("action", "parsers", _SubCommands)

    def parse_known_args(  # type: ignore[override]  # the parent's overloads say the same
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Read the arguments; what is not known is refused here, where the options are known.

        The parent would first miss what is required, and then report the rest in the name of the
        whole program.
        """
        given = sys.argv[1:] if args is None else list(args)
        self._refuse_unknown_options(given)
        options, left = super().parse_known_args(given, namespace)
        if left:
            self.error(f"unexpected '{left[0]}'")
        return options, left

    def error(self, message: str) -> NoReturn:
        """End the program with one line about a mistake."""
        sentence = message.removeprefix("argument ")
        self.exit(USER_ERROR, f"error: {sentence} (see '{self.prog} --help')\n")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """The parent's check of choices has no public place; its sentence would list them all."""
        if action.choices is None or value in action.choices:
            return
        hint = _nearest(str(value), map(str, action.choices))
        if isinstance(action, argparse._SubParsersAction):
            self.error(f"unknown command '{value}'; {hint}")
        name = "/".join(action.option_strings) or str(action.metavar or action.dest)
        self.error(f"{name}: unknown value '{value}'; {hint}")

    def _refuse_unknown_options(self, arguments: Sequence[str]) -> None:
        own = list(takewhile(lambda text: text != "--", arguments))
        if self._subparsers is not None:
            # What follows a command belongs to the command.
            own = list(takewhile(lambda text: text.startswith("-"), own))
        for text in own:
            option = text.partition("=")[0]
            # A text with spaces is a value for the parent, too.
            if text.startswith("--") and " " not in option:
                known = [name for name in self._option_string_actions if name.startswith("--")]
                if option not in known:
                    self.error(f"unknown option '{option}'; {_nearest(option, known)}")


def sentence_of(purpose: str) -> str:
    """A purpose of a few words as a sentence: ``check a kit`` becomes ``Check a kit.``."""
    return f"{purpose[0].upper()}{purpose[1:]}."


def commands_of(parser: argparse.ArgumentParser) -> Commands:
    """Give a parser commands; used without one of them, it names them all and ends with code 2."""
    commands: Commands = parser.add_subparsers(
        title="commands", metavar="COMMAND", parser_class=ArgumentParser
    )

    def ask(_: argparse.Namespace) -> None:
        parser.error(f"name a command: {', '.join(commands.choices)}")

    parser.set_defaults(run=ask)
    return commands


def parser_of(
    prog: str, description: str | None, add_commands: Callable[[Commands], None]
) -> ArgumentParser:
    """The parser of a program that has the commands of one package.

    Args:
        prog: how the program is called, e.g. ``python -m jobs``.
        description: what it is for.
        add_commands: adds the package's commands.
    """
    parser = ArgumentParser(prog=prog, description=description)
    add_commands(commands_of(parser))
    return parser


def name_and_path(text: str, option: str, example: str) -> tuple[str, Path]:
    """Read an option's ``name=path``.

    Raises:
        ConfigError: one of the two is missing.
    """
    name, separator, path = text.partition("=")
    if not separator or not name or not path:
        raise ConfigError(f"{option} {text}: write {example}")
    return name, Path(path)


def run_program(
    make_parser: Callable[[], ArgumentParser],
    arguments: Sequence[str] | None = None,
    stopped: str = STOPPED,
) -> int:
    """Read a command line and run the command that it names.

    Args:
        make_parser: makes the parser, whose commands set ``run``: a function of the options.
            Called here, so that Ctrl-C while it imports a package ends in a sentence, too.
        arguments: the command line without the program's name; by default the process's own.
        stopped: what to say after Ctrl-C.

    Returns:
        The exit code, see ``run_command``.
    """

    def command() -> None:
        options = make_parser().parse_args(arguments)
        options.run(options)

    return run_command(command, stopped)


def run_command(command: Callable[[], None], stopped: str = STOPPED) -> int:
    """Run a command and say in one sentence why it failed.

    Args:
        command: what to run.
        stopped: what to say after Ctrl-C.

    Returns:
        0 done, 2 a mistake the user can correct, 130 stopped by Ctrl-C, 141 nobody reads the
        output (``| head``).
    """
    try:
        return _exit_code(command, stopped)
    finally:
        _write_out()


def _exit_code(command: Callable[[], None], stopped: str) -> int:
    try:
        command()
    except UserError as error:
        return _refuse(str(error))
    except OSError as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            return READER_GONE
        reason = error.strerror or str(error)
        return _refuse(f"{error.filename or 'data'}: {reason}; check room and permissions there")
    except KeyboardInterrupt:
        print(stopped, file=sys.stderr)
        return INTERRUPTED
    return 0


def _refuse(sentence: str) -> int:
    print(f"error: {sentence}", file=sys.stderr)
    return USER_ERROR


def _nobody_reads() -> bool:
    """Whether the other end of standard output is closed."""
    try:
        output = sys.stdout.fileno()
    except OSError:  # a text in memory, as in tests
        return False
    poll = select.poll()
    poll.register(output, 0)
    return bool(poll.poll(0))


def _write_out() -> None:
    """Write out what was printed, if somebody still reads it."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # Python writes out once more when it ends, and would complain then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _nearest(word: str, known: Iterable[str]) -> str:
    # Imported here: OmegaConf takes longer than a page of help, and most command lines are right.
    from fedi2i.typed_config import nearest

    words = list(known)
    longer = [name for name in words if name.startswith(word)]
    return f"did you mean '{longer[0]}'?" if len(longer) == 1 else nearest(word, words)
