"""A table as LaTeX: booktabs, units in the heads, every text escaped.

A table that does not fit on a page is a ``longtable``, which breaks and repeats its heads. No other
package is needed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from report.document.figure_file import COMPUTED
from report.document.records import Cell, Line, Table, Text, Words, plain

ESCAPES = {
    "\\": r"\textbackslash ",
    "~": r"\textasciitilde ",
    "^": r"\textasciicircum ",
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    "\N{MINUS SIGN}": "$-$",
    "±": r"$\pm$",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    "·": r"$\cdot$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "√": r"$\surd$",
    "∞": r"$\infty$",
    "ε": r"$\varepsilon$",
    "δ": r"$\delta$",
    "\N{GREEK SMALL LETTER SIGMA}": r"$\sigma$",
    "Σ": r"$\Sigma$",
    "μ": r"$\mu$",
    "²": r"$^{2}$",
    "⁶": r"$^{6}$",
    "→": r"$\to$",
    "\N{EN DASH}": "--",
    "\N{EM DASH}": "---",
    "\N{THIN SPACE}": r"\,",
    "|": "$|$",
    "<": "$<$",
    ">": "$>$",
}
"""Letters that LaTeX reads as commands, and those that its usual fonts lack."""
STYLES = {"bold": "textbf", "italic": "emph", "code": "texttt"}
LETTER, GAP, LEAST_ROOM = 0.012, 2, 0.4
"""A small letter's part of the line, the letters between columns, and the least part of the line
that columns of long words have."""
HEADER = "% needs \\usepackage{booktabs}\n"
LONG_HEADER = "% needs \\usepackage{booktabs,longtable}\n"
LEAST_HEAD = 10
"""Letters of a head that are never broken into lines."""
MOST_LINES = 45
"""Lines of small letters that a page of A4 holds beside a caption."""


def escaped(text: str) -> str:
    """Text that LaTeX sets as it is."""
    return "".join(ESCAPES.get(letter, letter) for letter in text)


def as_latex(table: Table, computed: bool) -> str:
    """A ``table`` environment with its caption and a label; a ``longtable`` if a page is too short.

    Args:
        table: what to write.
        computed: whether the numbers are of computed images, which the caption then says.
    """
    caption = _styled(_without_number(table.caption))
    said = f"{caption}. {COMPUTED}." if computed else caption
    named = rf"\caption{{{said}}}", rf"\label{{tab:{table.name.removeprefix('table-')}}}"
    layout = f"{{@{{}}{_layout(table)}@{{}}}}"
    heads = [r"\toprule", _heads(table), r"\midrule"]
    lines = _lines_on_pages if _set_lines(table) > MOST_LINES else _lines_on_a_page
    return "\n".join(lines(named, layout, heads, list(_body(table)))) + "\n"


def _lines_on_a_page(
    named: tuple[str, str], layout: str, heads: list[str], body: list[str]
) -> list[str]:
    return [
        HEADER + r"\begin{table}",
        r"\centering\small",
        *named,
        rf"\begin{{tabular}}{layout}",
        *heads,
        *body,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]


def _lines_on_pages(
    named: tuple[str, str], layout: str, heads: list[str], body: list[str]
) -> list[str]:
    caption, label = named
    return [
        LONG_HEADER + r"\begingroup\small",
        rf"\begin{{longtable}}{layout}",
        caption,
        label + r" \\",
        *heads,
        r"\endfirsthead",
        *heads,
        r"\endhead",
        r"\bottomrule",
        r"\endfoot",
        *body,
        r"\end{longtable}",
        r"\endgroup",
    ]


def _heads(table: Table) -> str:
    """The line of heads; one that is wider than all below it stands in several lines."""
    room = [max((len(c.plain) for c in column), default=0) for column in _bodies(table)]
    wraps, named, place = table.shares(), table.of_words(), 0
    said = []
    for cell in table.heads:
        stacked = cell.columns == 1 and not wraps[place]
        said.append(_stacked(cell, room[place], named[place]) if stacked else _cell(cell))
        place += cell.columns
    return " & ".join(said) + r" \\"


def _bodies(table: Table) -> Iterator[list[Cell]]:
    """The cells below every head that take one column alone."""
    for column in table.by_column():
        yield [cell for cell in column if not any(cell is head for head in table.heads)]


def _stacked(cell: Cell, room: int, named: bool) -> str:
    """A head in lines as wide as its numbers, or as its longest word."""
    extra = [f"({cell.extra})"] if cell.text and cell.extra else []
    words = [*(plain(cell.text) or cell.extra).split(" "), *extra]
    most = max(room, LEAST_HEAD, *(len(word) for word in words))
    if len(cell.plain) <= most:
        return _cell(cell)
    lines = [words[0]]
    for word in words[1:]:
        if len(lines[-1]) + 1 + len(word) <= most:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    side = "l" if named else "r"
    return rf"\shortstack[{side}]{{" + r" \\ ".join(map(escaped, lines)) + "}"


def _set_lines(table: Table) -> int:
    """How many lines of a page the table takes, about."""
    letters = [width / LETTER for width in _widths(table)]
    taken = 0
    for line in (table.heads, *table.lines):
        alone = len(line) == table.columns
        rooms = letters if alone else [0.0] * len(line)
        taken += max(
            math.ceil(len(cell.plain) / room) if room else 1
            for cell, room in zip(line, rooms, strict=True)
        )
    return taken


def _body(table: Table) -> Iterator[str]:
    for number, line in enumerate(table.lines):
        if table.heads_group(line):
            if number:
                yield r"\addlinespace"
            said = escaped(line[0].plain)
            yield rf"\multicolumn{{{table.columns}}}{{@{{}}l@{{}}}}{{\emph{{{said}}}}} \\"
        else:
            yield _line(line)


def _line(line: Line) -> str:
    """The cells of a line; after a line's end LaTeX takes ``[`` and ``*`` for options of it."""
    said = " & ".join(map(_cell, line)) + r" \\"
    return "{}" + said if said.startswith(("[", "*")) else said


