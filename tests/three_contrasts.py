"""A tiny cohort of three contrasts: smooth random shapes through three different curves.

Every subject of every site has all three on the disk, so that a pair that no site is told to train
on can be measured all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.ndimage import gaussian_filter

from partitions.manifest import SiteManifest, SubjectRecord, write_manifest

CONTRASTS = ("t1", "t2", "flair")
TRAINED = {"north": ("t1", "t2"), "east": ("t1", "flair")}
"""Source and target of the sites that train; nobody holds t2 and flair."""
UNSEEN = "island"
PAIR = ("t2", "flair")
SHAPE = (40, 48, 6)


def write_three_contrasts(folder: Path, sites: Sequence[str] = (*TRAINED, UNSEEN)) -> Path:
    """Write one folder per site with its manifest; returns ``folder``."""
    for number, site in enumerate(sites):
        records = tuple(
            _write_subject(folder / site, index, split, np.random.default_rng([number, index]))
            for index, split in enumerate(("train", "train", "train", "val", "test"))
        )
        write_manifest(SiteManifest("three", site, records, folder / site, computed=True))
    return folder


def _write_subject(folder: Path, index: int, split: str, rng: np.random.Generator) -> SubjectRecord:
    site = folder.name
    subject = f"{site}-{index:03d}"
    shapes = gaussian_filter(rng.normal(size=SHAPE), (3, 3, 1))
    shapes = (shapes - shapes.min()) / np.ptp(shapes)
    x, y = np.meshgrid(*(np.linspace(-1, 1, side) for side in SHAPE[:2]), indexing="ij")
    mask = np.repeat((x**2 + y**2 < 0.8)[..., None], SHAPE[2], axis=2)
    images = {
        "t1": 1000 * shapes * mask,
        "t2": 1000 * (1 - shapes) * mask,
        "flair": 1000 * np.sin(np.pi * shapes**2) * mask,
        "mask": mask,
    }
    for name, image in images.items():
        path = folder / subject / f"{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(image.astype(np.int16), np.diag([1.5, 1.5, 5.0, 1.0])), path)
    return SubjectRecord(
        subject=subject,
        site=site,
        split=split,
        files={name: f"{subject}/{name}.nii.gz" for name in CONTRASTS},
        mask=f"{subject}/mask.nii.gz",
        metadata={},
    )
