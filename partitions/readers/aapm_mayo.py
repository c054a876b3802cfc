"""AAPM-Mayo 2016 Low Dose CT Grand Challenge: abdominal CT at full and at a quarter of the dose.

McCollough et al., Medical Physics 44 (2017), doi:10.1002/mp.12345. The dose stands nowhere but in
the names of the files (``L067_QD_3_1.CT...IMA``), so there they are read; which slice follows which
is told by the positions in the headers.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from fedi2i.errors import DataError
from partitions.dicom.choice import listed
from partitions.dicom.conversion import convert_subject
from partitions.dicom.folder import read_slices
from partitions.dicom.groups import Group, group
from partitions.dicom.slices import LeftOutError, Slice
from partitions.layouts.found_scans import Found, FoundScan, Recognised
from partitions.manifest import SiteManifest, SubjectRecord
from partitions.readers import Reader
from partitions.readers.ldct import CT_SETTINGS
from partitions.site_folders import TO_BE_DRAWN, write_site_folders

logger = logging.getLogger(__name__)

DATASET = "aapm_mayo"
SITE = "mayo"
LOW_DOSE = 0.25
THICKNESSES = (1, 3)
"""Slices of 1 or 3 mm; both are of the same scans, so that only one may be taken."""

_FILE = re.compile(r"(L\d{3})_(QD|FD)_([13])_\d+\..*\.IMA", re.IGNORECASE)
_SEQUENCES = {"QD": "ct_low", "FD": "ct"}


def import_aapm_mayo(
    source: Path, out: Path, seed: int, thickness: int, kernel: str = ""
) -> tuple[SiteManifest, ...]:
    """Convert the images of all patients of one thickness; they are one site.

    Args:
        source: the folder of the patients, or any above it.
        out: becomes ``<out>/mayo/<patient>/{ct_low,ct}.nii.gz`` with the manifest.
        seed: of the split by patient.
        thickness: one of ``THICKNESSES``.
        kernel: ConvolutionKernel begins with it; needed where the folder holds several.

    Raises:
        DataError: the folder holds no such file, or no patient can be used; no manifest is written.
    """
    records, problems = [], []
    for patient, files in find_files(source, thickness).items():
        try:
            records.append(_import_patient(patient, files, out, source, kernel))
        except DataError as problem:
            problems.append(str(problem))
            logger.warning("%s is left out: %s", patient, problem)
    if not records:
        raise DataError(f"{source}: no patient can be used; the first: {problems[0]}")
    return write_site_folders(out, DATASET, records, seed)


def recognise(source: Path) -> Recognised | None:
    """What a folder holds by the names of its files; no header is read."""
    for thickness in reversed(THICKNESSES):
        try:
            files = find_files(source, thickness)
        except DataError:
            continue
        scans = tuple(
            FoundScan(patient, patient, SITE, {name: paths[0] for name, paths in found.items()})
            for patient, found in files.items()
        )
        arguments = ("--source", str(source), "--thickness", str(thickness))
        return Recognised(Found(scans), arguments)
    return None


def find_files(source: Path, thickness: int) -> dict[str, dict[str, list[Path]]]:
    """The files by patient, then by sequence.

    Raises:
        DataError: there is none of this thickness.
    """
    if not source.is_dir():
        raise DataError(f"{source}: no such data folder; give the folder of the patients")
    found: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for place, below, names in os.walk(source):
        below.sort()
        for name in sorted(names):
            hit = _FILE.fullmatch(name)
            if hit and int(hit[3]) == thickness:
                found[hit[1].upper()][_SEQUENCES[hit[2].upper()]].append(Path(place, name))
    if not found:
        raise DataError(
            f"{source}: no file of {thickness} mm such as 'L067_QD_{thickness}_1.CT....IMA' in it; "
            "correct the path or --thickness"
        )
    return dict(sorted(found.items()))


def _import_patient(
    patient: str, files: Mapping[str, Sequence[Path]], out: Path, source: Path, kernel: str
) -> SubjectRecord:
    chosen = {
        sequence: _only_volume(paths, source, kernel, f"{patient}: '{sequence}'")
        for sequence, paths in sorted(files.items())
    }
    written, metadata = convert_subject(chosen, out / SITE, patient, patient)
    if "ct_low" in written:
        metadata["low_dose"] = LOW_DOSE
    return SubjectRecord(patient, SITE, TO_BE_DRAWN, written, metadata=metadata)


def _only_volume(paths: Sequence[Path], source: Path, kernel: str, what: str) -> Group:
    slices: list[Slice] = []
    for path in paths:
        try:
            slices += read_slices(path, source)
        except LeftOutError as reason:
            raise DataError(f"{path}: {reason}; copy it again from its source") from reason
    fitting = [one for one in group(slices) if one.is_volume and _has_kernel(one, kernel)]
    if len(fitting) != 1:
        found = listed(fitting) or f"none of kernel '{kernel}'"
        raise DataError(f"{what}: one series is needed, found: {found}; give --kernel B30 or D45")
    return fitting[0]


def _has_kernel(one: Group, kernel: str) -> bool:
    found = one.header().get("ConvolutionKernel") or ""
    text = found if isinstance(found, str) else str(found[0])
    return text.lower().startswith(kernel.lower())


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--source", type=Path, required=True, help="the folder of the patients")
    parser.add_argument(
        "--thickness",
        type=int,
        choices=THICKNESSES,
        default=3,
        help="of slices in mm; by default 3",
    )
    parser.add_argument("--kernel", default="", help="e.g. B30, where the folder holds several")


READER = Reader(
    help="the AAPM-Mayo 2016 low-dose CT challenge, one site",
    add_options=_add_options,
    bring_in=lambda options: import_aapm_mayo(
        options.source, options.out, options.seed, options.thickness, options.kernel
    ),
    out=Path("data/aapm_mayo"),
    settings=CT_SETTINGS,
    layout="files like L067_QD_3_1.CT....IMA (AAPM-Mayo low-dose CT challenge)",
    recognise=recognise,
)
