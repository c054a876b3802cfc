"""The command ``fedi2i``: a map on one screen, one sentence per mistake, nothing loaded early."""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import fedi2i
from fedi2i.cli.entry import Entry
from fedi2i.cli.program import ENTRIES, main
from fedi2i.commands import READER_GONE, ArgumentParser, commands_of, run_command
from fedi2i.errors import ConfigError

REPOSITORY = Path(fedi2i.__file__).resolve().parents[1]
SCREEN = (24, 80)
HEAVY = {"torch", "monai", "lightning", "pytorch_lightning", "nvflare", "pandas", "matplotlib"}
PACKAGES = ("partitions", "lightning_modules", "jobs", "report", "provision")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of one command line."""
    try:
        code = main(arguments)
    except SystemExit as stopped:
        code = int(stopped.code or 0)
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def commands_of_group(entry: Entry) -> tuple[str, ...]:
    """The commands that a group has when it is loaded."""
    commands = commands_of(ArgumentParser(prog="x"))
    entry.add(commands)
    return tuple(commands.choices)


# --- the map ---


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_the_map_fits_a_screen(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(SCREEN[1]))
    code, printed, error = run(capsys, *arguments)
    assert (code, error) == (0, "")
    lines = printed.splitlines()
    assert len(lines) < SCREEN[0]
    assert max(len(line) for line in lines) <= SCREEN[1]


def test_the_map_goes_in_the_order_of_the_work(capsys: pytest.CaptureFixture[str]) -> None:
    lines = run(capsys, "--help")[1].splitlines()
    named = [line.split()[0] for line in lines if line.startswith("  ") and line[2].isalpha()]
    assert named == [
        *("data", "train", "evaluate", "channels"),
        *("jobs", "compare", "study", "audit", "report", "readers"),
        *("translate", "export", "governance", "provision"),
    ]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_the_map_names_the_commands_that_there_are(entry: Entry) -> None:
    assert commands_of_group(entry) == (entry.members or (entry.name,))


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_every_entry_of_the_map_has_help(entry: Entry, capsys: pytest.CaptureFixture[str]) -> None:
    code, printed, error = run(capsys, entry.name, "--help")
    assert (code, error) == (0, "")
    assert printed.startswith(f"usage: fedi2i {entry.name} ")
    assert all(member in printed for member in entry.members)


def commands_below(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Every command of a parser, and of the groups among them."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield command
                yield from commands_below(command)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_the_help_of_every_command_says_what_it_and_each_of_its_options_does(entry: Entry) -> None:
    parser = ArgumentParser(prog="fedi2i")
    entry.add_to(parser)
    for command in commands_below(parser):
        said = command.description or ""
        assert said[:1].isupper() and said.endswith("."), command.prog
        options = [
            one for one in command._actions if not isinstance(one, argparse._SubParsersAction)
        ]
        assert all(one.help for one in options), command.prog


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_has_the_same_commands_under_its_own_name(
    package: str, capsys: pytest.CaptureFixture[str]
) -> None:
    program = importlib.import_module(f"{package}.__main__").main
    with pytest.raises(SystemExit) as stopped:
        program(["--help"])
    assert stopped.value.code == 0
    printed = capsys.readouterr().out
    assert f"usage: python -m {package} " in printed
    if package != "report":
        commands: argparse._SubParsersAction[argparse.ArgumentParser]
        commands = commands_of(ArgumentParser(prog="x"))
        importlib.import_module(f"{package}.commands").add_commands(commands)
        assert all(f"    {name}" in printed for name in commands.choices)


# --- mistakes ---

MISTAKES = {
    "a misspelt group": (["dta"], "unknown command 'dta'; did you mean 'data'?", "fedi2i"),
    "a misspelt command": (["comprae"], "did you mean 'compare'?", "fedi2i"),
    "a command without its group": (["prepare"], "did you mean 'data prepare' or", "fedi2i"),
    "a command of two groups": (
        ["check"],
        "did you mean 'data check' or 'provision check'?",
        "fedi2i",
    ),
    "a misspelt command without its group": (["prepar"], "or 'readers prepare'?", "fedi2i"),
    "a word like no other": (["qqqq"], "known: data, train, evaluate, channels, jobs,", "fedi2i"),
    "a misspelt option of the program": (["--vresion"], "did you mean '--version'?", "fedi2i"),
    "a misspelt command of data": (["data", "chek"], "did you mean 'check'?", "fedi2i data"),
    "a misspelt command of jobs": (["jobs", "exprt"], "did you mean 'export'?", "fedi2i jobs"),
    "a misspelt command of provision": (
        ["provision", "add-sit"],
        "did you mean 'add-site'?",
        "fedi2i provision",
    ),
    "a misspelt option of a group": (["data", "--hepl"], "did you mean '--help'?", "fedi2i data"),
    "a misspelt option": (
        ["data", "demo", "--sise", "smoke"],
        "unknown option '--sise'; did you mean '--size'?",
        "fedi2i data demo",
    ),
    "a misspelt option where another is required": (
        ["jobs", "export", "fedavg", "--ot=job"],
        "unknown option '--ot'; did you mean '--out'?",
        "fedi2i jobs export",
    ),
    "a shortened option": (
        ["train", "--exp", "x.yaml"],
        "unknown option '--exp'; did you mean '--experiment'?",
        "fedi2i train",
    ),
    "a misspelt choice": (
        ["data", "demo", "--size", "smok"],
        "--size: unknown value 'smok'; did you mean 'smoke'?",
        "fedi2i data demo",
    ),
    "a word for a number": (["data", "demo", "--seed", "x"], "--seed: ", "fedi2i data demo"),
    "an option without its value": (["report", "--"], "folder", "fedi2i report"),
    "one word too many": (["report", "runs/a", "runs/b"], "unexpected 'runs/b'", "fedi2i report"),
    "a group without a command": (
        ["data"],
        "name a command: demo, ",
        "fedi2i data",
    ),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistake_is_one_line_with_code_2_and_says_where_help_is(
    what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, sentence, program = MISTAKES[what]
    code, printed, error = run(capsys, *arguments)
    assert (code, printed) == (2, "")
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert sentence in error
    assert error.endswith(f" (see '{program} --help')\n")


@pytest.mark.parametrize("package", PACKAGES[:3] + PACKAGES[4:])
def test_the_packages_own_programs_name_the_nearest_command_too(
    package: str, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = commands_of(ArgumentParser(prog="x"))
    importlib.import_module(f"{package}.commands").add_commands(commands)
    name = next(iter(commands.choices))
    with pytest.raises(SystemExit) as stopped:
        importlib.import_module(f"{package}.__main__").main([f"{name}x"])
    assert stopped.value.code == 2
    expected = f"error: unknown command '{name}x'; did you mean '{name}'? "
    assert capsys.readouterr().err == f"{expected}(see 'python -m {package} --help')\n"


def test_a_value_may_begin_with_two_dashes_after_a_separator_or_with_spaces() -> None:
    parser = ArgumentParser(prog="x")
    parser.add_argument("--title")
    parser.add_argument("rest", nargs="*")
    assert parser.parse_args(["--title", "-- a title"]).title == "-- a title"
    assert parser.parse_args(["--title=--x"]).title == "--x"
    assert parser.parse_args(["--", "--x"]).rest == ["--x"]


def test_a_user_s_error_and_a_system_s_error_are_sentences_with_code_2(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def mistaken() -> None:
        raise ConfigError("seed: give a number")

    def reading() -> None:
        (tmp_path / "nowhere").read_text()

    assert run_command(mistaken) == 2
    assert capsys.readouterr().err == "error: seed: give a number\n"
    assert run_command(reading) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path / 'nowhere'}: No such file or directory")
    assert error.count("\n") == 1


def test_ctrl_c_ends_with_130_and_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    assert run_command(interrupted, "stopped; nothing is left") == 130
    assert capsys.readouterr().err == "stopped; nothing is left\n"


def test_a_broken_pipe_elsewhere_is_an_error_and_not_a_reader_who_left(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def worker_died() -> None:
        raise BrokenPipeError(32, "Broken pipe")

    assert run_command(worker_died) == 2
    assert "Broken pipe" in capsys.readouterr().err


# --- processes ---


def process(*command: str, stdout: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    """Run a program of ours and wait."""
    return subprocess.run(
        [sys.executable, *command],
        cwd=REPOSITORY,
        env={name: text for name, text in os.environ.items() if name != "PYTHONUNBUFFERED"},
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_load_no_package_of_ours_and_nothing_large(option: str) -> None:
    code = (
        "import sys; from fedi2i.cli.program import main\n"
        f"try: main(['{option}'])\n"
        "except SystemExit: print('LOADED', *sys.modules)"
    )
    loaded = process("-c", code).stdout.split("LOADED")[1].split()
    assert "fedi2i.commands" in loaded
    # The map names the readers of scans, which are files of partitions/readers.
    assert {name for name in loaded if name.startswith("partitions.")} == {"partitions.readers"}
    others = set(PACKAGES) - {"partitions"}
    assert not set(loaded) & {*HEAVY, *others, "omegaconf", "numpy"}


def test_a_group_loads_its_own_package_and_not_the_others() -> None:
    code = (
        "import sys; from fedi2i.cli.program import main\n"
        "try: main(['data', '--help'])\n"
        "except SystemExit: print('LOADED', *sys.modules)"
    )
    loaded = set(process("-c", code).stdout.split("LOADED")[1].split())
    assert "partitions.commands" in loaded
    assert not loaded & {"torch", "monai", "nvflare", "jobs", "report", "provision"}


def test_the_version_is_the_package_s() -> None:
    done = process("-m", "fedi2i", "--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"fedi2i {fedi2i.__version__}\n"


def test_the_exit_code_reaches_the_shell() -> None:
    done = process("-m", "fedi2i", "jobs", "exprt")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("for _ in range(100_000): print('a line of some length')", READER_GONE),
        # Little enough to be written after the command is done.
        ("print('one line')", 0),
    ],
)
def test_a_reader_who_leaves_early_sees_no_traceback(code: str, expected: int) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    program = (
        f"import sys; from fedi2i.commands import run_command\n"
        f"def command():\n    {code}\n"
        f"sys.exit(run_command(command))"
    )
    try:
        done = process("-c", program, stdout=writer)
        shown = process("-m", "fedi2i", "--help", stdout=writer)
    finally:
        os.close(writer)
    assert (done.stderr, shown.stderr) == ("", "")
    assert (done.returncode, shown.returncode) == (expected, 0)


def test_a_reader_who_leaves_an_unbuffered_program_sees_no_traceback() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    program = (
        "import sys; from fedi2i.commands import run_command\n"
        "sys.exit(run_command(lambda: print('a line')))"
    )
    try:
        done = process("-u", "-c", program, stdout=writer)
    finally:
        os.close(writer)
    assert (done.stderr, done.returncode) == ("", READER_GONE)
