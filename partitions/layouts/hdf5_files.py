"""Open HDF5 files, in which fastMRI and MATLAB keep arrays."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fedi2i.errors import DataError


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a file for reading; nothing of an array is read before it is asked for.

    Raises:
        DataError: the package that reads it is not installed, or it is damaged or another format.
    """
    try:
        import h5py
    except ImportError as error:
        raise DataError(
            f"{path}: is read with the package h5py; pip install 'fedi2i[hdf5]'"
        ) from error
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise DataError(
            f"{path}: is damaged or no HDF5 file; copy it again, and save MATLAB's arrays with "
            "'-v7.3'"
        ) from error
    with file:
        try:
            yield file
        except (OSError, RuntimeError) as error:  # a block of an array is damaged
            raise DataError(f"{path}: is damaged ({error}); copy it again") from error