def _cell(cell: Cell) -> str:
    said, extra = _styled(cell.text), escaped(cell.extra)
    said = f"{said} ({extra})" if said and extra else said or extra
    said = rf"\textbf{{{said}}}" if cell.strong and said else said
    if cell.columns == 1:
        return said
    return rf"\multicolumn{{{cell.columns}}}{{l}}{{{said}}}"


def _layout(table: Table) -> str:
    """A letter per column: numbers to the right, names to the left, long words in paragraphs."""
    return "".join(
        rf"p{{{width:.2f}\linewidth}}" if width else "l" if named else "r"
        for width, named in zip(_widths(table), table.of_words(), strict=True)
    )


def _widths(table: Table) -> list[float]:
    """The part of the line that a column of long words has; 0 for one that does not wrap."""
    shares = table.shares()
    longest = [max((len(c.plain) for c in column), default=0) for column in table.by_column()]
    taken = sum(n + GAP for n, share in zip(longest, shares, strict=True) if not share)
    room = max(LEAST_ROOM, 1 - LETTER * (taken + GAP * len(longest)))
    return [room * share / sum(shares) if share else 0.0 for share in shares]


def _styled(text: Text) -> str:
    parts = []
    for words in text:
        command = STYLES.get(words.style)
        said = escaped(words.text)
        parts.append(rf"\{command}{{{said}}}" if command else said)
    return "".join(parts)


def _without_number(caption: Text) -> Text:
    """The caption without ``Table 1a.``, as LaTeX numbers tables itself."""
    if not caption or not plain(caption).startswith("Table "):
        return caption
    first = caption[0]
    words = Words(first.text.partition(". ")[2], first.style)
    return (words, *caption[1:])
