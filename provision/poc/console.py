"""NVFlare's admin console, driven as a person types: through a terminal, waiting for the prompt."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from types import TracebackType

import pexpect

from fedi2i.errors import UserError

_CONFIRM = "Confirm with User Name: "
_SURE = "Are you sure (y/N): "
_PROMPT = rf"(?:^|\n)(> |{_CONFIRM}|{re.escape(_SURE)})$"
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
        self._terminal = pexpect.spawn(
            "bash",
            [str(self._kit / "startup" / "fl_admin.sh")],
            env=self._environment,
            dimensions=_WINDOW,
            encoding="utf-8",
            codec_errors="replace",
        )
        self._screen("User Name: $")
        self.type(self._kit.name)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Say ``bye``, and make sure that it is gone."""
        if error is None:
            with contextlib.suppress(OSError):  # the console is gone
                self._terminal.sendline("bye")
                self._terminal.expect([pexpect.EOF, pexpect.TIMEOUT], timeout=15)
        self._terminal.close(force=True)

    def type(self, command: str, seconds: float = 60.0) -> str:
        """Type a line, and the user's name or yes where the console asks to confirm.

        Returns:
            What the console showed until its next prompt.

        Raises:
            ConsoleError: no prompt within the time.
        """
        self._terminal.sendline(command)
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

    def _screen(self, until: str, seconds: float = 60.0) -> str:
        """What the console shows until it waits for input, also written to the transcript."""
        came = self._terminal.expect([until, pexpect.EOF, pexpect.TIMEOUT], timeout=seconds) == 0
        screen = f"{self._terminal.before}{self._terminal.after if came else ''}"
        shown = screen.replace("\r\n", "\n")
        with self._transcript.open("a", encoding="utf-8") as file:
            file.write(shown)
        if not came:
            said = _words(shown) or "silence"
            raise ConsoleError(f"the admin console of {self._kit.name} did not come back: {said}")
        return shown


def _words(shown: str) -> str:
    """Screen text as one line, without the command's echo and the prompt."""
    return " ".join(shown.removesuffix("> ").split("\n")[1:]).strip()
