"""The prepared slices of one subject, and the file that keeps them until all subjects are done.

One file per subject lets an interrupted preparation go on where it stopped.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedi2i.files import replacing
from partitions.manifest import SubjectRecord
from partitions.preparation.configuration import DOMAINS
from partitions.preparation.grids.native_grid import SliceGeometry, geometry_from
from partitions.preparation.intensities import Scale

DAMAGE = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile)
"""What reading a damaged file raises."""


@dataclass(frozen=True)
class SubjectFacts:
    """What is worth knowing of a subject's scans besides their slices.

    Attributes:
        foreground: how the mask was found: ``mask file``, ``threshold`` (Otsu's),
            ``not background`` (a skull-stripped scan) or ``above -500 HU`` (a scan in HU).
        acquired_spacing: voxel edges in mm along the axes of the stored scan; None when unknown.
        acquired_axes: where those axes point to, e.g. ``LPS``.
        findings: warnings and notes of the rules: rule, severity, file and sentence.
        digests: SHA-256 of each image's voxels, by sequence.
        steps: what was done to the voxels besides, as its own record says it: ``registration``, and
            ``bias`` by domain.
    """

    foreground: str
    acquired_spacing: tuple[float, float, float] | None
    acquired_axes: str
    findings: tuple[dict[str, str], ...] = ()
    digests: dict[str, str] = field(default_factory=dict)
    steps: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SubjectSlices:
    """The prepared slices of one subject, all arrays (slices, rows, columns).

    Attributes:
        source: 16-bit levels; divided by 65535 the intensity in [0, 1]. None when the subject has
            no such scan; of several contrasts the first that the subject has.
        target: as ``source``.
        mask: 0 or 1.
        lesion: 0 or 1, or None when the subject has no lesion mask.
        geometry: where the slices lie in the scan.
        scales: the scale of each domain that the subject has.
        spacing: pixel height, pixel width and slice distance in mm, or None when unknown.
        facts: what else is worth knowing.
        further: the contrasts of the source beside the first, by domain, as far as they are there.
        contrasts: the sequences of the source that are there, where preparation reads several.
    """

    source: NDArray[np.uint16] | None
    target: NDArray[np.uint16] | None
    mask: NDArray[np.uint8]
    lesion: NDArray[np.uint8] | None
    geometry: SliceGeometry
    scales: dict[str, Scale]
    spacing: tuple[float, float, float] | None
    facts: SubjectFacts
    further: dict[str, NDArray[np.uint16]] = field(default_factory=dict)
    contrasts: tuple[str, ...] = ()

    @property
    def domains(self) -> tuple[str, ...]:
        """The domains in which the subject has a scan."""
        return tuple(domain for domain in DOMAINS if getattr(self, domain) is not None)


@dataclass(frozen=True)
class SubjectFile:
    """Where the slices of one subject are kept.

    Attributes:
        record: the subject.
        path: ends with ``.npz``.
    """

    record: SubjectRecord
    path: Path

    def write(self, slices: SubjectSlices) -> None:
        """Write the slices; the file appears complete or not at all."""
        known = {name: getattr(slices, name) for name in ("source", "target", "mask", "lesion")}
        arrays = {name: array for name, array in known.items() if array is not None}
        arrays |= slices.further
        facts = {
            "kept": slices.geometry.kept,
            "geometry": slices.geometry.to_json(),
            "scales": {domain: asdict(scale) for domain, scale in slices.scales.items()},
            "spacing": slices.spacing,
            "domains": slices.domains,
            "facts": asdict(slices.facts),
            "further": list(slices.further),
            "contrasts": slices.contrasts,
        }
        with replacing(self.path) as temporary, temporary.open("wb") as stream:
            np.savez(stream, facts=np.array(json.dumps(facts)), **arrays)

    def read_facts(self) -> SubjectFacts | None:
        """Read the facts alone, or None when the file is missing or unreadable."""
        try:
            with np.load(self.path, allow_pickle=False) as arrays:
                return _facts_from(json.loads(str(arrays["facts"]))["facts"])
        except DAMAGE:
            return None

    def read_array(self, name: str) -> NDArray[Any] | None:
        """Read one array, such as ``source`` or ``mask``, alone; None if it is not there.

        Raises:
            OSError: or another of `DAMAGE`: the file is damaged.
        """
        with np.load(self.path, allow_pickle=False) as arrays:
            found: NDArray[Any] | None = arrays.get(name)
            return found

    def read(self) -> SubjectSlices | None:
        """Read the slices, or None when the file is missing or unreadable."""
        try:
            with np.load(self.path, allow_pickle=False) as arrays:
                facts = json.loads(str(arrays["facts"]))
                images = {domain: arrays[domain] for domain in facts["domains"]}
                return SubjectSlices(
                    source=images.get("source"),
                    target=images.get("target"),
                    mask=arrays["mask"],
                    lesion=arrays.get("lesion"),
                    geometry=geometry_from(facts["geometry"], facts["kept"]),
                    scales={name: Scale(**values) for name, values in facts["scales"].items()},
                    spacing=_three(facts["spacing"]),
                    facts=_facts_from(facts["facts"]),
                    further={name: arrays[name] for name in facts.get("further", ())},
                    contrasts=tuple(facts.get("contrasts", ())),
                )
        except DAMAGE:
            return None


def _facts_from(content: dict[str, Any]) -> SubjectFacts:
    return SubjectFacts(
        **{
            **content,
            "acquired_spacing": _three(content["acquired_spacing"]),
            "findings": tuple(content["findings"]),
        }
    )


def _three(values: list[float] | None) -> tuple[float, float, float] | None:
    return None if values is None else (values[0], values[1], values[2])
