"""A table as LaTeX: booktabs, no other package, units in the heads, every text escaped."""

from __future__ import annotations

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


def escaped(text: str) -> str:
    """Text that LaTeX sets as it is."""
    return "".join(ESCAPES.get(letter, letter) for letter in text)


def as_latex(table: Table, computed: bool) -> str:
    """A ``table`` environment with its caption and a label.

    Args:
        table: what to write.
        computed: whether the numbers are of computed images, which the caption then says.
    """
    caption = _styled(_without_number(table.caption))
    said = f"{caption}. {COMPUTED}." if computed else caption
    lines = [
        HEADER + r"\begin{table}",
        r"\centering\small",
        rf"\caption{{{said}}}",
        rf"\label{{tab:{table.name.removeprefix('table-')}}}",
        rf"\begin{{tabular}}{{@{{}}{_layout(table)}@{{}}}}",
        r"\toprule",
        _line(table.heads),
        r"\midrule",
        *_body(table),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


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
    shares, words = table.shares(), table.of_words()
    longest = [max((len(c.plain) for c in column), default=0) for column in table.by_column()]
    taken = sum(n + GAP for n, share in zip(longest, shares, strict=True) if not share)
    room = max(LEAST_ROOM, 1 - LETTER * (taken + GAP * len(longest)))
    return "".join(
        rf"p{{{room * share / sum(shares):.2f}\linewidth}}" if share else "l" if named else "r"
        for share, named in zip(shares, words, strict=True)
    )


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
