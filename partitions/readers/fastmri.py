"""fastMRI brain: the reconstructions in its HDF5 files; a site is a field strength.

``multicoil_train/file_brain_AXT1_201_6002725.h5`` holds raw data, which are not read, and
``reconstruction_rss`` (slices, rows, columns), which is converted to NIfTI slice by slice.
Contrasts of one person are brought together by ``patient_id``. The files say how large a voxel is
and not where it lies. Zbontar et al., "fastMRI", arXiv:1811.08839.
"""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import nibabel
import numpy as np
from numpy.typing import NDArray

from fedi2i.errors import DataError
from fedi2i.files import replacing
from partitions.layouts.folder_walk import files_below, source_folder
from partitions.layouts.found_scans import (
    Found,
    FoundScan,
    Recognised,
    at_one_site,
    record_of,
    say,
    some_of,
    usable,
)
from partitions.layouts.hdf5_files import opened
from partitions.manifest import SiteManifest, SubjectRecord
from partitions.readers import Reader
from partitions.site_folders import write_site_folders
from partitions.withdrawn_patients import is_withdrawn

DATASET = "fastmri"
IMAGES = "reconstruction_rss"
SEQUENCES = {
    "AXT1": "t1",
    "AXT1PRE": "t1",
    "AXT1POST": "t1gd",
    "AXT2": "t2",
    "AXFLAIR": "flair",
}
"""Acquisitions, and what they are called here; ``AXT1`` and ``AXT1PRE`` are without contrast."""

_NAME = re.compile(r"file_brain_(AX[A-Z0-9]+)_\d+_\d+\.h5")


@dataclass(frozen=True)
class ScanInfo:
    """What one file says of itself.

    Attributes:
        path: the file.
        patient: the person, a code of the data set's own.
        sequence: see ``SEQUENCES``.
        field_strength: in tesla, rounded to 1.5, 3 ...
        edges: of a voxel in mm along columns, rows and slices; the last one is the slice thickness,
            as gaps between slices are not in the files.
    """

    path: Path
    patient: str
    sequence: str
    field_strength: float
    edges: tuple[float, float, float]

    @property
    def site(self) -> str:
        """The field strength as a site's name, e.g. ``1_5T``."""
        return f"{self.field_strength:g}T".replace(".", "_")


def find_fastmri(source: Path) -> Found:
    """Find the persons; a file that cannot be used is named and the others go on.

    Raises:
        DataError: the folder is missing, or the package that reads HDF5 is not installed.
    """
    infos, problems = _infos(source_folder(source, "the folder of the unpacked fastMRI files"))
    persons: dict[tuple[str, str], dict[str, ScanInfo]] = defaultdict(dict)
    again = []
    for info in infos:
        if persons[info.site, info.patient].setdefault(info.sequence, info) is not info:
            again.append(info.path.name)
    if again:
        problems.append(f"{len(again)} repeated scans are left out: {some_of(again)}")
    scans, elsewhere = at_one_site(_scan(files) for files in persons.values())
    if elsewhere:
        problems.append(
            f"{len(elsewhere)} persons were scanned at two field strengths and belong to the site "
            f"where most of their images are: {some_of(elsewhere)}"
        )
    several = sum(len(scan.files) > 1 for scan in scans)
    if several:
        problems.append(
            f"{several} persons have several contrasts, and the files do not say where their "
            "slices lie: look at them, and register them before one is translated into another"
        )
    return Found(scans, tuple(problems))


def read_info(path: Path) -> ScanInfo:
    """Read what a file says of itself; none of its images.

    Raises:
        DataError: it is damaged, or has no reconstruction (as those of the test set), header or
            patient.
    """
    with opened(path) as file:
        if IMAGES not in file:
            raise DataError(f"{path}: has no '{IMAGES}', as files of the test set; leave it out")
        acquisition = str(file.attrs.get("acquisition", ""))
        patient = str(file.attrs.get("patient_id", ""))
        header = file["ismrmrd_header"][()] if "ismrmrd_header" in file else b""
    # The person's code becomes a folder.
    if acquisition not in SEQUENCES or not re.fullmatch(r"[A-Za-z0-9_-]+", patient):
        raise DataError(
            f"{path}: has the acquisition '{acquisition}' of the patient '{patient}'; known are "
            f"{', '.join(SEQUENCES)}"
        )
    strength, edges = _from_header(path, header)
    return ScanInfo(path, patient, SEQUENCES[acquisition], strength, edges)


