"""One subject's folder: its volumes, and last a note that it is complete."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fedi2i.files import write_text
from partitions.computed.atlas import Atlas
from partitions.computed.plan import PlannedSubject
from partitions.computed.subject import ComputedSubject, compute_subject
from partitions.computed.volume_file import write_volume
from partitions.manifest import SubjectRecord

NOTE = "computed.json"
"""Written last in each subject's folder; holds what the manifest says of the subject."""

SEQUENCES = ("t1", "t2", "flair")


def write_subject(out: Path, planned: PlannedSubject, atlas: Atlas) -> None:
    """Compute one subject and write its volumes and its note under ``out``."""
    subject = compute_subject(atlas, planned.hospital, planned.seed())
    folder = _folder(out, planned)
    for name, volume in subject.volumes.items():
        write_volume(folder / f"{name}.nii.gz", volume, planned.hospital)
    write_volume(folder / "mask.nii.gz", subject.brain, planned.hospital)
    if subject.lesion.any():
        write_volume(folder / "lesion.nii.gz", subject.lesion, planned.hospital)
    write_text(folder / NOTE, json.dumps(_metadata(planned, subject), indent=1) + "\n")


def read_record(out: Path, planned: PlannedSubject) -> SubjectRecord | None:
    """The subject's manifest record, or None if its folder is not complete."""
    folder = _folder(out, planned)
    try:
        metadata = json.loads((folder / NOTE).read_text(encoding="utf-8"))
        has_lesion = bool(metadata["has_lesion"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    record = SubjectRecord(
        subject=planned.name,
        site=planned.hospital.site,
        split=planned.split,
        files={name: f"{planned.name}/{name}.nii.gz" for name in SEQUENCES},
        mask=f"{planned.name}/mask.nii.gz",
        lesion_mask=f"{planned.name}/lesion.nii.gz" if has_lesion else None,
        metadata=metadata,
    )
    expected = [*record.files.values(), record.mask, record.lesion_mask]
    complete = all((folder.parent / name).is_file() for name in expected if name is not None)
    return record if complete else None


def _folder(out: Path, planned: PlannedSubject) -> Path:
    return out / planned.hospital.site / planned.name


def _metadata(planned: PlannedSubject, subject: ComputedSubject) -> dict[str, Any]:
    hospital = planned.hospital
    protocol = {
        f"{name}_{key}": value
        for name, sequence in zip(
            SEQUENCES, (hospital.t1w, hospital.t2w, hospital.flair), strict=True
        )
        for key, value in asdict(sequence).items()
    }
    return {
        "age": subject.age,
        "field_strength": hospital.field_strength,
        "t1_sequence": type(hospital.t1w).__name__,
        **protocol,
        "has_lesion": bool(subject.lesion.any()),
    }
