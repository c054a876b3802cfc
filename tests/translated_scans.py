"""Tiny tasks of translation, and heads on an oblique grid to translate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from dicom_series import lps
from numpy.typing import NDArray

from lightning_modules.configuration import ExperimentConfig, experiment_from

SHAPE = (28, 30, 12)
"""Columns, rows, slices."""
HU = {"kind": "window", "low": -1024.0, "high": 3071.0, "unit": "HU"}
TASKS: dict[str, dict[str, Any]] = {
    "cbct:ct": {"source": "cbct", "target": "ct", "source_scaling": HU, "target_scaling": HU},
    "t1:ct": {"source": "t1", "target": "ct", "target_scaling": HU},
    "t1:t2": {"source": "t1", "target": "t2"},
}
RAS = np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps("oblique")

MakeModel = Callable[..., Path]


def experiment_of(task: str, norm: str = "instance", **preparation: Any) -> ExperimentConfig:
    """A tiny experiment of a task, on the pixel grid of the scans unless told otherwise."""
    values = {
        "preset": "synthrad2023" if task.endswith(":ct") else "mr",
        "data": {"preparation": {"size": [32, 32], "spacing": None, **TASKS[task], **preparation}},
        "model": {
            "generator": {"channels": [8, 16], "norm": norm},
            "discriminator": {"channels": 8, "layers": 2},
        },
    }
    return experiment_from(values, "test")


def head(modality: str, seed: int = 0) -> NDArray[np.float32]:
    """A solid in the middle that reaches through all slices: HU with air around it, or MR."""
    random = np.random.default_rng(seed)
    x, y = np.meshgrid(*(np.linspace(-1, 1, side) for side in SHAPE[:2]), indexing="ij")
    inside = np.repeat((x**2 + y**2 < 0.6)[..., None], SHAPE[2], axis=2)
    if modality == "CT":
        return np.where(inside, random.integers(0, 1500, SHAPE), -1000).astype(np.float32)
    return np.where(inside, random.integers(300, 900, SHAPE), 5).astype(np.float32)


def save_nifti(path: Path, data: NDArray[np.float32], code: int = 2) -> Path:
    """Write a scan on the oblique grid."""
    image = nibabel.Nifti1Image(data, RAS)
    image.set_sform(RAS, code)
    image.set_qform(np.eye(4), 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)
    return path


def translated_by_monai(bundle: Path, scan: Path, out: Path) -> None:
    """Have MONAI run an exported bundle on a scan, as ``python -m monai.bundle run`` does."""
    monai: Any = pytest.importorskip("monai.bundle")
    monai.run(
        config_file=str(bundle / "configs" / "inference.json"),
        meta_file=str(bundle / "configs" / "metadata.json"),
        bundle_root=str(bundle),
        input=str(scan),
        output=str(out),
    )
