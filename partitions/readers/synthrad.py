"""SynthRAD2023 (NIfTI) and SynthRAD2025 (MHA): MR or cone-beam CT, and the planning CT.

A patient is one folder, called by task (1: MR to CT, 2: CBCT to CT), region, centre and number, as
in ``1BA001``; a site is a centre. Scans of a patient lie on one grid and have a body mask.
Thummerer et al., "SynthRAD2023 Grand Challenge dataset", arXiv:2303.16320, and "SynthRAD2025 Grand
Challenge dataset", arXiv:2502.17609.
"""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from partitions.layouts.folder_walk import files_below, source_folder
from partitions.layouts.found_scans import Found, FoundScan, Recognised, some_of, write_found
from partitions.manifest import SiteManifest
from partitions.readers import Reader

DATASET = "synthrad"
REGIONS = {
    "B": "brain",
    "P": "pelvis",
    "AB": "abdomen",
    "HN": "head and neck",
    "TH": "thorax",
}
SOURCES = {"1": "mr", "2": "cbct"}
"""The sequence that a task's model reads. Its target is the CT."""

_REGIONS_2023 = {"brain", "pelvis"}
_HIGH_2023, _HIGH_2025 = 3000, 3071
"""Upper ends of the window in HU: that of the metric of 2023, and where 2025 is clipped."""

_PATIENT = re.compile(r"(?P<task>[12])(?P<region>B|P|AB|HN|TH)(?P<site>[A-E])\d{3}")
_FILE = re.compile(r"(mr|cbct|ct|mask)\.(?:nii\.gz|nii|mha)")
_SKIPPED = frozenset({"overview", "overviews"})


def find_synthrad(source: Path, task: str | None = None, regions: Collection[str] = ()) -> Found:
    """Find the patients of one task or both; folders called "overview" are passed over.

    Args:
        source: the unpacked releases, or a folder of several, as centre D comes by itself.
        task: ``1`` or ``2``; None for both.
        regions: keys of ``REGIONS``; none for all.

    Raises:
        DataError: the folder is missing.
    """
    files, again = _files(source_folder(source, "the unpacked SynthRAD release"))
    chosen = {
        patient: found
        for patient, found in files.items()
        if (match := _PATIENT.fullmatch(patient))
        and task in (None, match["task"])
        and (not regions or match["region"] in regions)
    }
    return Found(
        tuple(_scan(patient, found) for patient, found in sorted(chosen.items())),
        tuple(_problems(chosen, again)),
    )


def import_synthrad(
    source: Path, out: Path, seed: int, task: str | None = None, regions: Collection[str] = ()
) -> tuple[SiteManifest, ...]:
    """Write the manifests; see `find_synthrad` and ``write_site_folders``."""
    return write_found(out, DATASET, find_synthrad(source, task, regions), seed)


def recognise(folder: Path) -> Recognised | None:
    """What a folder in this layout holds."""
    if not any(_is_scan(path) for path in files_below(folder, _SKIPPED)):
        return None
    found = find_synthrad(folder)
    tasks = {scan.subject[0] for scan in found.scans}
    given = ("--task", *tasks) if len(tasks) == 1 else ()
    return Recognised(found, ("--source", str(folder), *given))


def _is_scan(path: Path) -> bool:
    return bool(_FILE.fullmatch(path.name) and _PATIENT.fullmatch(path.parent.name))


def _files(source: Path) -> tuple[dict[str, dict[str, Path]], list[str]]:
    files: dict[str, dict[str, Path]] = defaultdict(dict)
    again = []
    for path in files_below(source, _SKIPPED):
        match = _FILE.fullmatch(path.name)
        if match is None or not _PATIENT.fullmatch(path.parent.name):
            continue
        if files[path.parent.name].setdefault(match[1], path) != path:
            again.append(str(path))
    return files, again


def _problems(files: Mapping[str, Mapping[str, Path]], again: list[str]) -> list[str]:
    said = []
    if again:
        said.append(f"{len(again)} files are there twice and left out: {some_of(again)}")
    for name, why in (("ct", "as validation inputs do"), ("mask", "the foreground is computed")):
        without = sorted(patient for patient, found in files.items() if name not in found)
        if without:
            said.append(f"{len(without)} patients have no {name} ({why}): {some_of(without)}")
    for patient, found in sorted(files.items()):
        if (wanted := SOURCES[patient[0]]) not in found:
            said.append(f"{patient}: no {wanted}")
    held = {(patient[0], SOURCES[patient[0]]) for patient in files}
    if len(held) > 1:
        said.append("both tasks are there, MR to CT and CBCT to CT; --task 1 or --task 2 takes one")
    return said


def _scan(patient: str, found: Mapping[str, Path]) -> FoundScan:
    match = _PATIENT.fullmatch(patient)
    region, site = (match["region"], match["site"]) if match else ("", "")
    files = {name: path for name, path in found.items() if name != "mask"}
    metadata = {"body_part": REGIONS[region], "task": int(patient[0])}
    return FoundScan(patient, patient, site, files, mask=found.get("mask"), metadata=metadata)


def _settings(manifests: Sequence[SiteManifest]) -> tuple[str, ...]:
    """How such scans are prepared: from MR where there is one, in the window of their year."""
    records = [record for manifest in manifests for record in manifest.subjects]
    of_2023 = all(record.metadata["body_part"] in _REGIONS_2023 for record in records)
    high = _HIGH_2023 if of_2023 else _HIGH_2025
    window = f"{{kind: window, low: -1024, high: {high}, unit: HU}}"
    if any("mr" in record.files for record in records):
        source: tuple[str, ...] = ("source=mr",)
    else:
        source = ("source=cbct", f"source_scaling={window}")
    return (*source, "target=ct", f"target_scaling={window}", "size=[224,288]")


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--source", type=Path, required=True, help="the unpacked release")
    parser.add_argument(
        "--task", choices=tuple(SOURCES), help="1: MR to CT, 2: CBCT to CT; by default both"
    )
    parser.add_argument(
        "--regions", nargs="+", choices=tuple(REGIONS), default=[], help="by default all"
    )


READER = Reader(
    help="SynthRAD2023 and SynthRAD2025, one site per centre",
    add_options=_add_options,
    bring_in=lambda options: import_synthrad(
        options.source, options.out, options.seed, options.task, options.regions
    ),
    out=Path("data/synthrad"),
    settings=_settings,
    layout="folders like 1BA001 with mr, cbct, ct or mask as .nii.gz or .mha (SynthRAD)",
    recognise=recognise,
)
