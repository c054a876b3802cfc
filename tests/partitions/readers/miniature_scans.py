"""Small scans for miniatures of public data sets; every one has voxels of its own."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import yaml
from numpy.typing import NDArray

from partitions.__main__ import main
from partitions.manifest import SiteManifest
from partitions.withdrawn_patients import read_withdrawn, write_withdrawn

SHAPE = (24, 24, 16)
AXIAL = np.diag([-1.0, -1.0, 1.0, 1.0])
SAGITTAL = np.array([[0.0, 0, 1.2, -10], [-0.94, 0, 0, 20], [0, 0.94, 0, -20], [0, 0, 0, 1]])
"""Slices from right to left, as T1 is acquired."""


def write_scan(
    path: Path,
    shape: tuple[int, int, int] = SHAPE,
    affine: NDArray[Any] = AXIAL,
    air: int = 0,
    label: bool = False,
) -> Path:
    """Write a ball of noise in air, or of ones, as int16; the noise is drawn from the path."""
    seed = int(hashlib.sha256(str(path).encode()).hexdigest()[:8], 16)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij")
    inside = x**2 + y**2 + (z / 1.5) ** 2 < 0.7
    noise = np.random.default_rng(seed).normal(400, 60, shape)
    voxels = np.where(inside, 1 if label else noise, air).astype(np.int16)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.Nifti1Image(voxels, affine).to_filename(path)
    return path


def check(out: Path, sequences: str | None = None) -> None:
    """Run ``data check --voxels`` on site folders; it must find no error."""
    only = ("--sequences", sequences) if sequences else ()
    assert main(["check", str(out), "--voxels", "--workers", "1", *only]) == 0


def check_and_prepare(out: Path, *settings: str, sequences: str | None = None) -> None:
    """Run ``data check --voxels`` and ``data prepare``; both must succeed."""
    check(out, sequences)
    given = [part for setting in settings for part in ("--set", setting)]
    assert main(["prepare", "--data", str(out), "--workers", "1", *given]) == 0
    assert list(out.rglob("prepared.json"))


def settings_of(experiment: str) -> list[str]:
    """How an experiment file prepares scans, but for the size, which is of whole scans."""
    path = Path(__file__).parents[3] / "jobs" / "experiments" / f"{experiment}.yaml"
    preparation = yaml.safe_load(path.read_text())["experiment"]["data"]["preparation"]
    given = {name: value for name, value in preparation.items() if name != "size"}
    return [f"{name}={json.dumps(value)}" for name, value in given.items()]


def check_withdrawn_stays_away(bring_in: Callable[[], Sequence[SiteManifest]]) -> None:
    """Import, withdraw a patient of the largest site with the scans, and import again.

    Nothing of that patient may come back, not even on the disk, and nobody else may be in another
    split.
    """
    before = max(bring_in(), key=lambda one: len(one.subjects))
    gone = before.subjects[0]
    kept = {one.subject: one.split for one in before.subjects if one.patient != gone.patient}
    assert (before.root / gone.subject).is_dir()
    assert kept
    shutil.rmtree(before.root / gone.subject)
    write_withdrawn(before.root, read_withdrawn(before.root).with_patient(gone.patient))
    (after,) = (one for one in bring_in() if one.site == before.site)
    assert {one.subject: one.split for one in after.subjects} == kept
    assert not (before.root / gone.subject).exists()
