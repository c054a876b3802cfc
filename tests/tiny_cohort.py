"""A tiny federation for tests: smooth random shapes whose target is a fixed function of the source.

Nothing here looks like anatomy. It is quick to write, exercises the whole data path, and can be
learnt: a model that has learnt nothing is plainly worse than one that has.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.ndimage import gaussian_filter

from partitions.manifest import SiteManifest, SubjectRecord, read_manifest, write_manifest

SITES = ("north", "east", "south", "west")
UNSEEN = "island"
SHAPE = (32, 32, 6)
SPLITS = ("train", "train", "val", "test")


def write_tiny_cohort(
    folder: Path, sites: tuple[str, ...] = (*SITES, UNSEEN), splits: tuple[str, ...] = SPLITS
) -> Path:
    """Write one folder per site with its manifest, a subject per split; returns ``folder``."""
    for number, site in enumerate(sites):
        records = [
            _write_subject(
                folder / site, site, index, split, np.random.default_rng([number, index])
            )
            for index, split in enumerate(splits)
        ]
        write_manifest(SiteManifest("tiny", site, tuple(records), folder / site, computed=True))
    return folder


def keep_one_domain(site: Path, kept: str) -> None:
    """Take the other sequence away from a site's training subjects."""
    manifest = read_manifest(site)
    subjects = [
        replace(record, files={kept: record.files[kept]}) if record.split == "train" else record
        for record in manifest.subjects
    ]
    write_manifest(replace(manifest, subjects=tuple(subjects)))


def without(site: Path, split: str) -> None:
    """Give a site's subjects of a split to another one."""
    manifest, other = read_manifest(site), "val" if split != "val" else "test"
    subjects = [
        replace(record, split=other if record.split == split else record.split)
        for record in manifest.subjects
    ]
    write_manifest(replace(manifest, subjects=tuple(subjects)))


def _write_subject(
    folder: Path, site: str, index: int, split: str, rng: np.random.Generator
) -> SubjectRecord:
    subject = f"{site}-{index:03d}"
    shapes = gaussian_filter(rng.normal(size=SHAPE), (3, 3, 1))
    shapes = (shapes - shapes.min()) / np.ptp(shapes)
    x, y = np.meshgrid(*(np.linspace(-1, 1, side) for side in SHAPE[:2]), indexing="ij")
    mask = np.repeat((x**2 + y**2 < 0.8)[..., None], SHAPE[2], axis=2)
    images = {"t1": 1000 * shapes * mask, "t2": 1000 * (1 - shapes) * mask, "mask": mask}
    for name, image in images.items():
        path = folder / subject / f"{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(image.astype(np.int16), np.diag([1.5, 1.5, 5.0, 1.0])), path)
    return SubjectRecord(
        subject=subject,
        site=site,
        split=split,
        files={name: f"{subject}/{name}.nii.gz" for name in ("t1", "t2")},
        mask=f"{subject}/mask.nii.gz",
        metadata={"age": 40 + index, "field_strength": 3.0},
    )
