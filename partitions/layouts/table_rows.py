"""Take a patient's rows out of a table; every other byte of the file stays as it is."""

from __future__ import annotations

from collections.abc import Collection, Set
from pathlib import Path

from fedi2i.errors import DataError
from fedi2i.files import replacing
from partitions.layouts.table_file import read_table_file

WHO = ("subject", "subject_id", "patient", "patient_id", "participant_id", "case_id", "case")
"""Columns, in lower case, that say whose row it is."""
_SITE = "site"


def rows_of(path: Path, names: Set[str], site: str) -> tuple[int, ...]:
    """The lines of a table, the first being 1, on which rows of a patient end.

    Args:
        path: a table with a column of `WHO`; where it has a column ``site``, rows of other sites
            are other people's.
        names: the patient's name and those of their scans.
        site: the site that the patient is at.

    Raises:
        DataError: no table, one that does not say whose rows are whose, or one in which a line is
            no row: a cell has several lines, or the text is UTF-16.
    """
    if path.is_file() and any(b"\0" in line or line.count(b'"') % 2 for line in _lines(path)):
        raise DataError(
            f"{path}: is UTF-16 or has cells of several lines; save it as 'CSV UTF-8' without "
            "them, or delete the rows by hand"
        )
    table = read_table_file(path, {name: name for name in (*WHO, _SITE)})
    columns = [name for name in table.columns if name in WHO]
    if not columns:
        raise DataError(
            f"{path}: no column says whose row it is; name one {', '.join(map(repr, WHO))}"
        )
    return tuple(
        row.number
        for row in table.rows
        if names & {row.cells[column] for column in columns}
        and row.cells.get(_SITE, site) in ("", site)
    )


def remove_rows(path: Path, numbers: Collection[int]) -> None:
    """Write the table without these lines, atomically; see `rows_of`."""
    mode = path.stat().st_mode & 0o777
    with replacing(path) as temporary:
        lines = enumerate(_lines(path), start=1)
        temporary.write_bytes(b"".join(line for number, line in lines if number not in numbers))
    path.chmod(mode)


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)
