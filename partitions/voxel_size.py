"""Whether a subject's voxel size is known; nothing is invented for data that came without one.

A NIfTI header always holds three numbers in its voxel size field, so "unknown" must be said
elsewhere: in the subject's metadata, by the reader that imported the scans.
"""

from __future__ import annotations

from partitions.manifest import SubjectRecord

KEY = "voxel_size"
UNKNOWN = "unknown"


def is_known(record: SubjectRecord) -> bool:
    """False when the reader that imported the scans found no voxel size in them."""
    return record.metadata.get(KEY) != UNKNOWN
