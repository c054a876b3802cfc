"""One file per prepared subject, so that an interrupted preparation goes on where it stopped."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np

from fedi2i.files import replacing
from partitions.preparation.slices import SubjectSlices


def write_part(path: Path, slices: SubjectSlices) -> None:
    """Write one subject's slices; the file appears complete or not at all."""
    known = {name: getattr(slices, name) for name in ("source", "target", "mask", "lesion")}
    arrays = {name: array for name, array in known.items() if array is not None}
    facts = json.dumps({"kept": slices.kept, "spacing": slices.spacing, "domains": slices.domains})
    with replacing(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, facts=np.array(facts), **arrays)


def read_part(path: Path) -> SubjectSlices | None:
    """Read one subject's slices, or None when the file is missing or unreadable."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            facts = json.loads(str(arrays["facts"]))
            spacing = facts["spacing"]
            images = {domain: arrays[domain] for domain in facts["domains"]}
            return SubjectSlices(
                source=images.get("source"),
                target=images.get("target"),
                mask=arrays["mask"],
                lesion=arrays.get("lesion"),
                kept=tuple(facts["kept"]),
                spacing=None if spacing is None else (spacing[0], spacing[1], spacing[2]),
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
