"""Why a job ended, where whoever submitted it looks: in what ``nvflare job meta`` shows."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from nvflare.apis.fl_context import FLContext
from nvflare.apis.impl.job_def_manager import SimpleJobDefManager

from app_custom.audit_trail import one_line
from app_custom.nvflare_context import run_folder

REASON = "job_end_reason"
"""The key in a job's meta data, beside its ``status``."""
REASON_FILE = "end_reason.txt"
"""In the folder of a run at the server, and so in the result that is downloaded."""
_MOST_CHARACTERS = 4000


def add_reason(sentence: str, fl_ctx: FLContext) -> None:
    """Add a line to why the running job ends; a full disk, which may be why, leaves it out."""
    path = run_folder(fl_ctx) / REASON_FILE
    with suppress(OSError), path.open("a", encoding="utf-8") as stream:
        stream.write(f"{one_line(sentence, _MOST_CHARACTERS)}\n")


class JobsWithReasons(SimpleJobDefManager):
    """NVFlare's store of jobs, which also tells why a job ended.

    NVFlare 2.9 tells the submitter a status alone, such as ``FINISHED:EXECUTION_EXCEPTION``. It
    stores the folders of a job that has ended before it sets the last status, so that whoever
    waited for the status finds the reason beside it. The server's ``resources.json`` lists this
    class; it works in the server's own process.
    """

    def save_workspace(self, jid: str, data: bytes | str | list[str], fl_ctx: FLContext) -> str:
        """Store what NVFlare stores, and the reason, if there is one, with the job's meta data."""
        reason = _reason_in(data) if isinstance(data, list) else ""
        location = str(super().save_workspace(jid, data, fl_ctx))
        if reason:
            self.update_meta(jid, {REASON: reason}, fl_ctx)
        return location


def _reason_in(folders: list[str]) -> str:
    for folder in folders:
        with suppress(OSError):
            text = (Path(folder) / REASON_FILE).read_text(encoding="utf-8", errors="replace")
            return "; ".join(dict.fromkeys(text.splitlines()))[:_MOST_CHARACTERS]
    return ""
