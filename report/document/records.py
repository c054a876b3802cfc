"""A page as blocks: headings, paragraphs, lists, tables and figures in their order."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

_NUMBERED = re.compile(r"(Table|Figure) ([\w]+)\b")
_LONGEST_NAME = 48
_LONG_NAME, _SENTENCE = 24, 80
"""Letters from which on a column of words wraps, and from which on it needs more room."""


@dataclass(frozen=True)
class Words:
    """Text in one style.

    Attributes:
        text: the words, with single spaces.
        style: ``bold``, ``italic``, ``code``, ``small`` or empty.
    """

    text: str
    style: str = ""


Text = tuple[Words, ...]


def plain(text: Text) -> str:
    """The words without their styles."""
    return "".join(words.text for words in text)


@dataclass(frozen=True)
class Heading:
    """A heading; ``level`` is 2 for sections and 3 for what is below them."""

    level: int
    text: Text


@dataclass(frozen=True)
class Paragraph:
    """A paragraph; ``kind`` is its class on the page (``note``, ``banner``, ...) or empty."""

    text: Text
    kind: str = ""


@dataclass(frozen=True)
class Items:
    """A list; ``ordered`` says whether its entries are numbered."""

    entries: tuple[Text, ...]
    ordered: bool


@dataclass(frozen=True)
class Facts:
    """Terms, each with what is recorded of it."""

    entries: tuple[tuple[Text, Text], ...]


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: what it says, without its small print.
        small: the small print below.
        columns: how many columns it takes.
        head: whether it names its line or column.
        unit: of the numbers in its column, for a head; else empty.
        wordy: whether it holds sentences, which wrap, and no numbers.
        strong: whether the page marks it.
    """

    text: Text
    small: Text = ()
    columns: int = 1
    head: bool = False
    unit: str = ""
    wordy: bool = False
    strong: bool = False

    @property
    def extra(self) -> str:
        """Small print and unit: ``n = 5, dB``."""
        return ", ".join(part for part in (plain(self.small), self.unit) if part)

    @property
    def plain(self) -> str:
        """Text, small print and unit: ``north (n = 5, dB)``."""
        text = plain(self.text)
        return f"{text} ({self.extra})" if text and self.extra else text or self.extra


Line = tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        caption: above it.
        heads: the line of column heads.
        lines: the others; a line of one cell over all columns is the heading of a group.
    """

    caption: Text
    heads: Line
    lines: tuple[Line, ...]

    @property
    def columns(self) -> int:
        """How many there are."""
        return max(sum(cell.columns for cell in line) for line in (self.heads, *self.lines))

    def by_column(self) -> Iterator[Sequence[Cell]]:
        """The cells that take one column alone, heads first, column by column."""
        found: list[list[Cell]] = [[] for _ in range(self.columns)]
        for line in (self.heads, *self.lines):
            place = 0
            for cell in line:
                if cell.columns == 1:
                    found[place].append(cell)
                place += cell.columns
        yield from found

    def of_words(self) -> list[bool]:
        """Whether a column holds names or words, and no numbers."""
        columns = enumerate(self.by_column())
        return [number == 0 or any(cell.wordy for cell in column) for number, column in columns]

    def shares(self) -> list[int]:
        """Parts of the line that is left for a column of long words; 0 for one that does not wrap.

        Columns of sentences take half as much again as those of long names.
        """
        longest = [max((len(c.plain) for c in column), default=0) for column in self.by_column()]
        return [
            (3 if letters > _SENTENCE else 2) if words and letters > _LONG_NAME else 0
            for words, letters in zip(self.of_words(), longest, strict=True)
        ]

    def heads_group(self, line: Line) -> bool:
        """Whether a line is the heading of a group."""
        return len(line) == 1 and line[0].head and self.columns > 1

    @property
    def name(self) -> str:
        """``table-1a``."""
        return _file_name(self.caption, "table")


@dataclass(frozen=True)
class FigureBlock:
    """A drawn figure.

    Attributes:
        address: the ``data:`` address of its picture.
        alt: what it shows, for those who cannot see it.
        caption: below it.
    """

    address: str
    alt: str
    caption: Text

    @property
    def name(self) -> str:
        """``figure-2``."""
        return _file_name(self.caption, "figure")


Block = Heading | Paragraph | Items | Facts | Table | FigureBlock


@dataclass(frozen=True)
class Part:
    """A section of the page, or what stands before the first one.

    Attributes:
        kind: the class of the section: which part of a paper it is; empty for results.
        blocks: in their order.
    """

    kind: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Document:
    """A page.

    Attributes:
        title: its first heading.
        parts: the head of the page, then its sections.
    """

    title: str
    parts: tuple[Part, ...]

    @property
    def tables(self) -> Mapping[str, Table]:
        """Every table by the name of its files."""
        return _named([b for part in self.parts for b in part.blocks if isinstance(b, Table)])

    @property
    def figures(self) -> Mapping[str, FigureBlock]:
        """Every drawn figure by the name of its files."""
        blocks = [b for part in self.parts for b in part.blocks if isinstance(b, FigureBlock)]
        return _named(blocks)


_Shown = TypeVar("_Shown", Table, FigureBlock)


def _named(blocks: Sequence[_Shown]) -> dict[str, _Shown]:
    """Blocks by their names; a name that comes again gets a number."""
    found: dict[str, _Shown] = {}
    for block in blocks:
        name, number = block.name, 2
        while name in found:
            name, number = f"{block.name}-{number}", number + 1
        found[name] = block
    return found


def _file_name(caption: Text, kind: str) -> str:
    """The number in the caption, or its first words, in letters that every file system has."""
    said = plain(caption)
    numbered = _NUMBERED.match(said)
    name = numbered[2] if numbered else said.partition(".")[0]
    words = re.sub(r"[^a-z0-9]+", "-", name.lower())[:_LONGEST_NAME].strip("-")
    return f"{kind}-{words}" if words else kind
