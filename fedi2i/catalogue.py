"""Catalogues: packages in which every file is one member, found by walking the package."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from types import ModuleType
from typing import Any

INFRASTRUCTURE = frozenset({"catalogue", "interface"})
"""Modules of such a package that are no members: what a member offers, and the list of them."""


def members(package: ModuleType, name: str) -> dict[str, Any]:
    """What every file of a package offers under one name, by file name in alphabetical order.

    Packages inside it are passed over.

    Args:
        package: the package; its files are imported.
        name: the constant that each file defines, e.g. ``METRIC``.

    Raises:
        AttributeError: a file does not define it.
    """
    modules = pkgutil.iter_modules(package.__path__)
    files = sorted(module.name for module in modules if not module.ispkg)
    return {
        file: getattr(import_module(f"{package.__name__}.{file}"), name)
        for file in files
        if file not in INFRASTRUCTURE
    }
