"""Records which messages arrive at NVFlare's cells, before anything is refused.

It writes, into the folder that ``MESSAGE_RECORD`` names, one file per process with a line per kind
of request: channel, topic, kind of sender, kind of receiver.
``app_custom/participant/allowed_messages.csv`` was made from such records.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

PATCHED = "nvflare.fuel.f3.cellnet.core_cell"


def patch(module: Any) -> None:
    """Look at every message that a cell receives."""
    true_process = module.CoreCell._process_received_msg
    seen: set[str] = set()

    def process(self: Any, endpoint: Any, connection: Any, message: Any) -> None:
        from app_custom.participant.allowed_messages import cell_kind, envelope_of, site_of

        found = envelope_of(message.headers or {})
        asking, asked = found.sender, found.receiver
        if found.is_reply:
            asking, asked = asked, asking
        row = ",".join((found.channel, found.topic, cell_kind(asking), cell_kind(asked)))
        if found.channel and site_of(asking) != site_of(asked) and row not in seen:
            seen.add(row)
            path = Path(os.environ["MESSAGE_RECORD"]) / f"{os.getpid()}.csv"
            with path.open("a", encoding="utf-8") as record:
                record.write(f"{row}\n")
        true_process(self, endpoint, connection, message)

    module.CoreCell._process_received_msg = process
