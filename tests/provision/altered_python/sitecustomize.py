"""Python loads this before anything else where the folder is on its search path.

It changes one module of NVFlare when that is imported: with ``MESSAGE_RECORD`` in the environment
as ``message_recorder`` says, with ``COMPROMISED_SITE`` as ``compromised_site`` does.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import os
import sys
from typing import Any


class _Hook(importlib.abc.MetaPathFinder):
    """Patches a module when a process imports it.

    Args:
        patch: module with the name ``PATCHED`` of another, and the function ``patch`` for it.
    """

    def __init__(self, patch: Any) -> None:
        self._patch = patch

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name != self._patch.PATCHED:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec is not None and spec.loader is not None
        true_exec = spec.loader.exec_module

        def exec_module(module: Any) -> None:
            true_exec(module)
            self._patch.patch(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


if "MESSAGE_RECORD" in os.environ:
    import message_recorder

    sys.meta_path.insert(0, _Hook(message_recorder))
if "COMPROMISED_SITE" in os.environ:
    import compromised_site

    sys.meta_path.insert(0, _Hook(compromised_site))
