"""How many files the packages take for their code, and how many modules stand beside each other.

Code lines are lines that hold a token of code: no blank lines, comments or docstrings. Catalogues
(one file per member, found by walking the folder) count in neither figure: growing them is their
purpose. ``make shape`` prints the table.
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = (
    "fedi2i",
    "partitions",
    "lightning_modules",
    "app_custom",
    "jobs",
    "provision",
    "report",
)
CATALOGUES = (
    "jobs/privacy",
    "partitions/readers",
    "lightning_modules/networks/generators",
    "lightning_modules/losses",
    "lightning_modules/metrics",
    "lightning_modules/strategies",
)
_SILENT = frozenset(
    {
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENCODING,
        tokenize.ENDMARKER,
    }
)


def main() -> None:
    """Print one row per package, the sum, and the widest folders."""
    print(f"{'package':<20}{'files':>7}{'code lines':>12}{'per 1,000':>11}  widest folder")
    total_files, total_lines = 0, 0
    for package in PACKAGES:
        counted = list(counted_modules(ROOT / package))
        lines = sum(code_lines(path.read_text(encoding="utf-8")) for path in counted)
        width, folder = widest_folder(counted)
        total_files, total_lines = total_files + len(counted), total_lines + lines
        place = f"{folder.relative_to(ROOT)}: {width}"
        print(f"{package:<20}{len(counted):>7}{lines:>12}{_rate(len(counted), lines)}  {place}")
    print(f"{'all':<20}{total_files:>7}{total_lines:>12}{_rate(total_files, total_lines)}")
    members = [path for name in CATALOGUES for path in modules(ROOT / name)]
    print(f"not counted: {len(members)} members of {len(CATALOGUES)} catalogues, empty __init__.py")


def counted_modules(package: Path) -> Iterator[Path]:
    """The modules of a package that are no members of a catalogue."""
    catalogues = {ROOT / name for name in CATALOGUES}
    for path in modules(package):
        if path.parent not in catalogues:
            yield path


def modules(package: Path) -> Iterator[Path]:
    """The Python files below a folder that hold any code."""
    for path in sorted(package.rglob("*.py")):
        if code_lines(path.read_text(encoding="utf-8")):
            yield path


def code_lines(source: str) -> int:
    """Lines of a source that hold code.

    Args:
        source: Python source text.
    """
    documentation = set(_docstring_lines(ast.parse(source)))
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _SILENT:
            lines |= set(range(token.start[0], token.end[0] + 1))
    return len(lines - documentation)


def widest_folder(paths: Iterable[Path]) -> tuple[int, Path]:
    """The folder with the most modules beside each other, ``__init__.py`` left out."""
    beside: dict[Path, int] = {}
    for path in paths:
        if path.name != "__init__.py":
            beside[path.parent] = beside.get(path.parent, 0) + 1
    folder = max(beside, key=lambda name: (beside[name], str(name)))
    return beside[folder], folder


def _docstring_lines(tree: ast.Module) -> Iterator[int]:
    """Lines of texts that stand alone as statements: docstrings, also of attributes."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            yield from range(node.lineno, (node.end_lineno or node.lineno) + 1)


def _rate(files: int, lines: int) -> str:
    return f"{1000 * files / lines:>11.1f}"


if __name__ == "__main__":
    main()
