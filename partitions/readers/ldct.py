"""TCIA LDCT-and-Projection-data: CT at full and at low dose; each region of the body is a site.

Moen et al., Medical Physics 48 (2021), doi:10.1002/mp.14594. The layout is that of the NBIA
retriever: ``<patient>/<study>/<series>/1-001.dcm``. Neither folders nor files are trusted for more
than to find a patient: series are told apart by their descriptions, slices by their positions.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fedi2i.errors import DataError
from partitions.dicom.conversion import convert_subject
from partitions.dicom.folder import DAMAGED, UNREADABLE, in_silence, read_folder
from partitions.dicom.groups import Group, group
from partitions.layouts.found_scans import Found, FoundScan, Recognised
from partitions.manifest import SiteManifest, SubjectRecord
from partitions.readers import Reader
from partitions.site_folders import TO_BE_DRAWN, write_site_folders

logger = logging.getLogger(__name__)

DATASET = "ldct"
SITES = {"L": "abdomen", "C": "chest", "N": "head"}
"""By the letter of the patient: L (liver), C (chest), N (neuro)."""
DOSES = {"L": 0.25, "C": 0.10, "N": 0.25}
"""Low dose as a part of full dose: a quarter, but a tenth in the chest."""
SEQUENCES = {"low dose images": "ct_low", "full dose images": "ct"}
"""By SeriesDescription in lower case: the release writes ``Low Dose Images`` in several ways."""

CT_SETTINGS = (
    "source=ct_low",
    "target=ct",
    "spacing=null",
    "size=[512,512]",
    "source_scaling={kind: window, low: -1024, high: 3071, unit: HU}",
    "target_scaling={kind: window, low: -1024, high: 3071, unit: HU}",
)
"""What preparation has to be told, so that the HU are kept."""

_PATIENT = re.compile(r"[LCN]\d{3}")


def import_ldct(source: Path, out: Path, seed: int) -> tuple[SiteManifest, ...]:
    """Convert the images of all patients; projections are not read.

    Patients without low-dose images (those of GE scanners) have one sequence, or none.

    Args:
        source: the folder ``LDCT-and-Projection-data``, or one above it.
        out: becomes ``<out>/<region>/<patient>/{ct_low,ct}.nii.gz`` with the manifests.
        seed: of the split by patient within each site.

    Raises:
        DataError: the folder holds no patient, or none can be used; no manifest is written then.
    """
    records: list[SubjectRecord] = []
    problems: list[str] = []
    without_images = 0
    for folder in find_patients(source):
        try:
            chosen = choose_images(folder)
            without_images += not chosen
            records += [_import_patient(folder, chosen, out)] if chosen else []
        except DataError as problem:
            problems.append(str(problem))
            logger.warning("%s is left out: %s", folder.name, problem)
    if not records:
        first = f"; the first: {problems[0]}" if problems else ": there are projections only"
        raise DataError(f"{source}: no patient can be used{first}")
    single = sum(len(record.files) < 2 for record in records)
    if without_images or single:
        logger.warning(
            "%d patients have no images and %d have them at one dose only",
            without_images,
            single,
        )
    return write_site_folders(out, DATASET, records, seed)


def recognise(source: Path) -> Recognised | None:
    """What a folder holds, if a patient's folder is in it; the headers of all images are read."""
    if not any(_patients(source)):
        return None
    scans, problems = [], []
    for folder in find_patients(source):
        try:
            chosen = choose_images(folder)
        except DataError as problem:
            problems.append(str(problem))
            continue
        files = {name: one.first.path for name, one in chosen.items()}
        if files:
            scans.append(FoundScan(folder.name, folder.name, SITES[folder.name[0]], files))
        else:
            problems.append(f"{folder.name}: projections only")
    if not scans:
        return None
    return Recognised(Found(tuple(scans), tuple(problems)), ("--source", str(source)))


def find_patients(source: Path) -> tuple[Path, ...]:
    """The patients' folders in order.

    Raises:
        DataError: there is none.
    """
    if not source.is_dir():
        raise DataError(f"{source}: no such data folder; give 'LDCT-and-Projection-data'")
    found = sorted(_patients(source), key=lambda path: path.name)
    if not found:
        raise DataError(
            f"{source}: no folder of a patient such as 'L004', 'C002' or 'N005' in it; give the "
            "folder 'LDCT-and-Projection-data'"
        )
    return tuple(found)


def _patients(source: Path) -> Iterator[Path]:
    for place, below, _ in os.walk(source):
        patients = [name for name in below if _PATIENT.fullmatch(name)]
        yield from (Path(place, name) for name in patients)
        below[:] = sorted(set(below) - set(patients))


def choose_images(folder: Path) -> dict[str, Group]:
    """The series of a patient by sequence; empty where there are projections only.

    Raises:
        DataError: a file is damaged, two series have one dose, or the headers belong to somebody
            else.
    """
    chosen: dict[str, Group] = {}
    for series in _image_folders(folder):
        found = read_folder(series)
        if not found.left_out.keys().isdisjoint((DAMAGED, UNREADABLE)):
            raise DataError(f"{series}: holds {found.left_out_text()}; copy it again")
        for one in group(found.slices):
            sequence = SEQUENCES.get(_description(one.header()), "")
            if not sequence or not one.is_volume:
                continue
            if sequence in chosen:
                raise DataError(f"{series}: a second series '{sequence}'; keep one of them")
            chosen[sequence] = one
    named = {one.first.patient for one in chosen.values()}
    if chosen and named != {folder.name}:
        raise DataError(
            f"{folder}: its headers belong to patient {', '.join(sorted(named))}; copy the folder "
            "again from its source"
        )
    return chosen


def _import_patient(folder: Path, chosen: Mapping[str, Group], out: Path) -> SubjectRecord:
    site = SITES[folder.name[0]]
    files, metadata = convert_subject(chosen, out / site, folder.name, folder.name)
    metadata["body_part"] = site  # the letter tells it, whatever the headers say
    if "ct_low" in files:
        metadata["low_dose"] = DOSES[folder.name[0]]
    return SubjectRecord(folder.name, site, TO_BE_DRAWN, files, metadata=metadata)


def _image_folders(folder: Path) -> Iterator[Path]:
    """The folders of images; one header tells, as projections are thousands of large files."""
    for place, below, names in os.walk(folder):
        below.sort()
        if names and "projection" not in _first_description(Path(place), names):
            yield Path(place)


def _first_description(folder: Path, names: list[str]) -> str:
    from pydicom import dcmread

    for name in sorted(names):
        try:
            with in_silence():
                tags: list[Any] = ["SeriesDescription"]
                return _description(
                    dcmread(folder / name, stop_before_pixels=True, specific_tags=tags)
                )
        except Exception:  # noqa: BLE001 - see `read_slices`, which counts such files
            continue
    return ""


def _description(header: Any) -> str:
    return str(header.get("SeriesDescription", "")).strip().lower()


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--source", type=Path, required=True, help="the folder LDCT-and-Projection-data"
    )


READER = Reader(
    help="TCIA LDCT-and-Projection-data, one site per region of the body",
    add_options=_add_options,
    bring_in=lambda options: import_ldct(options.source, options.out, options.seed),
    out=Path("data/ldct"),
    settings=CT_SETTINGS,
    layout="folders like L004, C002 or N005 of DICOM series (LDCT-and-Projection-data)",
    recognise=recognise,
)
