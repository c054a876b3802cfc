"""ADNI as its archive names NIfTI files; a site is the first three digits of the person's number.

``ADNI/002_S_0295/MPR__GradWarp__N3__Scaled/2006-04-18_08_20_30.0/S13408/ADNI_002_S_0295_MR_..._I45108.nii``.
DICOM from the same archive is brought in as DICOM. Access and conditions: https://adni.loni.usc.edu.
"""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from partitions.layouts.folder_walk import files_below, source_folder
from partitions.layouts.found_scans import Found, FoundScan, Recognised, some_of, write_found
from partitions.manifest import SiteManifest
from partitions.readers import Reader

DATASET = "adni"

_FILE = re.compile(
    r"ADNI_(?P<person>(?P<site>\d{3})_S_\d{4,5})_(?P<kind>MR|PT|PET)_(?P<description>.+?)_"
    r"(?:[Bb]r_)?(?:raw_)?\d{14,}.*_I(?P<image>\d+)\.nii(?:\.gz)?"
)
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}_\d{2}_\d{2}_\d{2}.*")
_SEQUENCES = (
    (re.compile(r"FLAIR", re.IGNORECASE), "flair"),
    (re.compile(r"MP-?RAGE|\bMPR\b|MPR[_-]|SPGR", re.IGNORECASE), "t1"),
    (re.compile(r"T2[_-]?(?:STAR|\*)|GRE", re.IGNORECASE), "t2star"),
    (re.compile(r"(?<![A-Z])T2(?!\d)", re.IGNORECASE), "t2"),
)
"""What a description says, in the order in which it is looked at."""
_TRACER = re.compile(r"(?<![A-Z])(FDG|AV-?1451|AV-?45|PIB|FBB)(?![A-Z0-9])", re.IGNORECASE)
"""What a PET shows: glucose, tau or amyloid. Pictures of two tracers are no more alike than of two
MR sequences."""


@dataclass(frozen=True)
class _Image:
    path: Path
    sequence: str
    number: int


def find_adni(source: Path) -> Found:
    """Find the scans of every person and visit.

    Visits of a person are numbered in their order, because the day of a visit tells too much to
    stand in a manifest's names. Of several images of one sequence and visit the one with the
    highest image number is taken: the archive numbers its corrections in the order in which they
    were made.

    A file that lies in no folder of a day is left out: nobody can tell the visits of such apart,
    and images of years between would become a pair.

    Raises:
        DataError: the folder is missing.
    """
    visits, unknown, dayless = _visits(source_folder(source, "the folder 'ADNI' of the archive"))
    scans, further = [], 0
    for person, days in sorted(visits.items()):
        for number, (_, images) in enumerate(sorted(days.items()), start=1):
            files = _latest(images)
            further += len(images) - len(files)
            scans.append(FoundScan(f"{person}_v{number}", person, person[:3], files))
    problems = []
    if further:
        problems.append(f"{further} earlier corrections or repeats of an image are left out")
    if unknown:
        problems.append(
            f"{len(unknown)} images are left out, as their description names no known sequence or "
            f"tracer: {some_of(unknown)}"
        )
    if dayless:
        problems.append(
            f"{len(dayless)} images are left out, as they lie in no folder of their day such as "
            f"'2006-04-18_08_20_30.0', which tells visits apart: {some_of(dayless)}"
        )
    return Found(tuple(scans), tuple(problems))


def import_adni(source: Path, out: Path, seed: int) -> tuple[SiteManifest, ...]:
    """Write the manifests; see `find_adni` and ``write_site_folders``."""
    return write_found(out, DATASET, find_adni(source), seed)


def recognise(folder: Path) -> Recognised | None:
    """What a folder in this layout holds."""
    if not any(_FILE.fullmatch(path.name) for path in files_below(folder)):
        return None
    return Recognised(find_adni(folder), ("--source", str(folder)))


def _visits(source: Path) -> tuple[Mapping[str, Mapping[str, list[_Image]]], list[str], list[str]]:
    """The images of every person by day, and the names of those of no known sequence or day."""
    visits: dict[str, dict[str, list[_Image]]] = defaultdict(lambda: defaultdict(list))
    unknown, dayless = [], []
    for path in files_below(source):
        match = _FILE.fullmatch(path.name)
        if match is None:
            continue
        sequence = _sequence(match["kind"], match["description"])
        if sequence is None:
            unknown.append(path.name)
            continue
        days = [part for part in path.parent.parts if _DAY.fullmatch(part)]
        if not days:
            dayless.append(path.name)
            continue
        image = _Image(path, sequence, int(match["image"]))
        visits[match["person"]][days[-1][:10]].append(image)
    return visits, unknown, dayless


def _sequence(kind: str, description: str) -> str | None:
    if kind != "MR":
        tracer = _TRACER.search(description)
        return None if tracer is None else f"pet_{tracer[1].replace('-', '').lower()}"
    return next((name for pattern, name in _SEQUENCES if pattern.search(description)), None)


def _latest(images: list[_Image]) -> dict[str, Path]:
    return {image.sequence: image.path for image in sorted(images, key=lambda i: i.number)}


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--source", type=Path, required=True, help="the folder ADNI")


READER = Reader(
    help="ADNI as NIfTI, one site per centre",
    add_options=_add_options,
    bring_in=lambda options: import_adni(options.source, options.out, options.seed),
    out=Path("data/adni"),
    layout="files like ADNI_002_S_0295_MR_MPR____N3__Scaled_Br_..._I45108.nii (ADNI)",
    recognise=recognise,
)
