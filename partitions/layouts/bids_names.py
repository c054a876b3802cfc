"""What the Brain Imaging Data Structure says in file names and in the JSON file beside a scan.

Gorgolewski et al., "The brain imaging data structure", Scientific Data 3, 2016,
doi:10.1038/sdata.2016.44; https://bids-specification.readthedocs.io.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from partitions.layouts.folder_walk import in_natural_order
from partitions.scans.header import NIFTI

logger = logging.getLogger(__name__)

SEQUENCES = {
    "T1w": "t1",
    "T2w": "t2",
    "FLAIR": "flair",
    "PDw": "pd",
    "T2starw": "t2star",
    "ct": "ct",
    "pet": "pet",
}
"""Suffixes that stand for one volume per subject, and what the sequence is called here."""

_SIDECAR = {
    "Manufacturer": "manufacturer",
    "ManufacturersModelName": "model",
    "MagneticFieldStrength": "field_strength",
}
_NO_MAGNITUDE = ("phase", "real", "imag")


@dataclass(frozen=True)
class BidsName:
    """The parts of a name such as ``sub-01_ses-2_acq-fast_T1w.nii.gz``.

    Attributes:
        entities: label of each entity, e.g. ``{"sub": "01", "ses": "2", "acq": "fast"}``.
        suffix: what kind of file it is, e.g. ``T1w``.
    """

    entities: Mapping[str, str]
    suffix: str

    @property
    def sequence(self) -> str | None:
        """The sequence, ``t1gd`` for a T1 after contrast; None where it is no such image."""
        if self.entities.get("part") in _NO_MAGNITUDE:
            return None
        found = SEQUENCES.get(self.suffix)
        return f"{found}gd" if found and "ce" in self.entities else found


def parse_name(name: str) -> BidsName | None:
    """Read a scan's name; None if it is no NIfTI file named so."""
    ending = next((end for end in reversed(NIFTI) if name.endswith(end)), None)
    if ending is None:
        return None
    *parts, suffix = name.removesuffix(ending).split("_")
    pairs = [part.partition("-") for part in parts]
    if not pairs or pairs[0][0] != "sub" or not all(key and label for key, _, label in pairs):
        return None
    return BidsName({key: label for key, _, label in pairs}, suffix)


def best_of(paths: Iterable[Path]) -> Path:
    """The scan to take of several of one sequence: the fewest entities, then the first run."""
    return min(paths, key=lambda path: (path.name.count("_"), in_natural_order(path.name)))


def sidecar_metadata(scans: Iterable[Path]) -> dict[str, Any]:
    """Manufacturer, model and field strength in tesla from the JSON files beside the scans.

    Where scans of one session differ, the first one counts.
    """
    found: dict[str, Any] = {}
    for scan in scans:
        found = {**_sidecar(scan), **found}
    return found


def _sidecar(scan: Path) -> dict[str, Any]:
    ending = next(end for end in reversed(NIFTI) if scan.name.endswith(end))
    path = scan.with_name(scan.name.removesuffix(ending) + ".json")
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        known = {name: content.get(key) for key, name in _SIDECAR.items()}
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        logger.warning("%s: cannot be read as JSON (%s) and is passed over", path, error)
        return {}
    return {name: value for name, value in known.items() if _is_plain(value)}


def _is_plain(value: Any) -> bool:
    """Whether a value says something and can stand in a manifest: a text or a finite number."""
    if isinstance(value, int | float):
        return bool(value) and math.isfinite(value)
    return isinstance(value, str) and bool(value)
