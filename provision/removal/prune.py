"""Take away what a participant no longer uses: prepared slices and the state of former runs.

Preparing data again costs minutes. The state of a run is what it would go on from; a run that is
never started again leaves it for ever.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from app_custom.participant.site_configuration import SiteConfig, read_site_config
from fedi2i.errors import DataError
from partitions.preparation.cache_folders import is_cache, lock_of, nobody_uses, remove_folder

_STATE = re.compile(r"(after-round-\d{5}|finished-rounds)\.pt")
_DAY = 86400.0


@dataclass(frozen=True)
class Leftover:
    """A folder that nothing has used for a while.

    Attributes:
        folder: where it is.
        kind: ``prepared slices`` or ``state of a run``.
        bytes: its size.
        last_used: seconds since 1970.
    """

    folder: Path
    kind: str
    bytes: int
    last_used: float

    @property
    def megabytes(self) -> float:
        """Its size in MB (10^6 bytes)."""
        return self.bytes / 1e6

    @property
    def day(self) -> str:
        """The day of its last use."""
        return f"{datetime.fromtimestamp(self.last_used):%Y-%m-%d}"


def leftovers(workspace: Path, older_than_days: float) -> list[Leftover]:
    """What nothing has used for so many days, the oldest first.

    Args:
        workspace: a kit, or a simulator's workspace, with its ``local/fedi2i.yaml``.
        older_than_days: how long.

    Raises:
        ConfigError: the file is missing or cannot be read.
    """
    config = read_site_config(workspace / "local")
    before = time.time() - older_than_days * _DAY
    folders = [(folder, "prepared slices") for folder in _caches(config)]
    folders += [(folder, "state of a run") for folder in _states(config, workspace)]
    found = [_leftover(folder, kind) for folder, kind in folders]
    return sorted(
        (entry for entry in found if entry.last_used < before), key=lambda entry: entry.last_used
    )


def remove(entry: Leftover) -> bool:
    """Remove a folder and its lock; false where a process is using it.

    Raises:
        OSError: this account may not.
    """
    try:
        with nobody_uses(entry.folder):
            remove_folder(entry.folder)
    except DataError:
        return False
    return True


def is_state(folder: Path) -> bool:
    """Whether a folder holds what a participant keeps of a run, and nothing else."""
    files = list(folder.iterdir()) if folder.is_dir() else []
    return bool(files) and all(_STATE.fullmatch(path.name) for path in files)


def _caches(config: SiteConfig) -> Iterator[Path]:
    """Folders of prepared slices, for all sites that the paths stand for."""
    roots = [config.cache] if config.cache else [f"{d}/prepared" for d in config.datasets.values()]
    for root in roots:
        for folder in _matching(root, "*"):
            if is_cache(folder):
                yield folder


def _states(config: SiteConfig, workspace: Path) -> Iterator[Path]:
    """Folders of runs in every participant's folder of states; nothing else lies in them."""
    for folder in _matching(config.state or str(workspace / "state"), "*/*"):
        if is_state(folder):
            yield folder


def _matching(root: str, below: str) -> list[Path]:
    """What lies below a path in which ``{site}`` stands for any name."""
    path = Path(root.replace("{site}", "*")).expanduser().absolute()
    anchor = Path(path.anchor)
    return sorted(anchor.glob(f"{path.relative_to(anchor)}/{below}"))


def _leftover(folder: Path, kind: str) -> Leftover:
    size, last = 0, folder.stat().st_mtime
    for path in (*folder.rglob("*"), lock_of(folder)):  # every job touches its cache's lock
        with suppress(FileNotFoundError):  # a job may be at work
            stat = path.stat()
            size, last = size + stat.st_size, max(last, stat.st_mtime)
    return Leftover(folder, kind, size, last)
