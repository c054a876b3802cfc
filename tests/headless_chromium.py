"""A page in a real browser, the distribution's Chromium, for one look at a time."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="Chromium of the distribution is not installed"
)


@dataclass(frozen=True)
class Look:
    """What a browser made of a page.

    Attributes:
        told: text that a script of the page left in the element ``told``.
        console: what the browser wrote to its console.
    """

    told: str
    console: list[str]


def look_at(page: str, script: str, folder: Path, *options: str) -> Look:
    """Open a page, with a script at its end, in a browser of its own.

    Args:
        page: HTML.
        script: JavaScript that leaves its findings in ``<pre id="told">``.
        folder: for the page and the browser's own files; made where it is missing.
        options: more for the browser.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "page.html"
    path.write_text(page.replace("</body>", f"<script>{script}</script></body>"), "utf-8")
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += ["--enable-logging=stderr", f"--user-data-dir={folder / 'user'}", *options]
    ended = subprocess.run(
        [*command, "--dump-dom", path.as_uri()],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    told = re.search(r'<pre id="told"[^>]*>(.*?)</pre>', ended.stdout, re.DOTALL)
    assert told, ended.stderr
    console = [line for line in ended.stderr.splitlines() if ":CONSOLE" in line]
    return Look(html.unescape(told[1]), console)
