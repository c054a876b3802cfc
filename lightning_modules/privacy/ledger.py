"""The ledger: every noisy release of a site, for as long as the site keeps its data.

A line is appended and on the disk before the noise is drawn: a round that began is a round that was
spent, also after a crash. Lines hold events and no epsilon, so that a better accountant can count
them again. Each line carries the digest of the one before. A second file, the anchor, holds the
number of lines and the digest of the last one: a ledger that does not extend its anchor is an older
copy, and the site spends nothing until a person has looked. Whoever may write both files can of
course defeat both.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

from fedi2i.digest import digest
from fedi2i.epsilon import epsilon_text, with_verdict
from fedi2i.errors import ConfigError, DataError
from fedi2i.files import write_text
from lightning_modules.privacy.accountant import Release, check_delta, epsilon

FORMAT = 1
_GENESIS = "0" * 64
BEGUN = "begun"
RELEASED = "released"


class BudgetSpentError(ConfigError):
    """The next release would spend more than the site's budget."""


@dataclass(frozen=True)
class Budget:
    """The most that a site spends over all jobs.

    Attributes:
        epsilon: the most epsilon.
        delta: the delta at which epsilon is computed.
    """

    epsilon: float
    delta: float

    def __post_init__(self) -> None:
        """Refuse a budget that bounds nothing.

        Raises:
            ConfigError: it does.
        """
        if not 0 < self.epsilon < float("inf"):
            raise ConfigError(f"epsilon is {self.epsilon}; write a budget above 0 and finite")
        check_delta(self.delta)


@dataclass(frozen=True)
class Event:
    """What is released, by which mechanism, about whom.

    Attributes:
        job: the run that asks.
        round_number: its round.
        mechanism: ``update`` (everything that the site holds is the unit) or ``patient``.
        releases: what the accountant counts.
        clipping: network to clipping norm C.
        data: digest of the training patients; a folder under another name has the same.
        simulated: whether the site is one of a simulator run, whose ledger ends with the run.
    """

    job: str
    round_number: int
    mechanism: str
    releases: tuple[Release, ...]
    clipping: Mapping[str, float] = field(default_factory=dict)
    data: str = ""
    simulated: bool = False


@dataclass(frozen=True)
class Spent:
    """What a release cost.

    Attributes:
        sequence: the number of its line.
        epsilon_round: the epsilon of this event alone.
        epsilon_total: the epsilon of everything in the ledger, this event included.
    """

    sequence: int
    epsilon_round: float
    epsilon_total: float

    def told(self, budget: Budget) -> str:
        """What it cost and what is left of a budget, in one line."""
        return (
            f"epsilon {epsilon_text(self.epsilon_round)}; in total epsilon "
            f"{epsilon_text(budget.epsilon)} may be spent at delta {budget.delta:g}, and spent is "
            f"{with_verdict(self.epsilon_total)}"
        )


@dataclass
class _Content:
    """What a ledger holds.

    Attributes:
        lines: the whole lines.
        end: their length in bytes.
        torn: whether a crash left a line without its end behind them.
    """

    lines: list[dict[str, Any]] = field(default_factory=list)
    end: int = 0
    torn: bool = False