def import_fastmri(source: Path, out: Path, seed: int) -> tuple[SiteManifest, ...]:
    """Convert the reconstructions and write one manifest per field strength.

    Raises:
        DataError: nothing can be used; no manifest is written then. A person with a damaged file is
            named and left out.
    """
    found = find_fastmri(source)
    records, damaged = usable(found.scans, lambda scan: _import_person(scan, out))
    problems = [*found.problems, *damaged]
    say(problems)
    if not records:
        reason = problems[0] if problems else "no file has a known name"
        raise DataError(f"{source}: no person can be used; {reason}")
    return write_site_folders(out, DATASET, records, seed)


def _import_person(scan: FoundScan, out: Path) -> SubjectRecord:
    """Read all contrasts of a person, then write them: all are there, or none."""
    infos = {name: read_info(path) for name, path in scan.files.items()}
    volumes = {name: _read(info.path) for name, info in infos.items()}
    files = {name: out / scan.site / scan.subject / f"{name}.nii.gz" for name in infos}
    if not is_withdrawn(out / scan.site, scan.patient):
        for name, info in infos.items():
            _write(volumes[name], info, files[name])
    return record_of(replace(scan, files=files), out)


def recognise(folder: Path) -> Recognised | None:
    """What a folder in this layout holds."""
    if not any(_NAME.fullmatch(path.name) for path in files_below(folder)):
        return None
    return Recognised(find_fastmri(folder), ("--source", str(folder)))


def _infos(source: Path) -> tuple[list[ScanInfo], list[str]]:
    infos, problems = [], []
    for path in files_below(source):
        if _NAME.fullmatch(path.name):
            try:
                infos.append(read_info(path))
            except DataError as error:
                if isinstance(error.__cause__, ImportError):
                    raise
                problems.append(str(error))
    return infos, problems


def _from_header(path: Path, header: bytes) -> tuple[float, tuple[float, float, float]]:
    """Field strength and voxel edges from the header, which is XML."""
    try:
        root = ElementTree.fromstring(header)
        strength = _value(root, "systemFieldStrength_T")
        space = next(node for node in root.iter() if node.tag.endswith("}reconSpace"))
        sizes = [_value(_child(space, "fieldOfView_mm"), axis) for axis in "xyz"]
        counts = [_value(_child(space, "matrixSize"), axis) for axis in "xyz"]
        x, y, z = (size / count for size, count in zip(sizes, counts, strict=True))
        if not (strength > 0 and min(x, y, z) > 0):
            raise ValueError("a number that is not positive")
    except (ElementTree.ParseError, StopIteration, ValueError, ZeroDivisionError) as error:
        raise DataError(
            f"{path}: its header has no usable field strength or voxel size ({error}); copy it "
            "again"
        ) from error
    # 1.494 and 2.8936 are what scanners of 1.5 and 3 T write.
    return round(strength * 2) / 2, (x, y, z)


def _child(node: ElementTree.Element, name: str) -> ElementTree.Element:
    return next(found for found in node.iter() if found.tag.endswith(f"}}{name}"))


def _value(node: ElementTree.Element, name: str) -> float:
    return float(_child(node, name).text or "")


def _scan(scans: Mapping[str, ScanInfo]) -> FoundScan:
    first = next(iter(scans.values()))
    return FoundScan(
        subject=first.patient,
        patient=first.patient,
        site=first.site,
        files={name: info.path for name, info in scans.items()},
        metadata={"field_strength": first.field_strength},
    )


def _read(path: Path) -> NDArray[np.float32]:
    """The images of one file, axes (columns, rows, slices).

    Raises:
        DataError: a block of them is damaged, or they are no stack of pictures.
    """
    with opened(path) as file:
        images = file[IMAGES]
        if len(images.shape) != 3:
            raise DataError(f"{path}: '{IMAGES}' has shape {images.shape}, no (slices, rows, cols)")
        return np.asarray(images[()], dtype=np.float32).transpose(2, 1, 0)


def _write(volume: NDArray[np.float32], info: ScanInfo, path: Path) -> None:
    """Write a volume whose header says that the patient's orientation is not known."""
    image: Any = nibabel.Nifti1Image(volume, np.diag([*info.edges, 1.0]))
    image.header.set_xyzt_units("mm", "unknown")
    image.set_sform(None, code=0)
    image.set_qform(None, code=0)
    with replacing(path) as temporary:
        image.to_filename(temporary)


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--source", type=Path, required=True, help="the folder of the .h5 files")


READER = Reader(
    help="fastMRI brain MR, one site per field strength",
    add_options=_add_options,
    bring_in=lambda options: import_fastmri(options.source, options.out, options.seed),
    out=Path("data/fastmri"),
    settings=("spacing=null", "size=[320,320]"),
    layout="files like file_brain_AXT1_201_6002725.h5 (fastMRI)",
    recognise=recognise,
)
