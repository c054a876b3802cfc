"""Records which messages arrive at NVFlare's cells, before anything is refused.

On the search path of a federation's processes it writes, into the folder that ``MESSAGE_RECORD``
names, one file per process with a line per kind of request: channel, topic, kind of sender, kind of
receiver. ``app_custom/participant/allowed_messages.csv`` was made from such records.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

_RECORDED = "nvflare.fuel.f3.cellnet.core_cell"


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


class _Hook(importlib.abc.MetaPathFinder):
    """Patches NVFlare's module when a process imports it."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name != _RECORDED:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec is not None and spec.loader is not None
        true_exec = spec.loader.exec_module

        def exec_module(module: Any) -> None:
            true_exec(module)
            patch(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


if "MESSAGE_RECORD" in os.environ:
    sys.meta_path.insert(0, _Hook())
