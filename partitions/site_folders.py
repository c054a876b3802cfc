"""Find the site folders of a data set on disk."""

from __future__ import annotations

import os
from pathlib import Path

from fedi2i.errors import DataError
from partitions.manifest import FILE_NAME


def find_site_folders(root: Path) -> tuple[Path, ...]:
    """The folders at or below ``root`` that hold a manifest, in order of their names.

    Nothing below a site folder is searched, and hidden folders are not entered.

    Raises:
        DataError: the folder is missing, or holds no manifest.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such data folder; correct the path")
    found = []
    for folder, below, files in os.walk(root):
        if FILE_NAME in files:
            found.append(Path(folder))
            below.clear()
        below[:] = sorted(name for name in below if not name.startswith("."))
    if not found:
        raise DataError(
            f"{root}: no {FILE_NAME} in it or below; import the data with 'python -m partitions' "
            "first (see docs/data.md)"
        )
    return tuple(found)
