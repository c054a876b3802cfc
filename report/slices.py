"""Read ``slices.npz``: the 2D pictures of the report."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from report.errors import ReportError
from report.records import Slice


def read_slices(path: Path) -> Mapping[tuple[str, str, str], Slice]:
    """Read every slice; a missing file gives an empty mapping.

    Returns:
        (site, subject, what) to a float32 array of shape (rows, columns), clipped to [0, 1].

    Raises:
        ReportError: the file is damaged, a key is not ``<site>/<subject>/<what>``, an array is not
            2D, holds NaN, or differs in shape from the other slices of its subject.
    """
    if not path.is_file():
        return {}
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: np.asarray(archive[name]) for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ReportError(f"{path}: cannot be read as NPZ ({error}); write it again") from error
    slices = {_key(name, path): _checked(name, array, path) for name, array in arrays.items()}
    _check_shapes(slices, path)
    return slices


def _key(name: str, path: Path) -> tuple[str, str, str]:
    parts = name.split("/")
    if len(parts) < 3:
        raise ReportError(f"{path}: key '{name}' is not of the form <site>/<subject>/<what>")
    return parts[0], "/".join(parts[1:-1]), parts[-1]


def _checked(name: str, array: np.ndarray, path: Path) -> Slice:
    if array.ndim != 2 or array.size == 0 or array.dtype.kind not in "fiub":
        raise ReportError(
            f"{path}: '{name}' is {array.dtype} of shape {array.shape}, expected a 2D number array"
        )
    picture = array.astype(np.float32)
    if not np.isfinite(picture).all():
        raise ReportError(f"{path}: '{name}' holds NaN or infinite values; write it again")
    return np.clip(picture, 0.0, 1.0)


def _check_shapes(slices: Mapping[tuple[str, str, str], Slice], path: Path) -> None:
    shapes: dict[tuple[str, str], tuple[int, ...]] = {}
    for (site, subject, what), picture in slices.items():
        expected = shapes.setdefault((site, subject), picture.shape)
        if picture.shape != expected:
            raise ReportError(
                f"{path}: '{site}/{subject}/{what}' has shape {picture.shape}, other slices of "
                f"this subject have {expected}; store slices of one grid"
            )
