"""Turn a failed write to the cache into a sentence: which folder, how much room is needed."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel

from fedi2i.errors import DataError
from fedi2i.files import lacks_room
from partitions.manifest import SubjectRecord
from partitions.preparation.configuration import PreparationConfig
from partitions.preparation.inputs import used_files

_BYTES_PER_PIXEL = 6  # source 2, target 2, mask 1, lesion 1
_BYTES_PER_FURTHER_SOURCE = 2


def write_failure(
    error: OSError,
    cache: Path,
    root: Path,
    records: Sequence[SubjectRecord],
    config: PreparationConfig,
) -> DataError:
    """The error to raise after writing to ``cache`` failed."""
    if not lacks_room(error):
        return DataError(
            f"{cache}: cannot be written ({error.strerror or error}); correct its permissions or "
            "choose another cache folder"
        )
    needed = needed_bytes(root, records, config)
    free = shutil.disk_usage(cache).free if cache.is_dir() else 0
    return DataError(
        f"{cache}: no space left on device; preparation needs up to {needed} bytes and {free} are "
        "free: make room or choose another cache folder (subjects already done are kept)"
    )


def needed_bytes(root: Path, records: Sequence[SubjectRecord], config: PreparationConfig) -> int:
    """Upper bound of the room a preparation takes while it runs, in bytes.

    The subjects' files and the joined arrays lie side by side at the end, hence twice the size of
    the arrays. The slice count is bounded by the longest axis of a subject's first scan, read from
    its header.
    """
    load: Any = nibabel.load
    scans = (root / next(iter(used_files(record, config).values())) for record in records)
    slices: int = sum(max(load(scan).shape) for scan in scans)
    rows, columns = config.size
    further = _BYTES_PER_FURTHER_SOURCE * len(config.further_sources)
    return 2 * slices * rows * columns * (_BYTES_PER_PIXEL + further)
