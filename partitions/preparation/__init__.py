"""Turn one site's scans into arrays that training maps into memory.

Reading a prepared site needs numpy only; MONAI is imported when scans are really prepared.
"""

from partitions.preparation.configuration import PreparationConfig
from partitions.preparation.prepared import (
    PreparedSite,
    PreparedSplit,
    PreparedSubject,
    open_prepared,
)
from partitions.preparation.site import prepare_site

__all__ = [
    "PreparationConfig",
    "PreparedSite",
    "PreparedSplit",
    "PreparedSubject",
    "open_prepared",
    "prepare_site",
]
