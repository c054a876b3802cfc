"""NVFlare's admin console, driven as a person types: through a terminal, waiting for the prompt."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import termios
import time
from pathlib import Path
from types import TracebackType

from fedi2i.errors import UserError

_CONFIRM = "Confirm with User Name: "
_SURE = "Are you sure (y/N): "
_PROMPT = re.compile(rf"(^|\n)(> |{_CONFIRM}|{re.escape(_SURE)})$")
_SUBMITTED = re.compile(r"Submitted job: ([0-9a-f-]{36})")
_WINDOW = (50, 500)
"""Lines and columns. In a narrow window the line editor scrolls long commands out of sight."""


class ConsoleError(UserError):
    """The console did not answer as expected."""


class AdminConsole:
    """A console session of one user; everything on its screen goes to a transcript.

    Args:
        kit: the user's startup kit; its folder name is the user's name.
        transcript: file for what a person would see.
        environment: environment of the console's process.
    """

    def __init__(self, kit: Path, transcript: Path, environment: dict[str, str]) -> None:
        self._kit = kit
        self._transcript = transcript
        self._environment = {**environment, "TERM": "dumb"}

    def __enter__(self) -> AdminConsole:
        """Start the console and log in."""
        self._terminal, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, _WINDOW)
        self._process = subprocess.Popen(
            ["bash", str(self._kit / "startup" / "fl_admin.sh")],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=self._environment,
            start_new_session=True,
        )
        os.close(theirs)
        self._screen(re.compile(r"User Name: $"))
        self.type(self._kit.name)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Say ``bye``, and make sure that it is gone."""
        try:
            if error is None:
                os.write(self._terminal, b"bye\n")
                self._process.wait(timeout=15)
        except (OSError, subprocess.TimeoutExpired):
            pass
        finally:
            self._process.kill()
            self._process.wait()
            os.close(self._terminal)

    def type(self, command: str, seconds: float = 60.0) -> str:
        """Type a line, and the user's name or yes where the console asks to confirm.

        Returns:
            What the console showed until its next prompt.

        Raises:
            ConsoleError: no prompt within the time.
        """
        os.write(self._terminal, command.encode() + b"\n")
        shown = self._screen(_PROMPT, seconds)
        if shown.endswith(_CONFIRM):
            return self.type(self._kit.name, seconds)
        return self.type("y", seconds) if shown.endswith(_SURE) else shown

    def submit_job(self, job: Path) -> str:
        """``submit_job``; returns the job's id.

        Raises:
            ConsoleError: it was refused, with the console's words.
        """
        shown = self.type(f"submit_job {job.resolve()}")
        found = _SUBMITTED.search(shown)
        if found is None:
            raise ConsoleError(f"submit_job {job.name} was refused: {_words(shown)}")
        return found.group(1)

    def _screen(self, until: re.Pattern[str], seconds: float = 60.0) -> str:
        shown = ""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            ready, _, _ = select.select([self._terminal], [], [], 0.2)
            if not ready:
                continue
            try:
                piece = os.read(self._terminal, 65536).decode(errors="replace")
            except OSError:  # the console is gone; Linux says so with an error
                break
            self._write(piece)
            shown += piece.replace("\r\n", "\n")
            if until.search(shown):
                return shown
        raise ConsoleError(
            f"the admin console of {self._kit.name} did not come back: {_words(shown) or 'silence'}"
        )

    def _write(self, piece: str) -> None:
        with self._transcript.open("a", encoding="utf-8") as file:
            file.write(piece.replace("\r\n", "\n"))


def _words(shown: str) -> str:
    """Screen text as one line, without the command's echo and the prompt."""
    return " ".join(shown.removesuffix("> ").split("\n")[1:]).strip()
