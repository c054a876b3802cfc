"""A large site of small scans, and what the project's own command needs to prepare it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel
import numpy as np
from process_memory import largest_together

from partitions.check.scans import paths_of
from partitions.manifest import SubjectRecord, read_manifest, write_manifest
from partitions.scans.mask import is_binary
from partitions.site_folders import find_site_folders

COPIED = 4
"""Subjects of each site that are copied, again and again."""


@dataclass(frozen=True)
class Passed:
    """One run of ``fedi2i data prepare``.

    Attributes:
        seconds: of the whole command, from its start to its end.
        mib: largest resident memory of the command and its processes together.
    """

    seconds: float
    mib: float


def lay_out(data: Path, place: Path, subjects: int, step: int) -> int:
    """Write site folders of so many subjects, each a thinned copy with noise of its own.

    Args:
        data: a cohort.
        place: where the site folders go.
        subjects: how many there shall be, shared out to the cohort's sites.
        step: every so many voxels are kept along each axis.

    Returns:
        The number of bytes written.
    """
    sites = [read_manifest(folder) for folder in find_site_folders(data)]
    written = 0
    for index, site in enumerate(sites):
        wanted = len(range(index, subjects, len(sites)))
        chosen = sorted(site.subjects, key=lambda one: one.subject)[:COPIED]
        copies = []
        for number in range(wanted):
            record = chosen[number % len(chosen)]
            name = f"{site.site}-{number:05d}"
            copies.append(_renamed(record, name))
            for path in paths_of(record).values():
                target = place / site.site / name / Path(path).name
                seed = index * subjects + number
                written += _thinned(site.root / path, target, step, seed)
        write_manifest(replace(site, root=place / site.site, subjects=tuple(copies)))
    return written


def prepare(data: Path, settings: Sequence[str], workers: int) -> Passed:
    """Run the command in a process of its own."""
    given = [part for setting in settings for part in ("--set", setting)]
    command = [sys.executable, "-m", "fedi2i", "data", "prepare", "--data", str(data)]
    started = time.perf_counter()
    with subprocess.Popen([*command, "--workers", str(workers), *given]) as process:
        largest = largest_together(process)
    if process.returncode:
        raise SystemExit(f"prepare ended with exit code {process.returncode}")
    return Passed(time.perf_counter() - started, largest / 2**20)


def _renamed(record: SubjectRecord, name: str) -> SubjectRecord:
    """The record of a copy, whose files lie in a folder of its name."""

    def own(path: str | None) -> str | None:
        return None if path is None else f"{name}/{Path(path).name}"

    return replace(
        record,
        subject=name,
        files={sequence: f"{name}/{Path(path).name}" for sequence, path in record.files.items()},
        mask=own(record.mask),
        lesion_mask=own(record.lesion_mask),
        metadata={key: value for key, value in record.metadata.items() if key != "patient_id"},
    )


def _thinned(source: Path, target: Path, step: int, seed: int) -> int:
    """Write every ``step``-th voxel; an image gets noise up to a hundredth of its largest value.

    Voxels keep their size, as thick ones would be refused.
    """
    image = nibabel.load(source)
    voxels = np.asarray(image.dataobj)[::step, ::step, ::step]
    if not is_binary(voxels):
        noise = np.random.default_rng(seed).random(voxels.shape) * voxels.max() / 100
        voxels = np.where(voxels > 0, voxels + noise, voxels)
    target.parent.mkdir(parents=True, exist_ok=True)
    nibabel.Nifti1Image(voxels.astype(image.get_data_dtype()), image.affine).to_filename(target)
    return target.stat().st_size
