"""Age and coded gender from the ``data.csv`` beside the patient folders."""

from __future__ import annotations

import csv
import logging
from pathlib import Path
from typing import Any

from fedi2i.errors import DataError

logger = logging.getLogger(__name__)
_COLUMNS = {"age_at_initial_pathologic": "age", "gender": "gender_code"}


def read_patients(path: Path) -> dict[str, dict[str, Any]]:
    """Metadata by patient; empty cells are left out.

    ``age`` is in years at the first pathological diagnosis. The file codes gender as 1 and 2
    without a key, so the code is passed on as ``gender_code`` and not translated.

    Raises:
        DataError: the file has other columns or a cell that is not a number.
    """
    if not path.is_file():
        logger.warning("%s is not there: patients come without age and gender", path.name)
        return {}
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream)
        absent = {"Patient", *_COLUMNS} - set(reader.fieldnames or ())
        if absent:
            raise DataError(
                f"{path}: no column {', '.join(sorted(absent))}; use the file of the kaggle_3m "
                "release, or remove it to import without age and gender"
            )
        return {row["Patient"]: _metadata(row, path, reader.line_num) for row in reader}


def _metadata(row: dict[str, str], path: Path, line: int) -> dict[str, Any]:
    found = {}
    for column, name in _COLUMNS.items():
        text = (row[column] or "").strip()
        if text:
            try:
                found[name] = int(float(text))
            except ValueError as error:
                raise DataError(
                    f"{path}: row {line}: {column} '{text}' is not a number; correct the cell"
                ) from error
    return found