class Ledger:
    """A site's ledger on disk.

    Args:
        path: the file, one JSON object a line.
        anchor: the file that the ledger must extend; keep it where the ledger's backups are not.
    """

    def __init__(self, path: Path, anchor: Path) -> None:
        self._path = path
        self._anchor = anchor

    def spend(self, event: Event, budget: Budget) -> Spent:
        """Write an event down as begun, if the budget allows it.

        Where a crash tore the last line, what it was writing counts as another such event.

        Raises:
            BudgetSpentError: it does not; the event is not written.
            DataError: the ledger is damaged, older than its anchor, missing, or cannot be written.
        """
        with self._locked():
            found = self._verified()
            if found.torn:
                self._append(found, _line_of(event, recovered=True))
            before = _releases(found.lines)
            total = epsilon([*before, *event.releases], budget.delta)
            if not total <= budget.epsilon:
                raise BudgetSpentError(_refusal(before, total, budget, self._path))
            sequence = self._append(found, _line_of(event, recovered=False))
            return Spent(sequence, epsilon(event.releases, budget.delta), total)

    def released(self, sequence: int) -> None:
        """Note that the answer of an event has left the site; it changes no epsilon.

        Raises:
            DataError: see ``spend``; or the ledger has no such event.
        """
        with self._locked():
            found = self._verified()
            if not any(x["sequence"] == sequence and x["state"] == BEGUN for x in found.lines):
                raise DataError(f"{self._path}: no event {sequence} was begun")
            self._append(found, {"state": RELEASED, "event": sequence})

    def epsilon(self, delta: float) -> float:
        """The epsilon of everything in the ledger.

        Raises:
            DataError: see ``spend``.
        """
        with self._locked():
            return epsilon(_releases(self._verified().lines), delta)

    def events(self) -> list[dict[str, Any]]:
        """All lines, for reports and for whoever counts again.

        Raises:
            DataError: see ``spend``.
        """
        with self._locked():
            return self._verified().lines

    def discard(self) -> None:
        """Begin anew: for a simulated site, whose ledger belongs to one run."""
        with self._locked():
            self._path.unlink(missing_ok=True)
            self._anchor.unlink(missing_ok=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self._path.with_name(self._path.name + ".lock")):
            yield

    def _verified(self) -> _Content:
        count, head = self._anchored()
        content = _content(self._path)
        if content is None:
            if count == 0:
                return _Content()
            raise DataError(
                f"{self._path}: missing, and its anchor {self._anchor} says that {count} lines "
                "were written; put the ledger back, the site releases nothing without it"
            )
        *whole, rest = content.split(b"\n")
        lines = [_parsed(text, number, self._path) for number, text in enumerate(whole)]
        _check_chain(lines, self._path)
        if len(lines) < count or (count and lines[count - 1]["digest"] != head):
            raise DataError(
                f"{self._path}: older than its anchor {self._anchor}, which counts {count} lines; "
                "put the newest ledger back, the site releases nothing with this one"
            )
        return _Content(lines, len(content) - len(rest), bool(rest))

    def _anchored(self) -> tuple[int, str]:
        if not self._anchor.exists():
            if self._path.exists():
                raise DataError(
                    f"{self._anchor}: missing, so that nobody can tell whether {self._path} is the "
                    "newest ledger; put the anchor back"
                )
            return 0, _GENESIS
        try:
            found = json.loads(self._anchor.read_text(encoding="utf-8"))
            return int(found["lines"]), str(found["digest"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{self._anchor}: damaged; put the anchor back") from error

    def _append(self, found: _Content, entry: dict[str, Any]) -> int:
        """Append a line; it is on the disk, and so is the anchor, when this returns its number."""
        if not found.lines:
            self._write_anchor(found)
        line = {
            "format": FORMAT,
            "sequence": len(found.lines),
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            **entry,
            "previous": found.lines[-1]["digest"] if found.lines else _GENESIS,
        }
        line["digest"] = digest(line)
        text = json.dumps(line, sort_keys=True).encode() + b"\n"
        try:
            _write_at(self._path, found.end, text)
        except OSError as error:
            raise DataError(
                f"{self._path}: cannot be written ({error.strerror}); the site releases nothing "
                "that is not in its ledger"
            ) from error
        found.lines.append(line)
        found.end += len(text)
        self._write_anchor(found)
        return int(line["sequence"])

    def _write_anchor(self, found: _Content) -> None:
        head = found.lines[-1]["digest"] if found.lines else _GENESIS
        write_text(self._anchor, json.dumps({"lines": len(found.lines), "digest": head}) + "\n")


def _line_of(event: Event, *, recovered: bool) -> dict[str, Any]:
    # As JSON gives it back: the digest of what was read must be the digest of what was written.
    fields: dict[str, Any] = json.loads(json.dumps(asdict(event)))
    return {"state": BEGUN, "recovered": recovered, **fields}


def _releases(lines: Sequence[Mapping[str, Any]]) -> list[Release]:
    return [Release(**r) for line in lines if line["state"] == BEGUN for r in line["releases"]]


def _refusal(before: Sequence[Release], after: float, budget: Budget, path: Path) -> str:
    now = epsilon(before, budget.delta)
    return (
        f"{path}: the budget is epsilon {budget.epsilon:g} at delta {budget.delta:g}; {now:.4g} is "
        f"spent and this round would make it {after:.4g}; take no further part, or let the site's "
        "administrator raise the budget in its own file"
    )


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


def _parsed(text: bytes, number: int, path: Path) -> dict[str, Any]:
    try:
        line = json.loads(text)
    except ValueError as error:
        raise DataError(_damage(path, number)) from error
    if not isinstance(line, dict):
        raise DataError(_damage(path, number))
    return line


def _check_chain(lines: Sequence[Mapping[str, Any]], path: Path) -> None:
    previous = _GENESIS
    for number, line in enumerate(lines):
        content = {key: value for key, value in line.items() if key != "digest"}
        linked = line.get("previous") == previous and line.get("sequence") == number
        if not linked or line.get("digest") != digest(content):
            raise DataError(_damage(path, number))
        if line.get("format") != FORMAT:
            raise DataError(f"{path}: line {number + 1} was written by another release")
        previous = str(line["digest"])


def _damage(path: Path, number: int) -> str:
    return (
        f"{path}: line {number + 1} is damaged or was changed; put the newest copy of the ledger "
        "back, the site releases nothing with this one"
    )


def _write_at(path: Path, end: int, line: bytes) -> None:
    """Write a line behind the whole ones, over a torn one, and wait until the disk has it."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.ftruncate(handle, end)
        if os.pwrite(handle, line, end) != len(line):
            os.ftruncate(handle, end)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(handle)
    finally:
        os.close(handle)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
