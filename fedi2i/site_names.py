"""What a site may be called, the same wherever a site is named."""

from __future__ import annotations

import re
from collections.abc import Iterable

from fedi2i.errors import ConfigError

ALL_SITES = "all"
"""Stands in the place of a site's name for the mean over all sites."""
SERVER = "server"
"""Stands in the place of a site's name for what belongs to the server."""
RESERVED = (ALL_SITES, SERVER)

_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def check_site_name(name: str, where: str) -> None:
    """Refuse a name that no site can have.

    Names become folders, NVFlare joins them with dots, and run files use the reserved ones.

    Args:
        name: the name.
        where: the file, row or key it comes from, for the message.

    Raises:
        ConfigError: naming the place, the name and what is allowed.
    """
    if not _PATTERN.fullmatch(name):
        raise ConfigError(
            f"{where}: site '{name}' cannot be used as a name; use letters, digits, '-' and '_', "
            "beginning with a letter or digit"
        )
    if name.lower() in RESERVED:
        raise ConfigError(
            f"{where}: a site cannot be called '{name}', because '{name.lower()}' has a meaning of "
            "its own in run files; choose another name"
        )


def check_site_names(names: Iterable[str], where: str) -> None:
    """Check several names, which must also differ by more than upper and lower case.

    Raises:
        ConfigError: see ``check_site_name``; or two names are equal but for case, so that their
            folders would be the same on some machines.
    """
    seen: dict[str, str] = {}
    for name in names:
        check_site_name(name, where)
        other = seen.setdefault(name.lower(), name)
        if other != name:
            raise ConfigError(
                f"{where}: sites '{other}' and '{name}' differ in upper and lower case alone; "
                "give one of them another name, or spell both alike if they are one site"
            )
