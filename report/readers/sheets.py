"""Read filled sheets and lay the key beside them: who judged which case how."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedi2i.errors import DataError
from report.readers.design import PREFERENCE, Item
from report.readers.folders import COLUMNS, FILLED
from report.readers.key import ANSWERS, EQUAL, LEFT, Key

_NEEDED = ("study", "reader", "item", "answer")
_LEFT_OUT = "Left out: "


@dataclass(frozen=True)
class Judgement:
    """What one reader said of one item.

    Attributes:
        reader: who.
        item: what was shown.
        answer: as on the sheet; None where there is none.
        seconds: how long it took, or None.
    """

    reader: str
    item: Item
    answer: str | None
    seconds: float | None

    @property
    def verdict(self) -> str | None:
        """The answer without sides: the preferred arm, ``equal``, ``real`` or ``translated``."""
        if self.answer is None or self.item.case.task != PREFERENCE or self.answer == EQUAL:
            return self.answer
        return self.item.shown[0 if self.answer == LEFT else 1]


@dataclass(frozen=True)
class Sheets:
    """All that came back.

    Attributes:
        judgements: reader to a judgement for each item of the reader's sheet.
        gaps: a sentence for every sheet that is missing, partial, damaged or foreign.
    """

    judgements: Mapping[str, tuple[Judgement, ...]]
    gaps: tuple[str, ...]


def read_sheets(folder: Path, key: Key) -> Sheets:
    """Read every CSV file in the folder of filled sheets.

    A sheet that cannot be used is left out and named; so is a reader who handed in two.

    Raises:
        DataError: no sheet can be used.
    """
    paths = sorted((folder / FILLED).glob("*.csv"))
    if not paths:
        raise DataError(
            f"{folder / FILLED}: holds no filled sheet; put the readers' CSV files there"
        )
    read: dict[Path, tuple[Judgement, ...]] = {}
    gaps = []
    for path in paths:
        try:
            read[path] = read_sheet(path, key)
        except DataError as error:
            gaps.append(f"{_LEFT_OUT}{error}.")
    usable, twice = _one_sheet_each(read)
    gaps += [*twice, *_partial(usable)]
    if not usable:
        first = gaps[0].removeprefix(_LEFT_OUT).rstrip(".")
        more = f" (and {len(gaps) - 1} more)" if len(gaps) > 1 else ""
        raise DataError(f"{folder / FILLED}: no sheet can be used: {first}{more}")
    judgements = {sheet[0].reader: sheet for sheet in usable.values()}
    missing = [reader for reader in key.sheets if reader not in judgements]
    gaps += [f"{reader} is missing: no sheet that can be used." for reader in missing]
    return Sheets({r: judgements[r] for r in key.sheets if r in judgements}, tuple(gaps))


def read_sheet(path: Path, key: Key) -> tuple[Judgement, ...]:
    """Read one filled sheet; commas or semicolons stand between its columns.

    Returns:
        A judgement for each item of the reader's sheet, in its order; those without a line have no
        answer.

    Raises:
        DataError: it is damaged, of another study or an unknown reader, or a line cannot be used.
    """
    rows = _rows(path)
    foreign = sorted({row["study"] for row in rows} - {key.study})
    if foreign:
        raise DataError(f"{path}: is of another reader study ({foreign[0] or 'without a name'})")
    readers = sorted({row["reader"] for row in rows})
    if len(readers) > 1 or readers[0] not in key.sheets:
        raise DataError(
            f"{path}: is of {' and '.join(readers)}, and a sheet is of one of "
            f"{', '.join(key.sheets)}"
        )
    items = {item.number: item for item in key.sheets[readers[0]]}
    lines = {row["item"]: row for row in rows}
    if len(lines) < len(rows):
        twice = Counter(row["item"] for row in rows).most_common(1)[0][0]
        raise DataError(f"{path}: item {twice} stands twice; keep one line of it")
    unknown = [number for number in lines if number not in items]
    if unknown:
        raise DataError(f"{path}: there is no item '{unknown[0]}' on the sheet of {readers[0]}")
    return tuple(
        _judgement(path, readers[0], item, lines.get(number, {})) for number, item in items.items()
    )


def _rows(path: Path) -> Sequence[Mapping[str, str]]:
    """The lines that are not empty, as column to text without blanks around it."""
    try:
        # spreadsheets put a mark before the first column, which utf-8-sig takes away
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        header = lines[0] if lines else ""
        between = ";" if header.count(";") > header.count(",") else ","
        cells = [line for line in csv.reader(lines, delimiter=between, strict=True) if any(line)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as CSV ({error})") from error
    columns = [name.strip() for name in cells[0]] if cells else []
    missing = [name for name in _NEEDED if name not in columns]
    if missing:
        raise DataError(
            f"{path}: has no column '{missing[0]}'; its columns are {', '.join(COLUMNS)}"
        )
    if len(cells) == 1:
        raise DataError(f"{path}: has no lines below its header")
    return [_row(path, columns, line) for line in cells[1:]]


def _row(path: Path, columns: Sequence[str], line: Sequence[str]) -> Mapping[str, str]:
    if len(line) > len(columns):
        raise DataError(f"{path}: line '{','.join(line)}' has more cells than the header")
    texts = [cell.strip() for cell in line] + [""] * (len(columns) - len(line))
    return dict(zip(columns, texts, strict=True))


def _judgement(path: Path, reader: str, item: Item, row: Mapping[str, str]) -> Judgement:
    answer = row.get("answer", "").lower()
    allowed = ANSWERS[item.case.task]
    if answer and answer not in allowed:
        raise DataError(
            f"{path}: item {item.number} is answered '{row['answer']}'; allowed are "
            f"{', '.join(allowed)}, or nothing"
        )
    return Judgement(reader, item, answer or None, _seconds(row.get("seconds", "")))


def _seconds(text: str) -> float | None:
    """A duration that does not matter enough to refuse a sheet for it."""
    try:
        seconds = float(text.replace(",", "."))
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _one_sheet_each(
    read: Mapping[Path, tuple[Judgement, ...]],
) -> tuple[dict[Path, tuple[Judgement, ...]], list[str]]:
    by_reader: dict[str, list[Path]] = {}
    for path, sheet in read.items():
        by_reader.setdefault(sheet[0].reader, []).append(path)
    sentences = [
        f"{_LEFT_OUT}{' and '.join(str(path) for path in paths)} are both of {reader}; keep one."
        for reader, paths in by_reader.items()
        if len(paths) > 1
    ]
    return {p[0]: read[p[0]] for p in by_reader.values() if len(p) == 1}, sentences


def _partial(usable: Mapping[Path, tuple[Judgement, ...]]) -> list[str]:
    sentences = []
    for path, sheet in usable.items():
        empty = sum(judgement.answer is None for judgement in sheet)
        if empty:
            sentences.append(f"{path.name}: {empty} of {len(sheet)} items are not answered.")
    return sentences
