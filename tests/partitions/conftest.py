"""Synthetic sites with known content."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from partitions.manifest import SiteManifest, SubjectRecord, write_manifest

SHAPE = (30, 40, 8)
"""Voxels along x (right to left), y (anterior to posterior), z (inferior to superior)."""

LPS = np.diag([-2.0, -2.0, 3.0, 1.0])
"""Voxels of 2 x 2 x 3 mm whose axes run right to left, anterior to posterior, upwards."""


def save(path: Path, data: NDArray[Any], affine: NDArray[Any] = LPS) -> Path:
    """Write one NIfTI file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.Nifti1Image(data, affine).to_filename(path)
    return path


def ellipsoid(shape: tuple[int, int, int] = SHAPE) -> NDArray[np.bool_]:
    """A head-like solid in the middle of the grid that reaches through all slices."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij")
    return np.asarray((x / 0.7) ** 2 + (y / 0.75) ** 2 + (z / 2) ** 2 < 1)


def head(seed: int, shape: tuple[int, int, int] = SHAPE) -> NDArray[np.float32]:
    """Noise of mean 500 inside the ellipsoid, of mean 10 outside."""
    random = np.random.default_rng(seed)
    inside = random.normal(500, 80, shape)
    outside = np.abs(random.normal(10, 3, shape))
    return np.where(ellipsoid(shape), inside, outside).astype(np.float32)


@pytest.fixture
def make_site(tmp_path: Path) -> Callable[..., SiteManifest]:
    """Write a site of synthetic heads and its manifest; four subjects unless told.

    Sites of one shift have the same heads; give a second site of a data set another one.
    """

    def make(
        splits: tuple[str, ...] = ("train", "train", "val", "test"),
        name: str = "A",
        mask: bool = True,
        lesion: bool = False,
        shift: int = 0,
    ) -> SiteManifest:
        root = tmp_path / "data" / name
        records = []
        for number, split in enumerate(splits):
            subject = f"{name}{number}"
            files = {"t1": f"{subject}/t1.nii.gz", "t2": f"{subject}/t2.nii.gz"}
            save(root / files["t1"], head(10 * number + 1 + shift))
            save(root / files["t2"], head(10 * number + 2 + shift))
            extra: dict[str, str] = {}
            if mask:
                extra["mask"] = f"{subject}/mask.nii.gz"
                save(root / extra["mask"], ellipsoid().astype(np.uint8))
            if lesion and number == 0:
                extra["lesion_mask"] = f"{subject}/lesion.nii.gz"
                spot = np.zeros(SHAPE, np.uint8)
                spot[14:17, 19:22, 3:5] = 1
                save(root / extra["lesion_mask"], spot)
            metadata = {"age": 40 + number}
            records.append(SubjectRecord(subject, name, split, files, metadata=metadata, **extra))
        manifest = SiteManifest("synthetic", name, tuple(records), root)
        write_manifest(manifest)
        return manifest

    return make
