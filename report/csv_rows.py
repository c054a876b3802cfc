"""Read a long CSV file and refuse what would silently change a table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from report.errors import ReportError

FIRST_DATA_LINE = 2


def read_rows(path: Path, keys: tuple[str, ...]) -> pd.DataFrame:
    """Read the key columns as text and the column ``value`` as numbers.

    Args:
        path: the CSV file.
        keys: columns that together identify a row.

    Returns:
        The rows in file order, columns ``keys`` (str) and ``value`` (float, may be infinite).

    Raises:
        ReportError: the file is missing, empty or damaged, a column is missing, a key is empty, a
            value is NaN or not a number, or a row stands twice.
    """
    rows = _read_text_columns(path)
    missing = [column for column in (*keys, "value") if column not in rows.columns]
    if missing:
        raise ReportError(f"{path}: column '{missing[0]}' is missing; write the run folder again")
    if rows.empty:
        raise ReportError(f"{path}: has a header but no rows; run the experiment again")
    rows = rows[[*keys, "value"]].fillna("")
    _refuse_empty_keys(rows, keys, path)
    numbers = pd.to_numeric(rows["value"], errors="coerce")
    _refuse_first(
        numbers.isna(), rows, path, keys, "is NaN or not a number; find out why before reporting"
    )
    rows = rows.assign(value=numbers.astype(float))
    _refuse_first(rows.duplicated(list(keys)), rows, path, keys, "stands twice; keep one")
    return rows


def _read_text_columns(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise ReportError(f"{path}: missing; give the folder of a finished run")
    if path.stat().st_size == 0:
        raise ReportError(f"{path}: empty; run the experiment again")
    try:
        # text first: a subject called "NA" or "007" must keep its name
        return pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False)
    except (ValueError, UnicodeDecodeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ReportError(f"{path}: cannot be read as CSV ({reason})") from error


def _refuse_empty_keys(rows: pd.DataFrame, keys: tuple[str, ...], path: Path) -> None:
    for column in keys:
        empty = rows[column].str.strip() == ""
        if empty.any():
            line = int(np.argmax(empty.to_numpy())) + FIRST_DATA_LINE
            raise ReportError(f"{path}: line {line} has no {column}; write the run folder again")


def _refuse_first(
    wrong: pd.Series, rows: pd.DataFrame, path: Path, keys: tuple[str, ...], complaint: str
) -> None:
    if not wrong.any():
        return
    index = int(np.argmax(wrong.to_numpy()))
    name = ", ".join(f"{key} {rows[key].iloc[index]}" for key in keys)
    raise ReportError(f"{path}: line {index + FIRST_DATA_LINE} ({name}) {complaint}")
