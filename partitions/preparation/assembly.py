"""Join the subjects' files into one array file per split and kind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from fedi2i.errors import DataError
from fedi2i.files import replacing
from partitions.check.rules.data_sets import is_personal
from partitions.manifest import SubjectRecord, with_grouped_age
from partitions.preparation.subject_file import DAMAGE, SubjectFile, SubjectSlices

_IMAGES, _MASKS = ("source", "target"), ("mask", "lesion")


def assemble_split(
    subjects: Sequence[SubjectFile],
    folder: Path,
    size: tuple[int, int],
    further: Sequence[str] = (),
) -> dict[str, Any]:
    """Write the array files of one split; return its entry of ``prepared.json``.

    One subject is in memory at a time. The files are written from front to back and not mapped,
    because writing to a map of a full disk ends the process instead of raising an error.

    Args:
        subjects: the subjects of the split, in the order of the slices.
        folder: where ``source.npy`` ... go.
        size: rows and columns.
        further: the domains of the source beside the first.
    """
    entries, counts, with_lesion, start = [], [], False, 0
    for record, slices in _slices_of(subjects):
        stop = start + len(slices.geometry.kept)
        with_lesion = with_lesion or slices.lesion is not None
        entries.append(
            {"subject": record.subject, "start": start, "stop": stop} | _entry(record, slices)
        )
        counts.append(stop - start)
        start = stop
    known = (*_IMAGES, *further, *_MASKS)
    names = [name for name in known if with_lesion or name != "lesion"]
    for name in names:
        _write_array(folder / f"{name}.npy", name, list(zip(subjects, counts, strict=True)), size)
    return {"arrays": names, "subjects": entries}


def _entry(record: SubjectRecord, slices: SubjectSlices) -> dict[str, Any]:
    """What ``prepared.json`` says of a subject besides where its slices lie."""
    facts = slices.facts
    return {
        "spacing": slices.spacing,
        "slices": slices.geometry.kept,
        "geometry": slices.geometry.to_json(),
        "scales": {domain: asdict(scale) for domain, scale in slices.scales.items()},
        "domains": slices.domains,
        **({"contrasts": slices.contrasts} if slices.contrasts else {}),
        "lesion_mask": slices.lesion is not None,
        "foreground": facts.foreground,
        "acquired": {"spacing": facts.acquired_spacing, "axes": facts.acquired_axes},
        "findings": facts.findings,
        **({"steps": facts.steps} if facts.steps else {}),
        "metadata": with_grouped_age(
            {key: value for key, value in record.metadata.items() if not is_personal(key)}
        ),
    }


def _slices_of(
    subjects: Sequence[SubjectFile],
) -> Iterator[tuple[SubjectRecord, SubjectSlices]]:
    for subject in subjects:
        slices = subject.read()
        if slices is None:
            raise _damaged(subject)
        yield subject.record, slices


def _write_array(
    path: Path, name: str, subjects: Sequence[tuple[SubjectFile, int]], size: tuple[int, int]
) -> None:
    """Join one kind of array of all subjects, each of which comes with its number of slices."""
    kind = np.dtype(np.uint8 if name in _MASKS else np.uint16)
    header = {
        "descr": np.lib.format.dtype_to_descr(kind),
        "fortran_order": False,
        "shape": (sum(count for _, count in subjects), *size),
    }
    with replacing(path) as temporary, temporary.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        for subject, count in subjects:
            try:
                array = subject.read_array(name)
            except DAMAGE as error:
                raise _damaged(subject) from error
            # Arrays of a split run in step, so what a subject lacks takes up room; the record says
            # that it is not there.
            absent = np.zeros((count, *size), kind)
            _append(stream, absent if array is None else array)


def _append(stream: IO[bytes], array: NDArray[Any]) -> None:
    stream.write(array.tobytes())


def _damaged(subject: SubjectFile) -> DataError:
    return DataError(
        f"{subject.path}: damaged after it was written; check the disk and prepare again"
    )
