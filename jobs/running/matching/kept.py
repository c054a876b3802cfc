"""What a matching study keeps on the disk: trained models and measured rows.

Each file says by a digest which settings and data it belongs to. A file of other settings, or a
damaged one, counts as missing and is made again.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from fedi2i.errors import DataError
from fedi2i.files import not_written, replacing, write_text

_KEY = "settings"


@dataclass(frozen=True)
class Row:
    """One measured value.

    Attributes:
        seed: of the models.
        start: their start.
        width: factor of the generator's channels.
        sites: how many models were merged.
        merge: how, or which rival it is.
        quantity: what was measured.
        value: its value.
        split: ``val`` or ``test`` (of the sites that trained), ``unseen``, or "" where no patient
            was looked at.
    """

    seed: int
    start: str
    width: float
    sites: int
    merge: str
    quantity: str
    value: float
    split: str


COLUMNS = tuple(entry.name for entry in fields(Row))


def keep_model(path: Path, key: str, state: Mapping[str, Tensor]) -> None:
    """Write a trained model with the digest of its settings.

    Raises:
        DataError: the file cannot be written.
    """
    tensors = {name: value.detach().cpu().clone().contiguous() for name, value in state.items()}
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(save(tensors, metadata={_KEY: key}))
    except OSError as error:
        raise DataError(not_written(path, error)) from error


def kept_model(path: Path, key: str) -> dict[str, Tensor] | None:
    """A model that was trained with these settings; None where there is none."""
    try:
        with safe_open(path, framework="pt") as file:
            if (file.metadata() or {}).get(_KEY) != key:
                return None
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError):
        return None


def keep_rows(path: Path, key: str, rows: Sequence[Row]) -> None:
    """Write measured rows under the digest of their settings.

    Raises:
        DataError: the file cannot be written.
    """
    text = io.StringIO()
    text.write(f"{key}\n")
    csv.writer(text).writerows(map(astuple, rows))
    try:
        write_text(path, text.getvalue())
    except OSError as error:
        raise DataError(not_written(path, error)) from error


def kept_rows(path: Path, key: str) -> list[Row] | None:
    """Rows that were measured with these settings; None where there are none."""
    try:
        first, *lines = path.read_text(encoding="utf-8").splitlines()
        if first != key:
            return None
        return [_row(cells) for cells in csv.reader(lines)]
    except (OSError, ValueError, TypeError):
        return None


def _row(cells: Sequence[str]) -> Row:
    seed, start, width, sites, merge, quantity, value, split = cells
    return Row(int(seed), start, float(width), int(sites), merge, quantity, float(value), split)
