"""Write what a page shows into a folder beside it: tables, figures and a list of both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from fedi2i.files import replacing
from report.document.csv_table import as_csv
from report.document.figure_file import COMPUTED, figure_files
from report.document.latex_table import as_latex
from report.document.records import Document, Items, Paragraph, plain

FOLDER = Path("report")
TABLES, FIGURES = FOLDER / "tables", FOLDER / "figures"
CONTENTS, FINDINGS = FOLDER / "contents.txt", FOLDER / "findings.txt"
SUFFIXES = {TABLES: (".csv", ".tex"), FIGURES: (".png", ".svg")}


@dataclass(frozen=True)
class Page:
    """A page and the figures it was drawn from.

    Attributes:
        figures: address in the page to the figure behind it.
        computed: whether its data are computed.
    """

    figures: Mapping[str, Figure]
    computed: bool


def page_files(page: Page, document: Document) -> dict[Path, bytes]:
    """Tables as CSV and LaTeX, figures as PNG and SVG, the list of them, and what was found.

    Args:
        page: what to take them from.
        document: the same page as blocks.

    Returns:
        Path from the run's folder to content; nothing is written.
    """
    files: dict[Path, bytes] = {
        CONTENTS: _contents(document, page.computed).encode(),
        FINDINGS: _findings(document, page.computed).encode(),
    }
    for name, table in document.tables.items():
        files[TABLES / f"{name}.csv"] = as_csv(table).encode()
        files[TABLES / f"{name}.tex"] = as_latex(table, page.computed).encode()
    for name, block in document.figures.items():
        png, svg = figure_files(page.figures[block.address], page.computed)
        files |= {FIGURES / f"{name}.png": png, FIGURES / f"{name}.svg": svg}
    return files


def _contents(document: Document, computed: bool) -> str:
    """What is in the folder, a line each, with the captions that CSV has no place for."""
    lines = [f"{document.title}: tables and figures of report.html"]
    lines += _computed_line(computed)
    captions = {f"tables/{name}": table.caption for name, table in document.tables.items()}
    captions |= {f"figures/{name}": block.caption for name, block in document.figures.items()}
    lines += [f"{name}: {plain(caption)}" for name, caption in captions.items()]
    return "\n".join(lines) + "\n"


def _findings(document: Document, computed: bool) -> str:
    """What the page's head says was found, and the sentences of its section of findings."""
    blocks = [block for part in document.parts for block in part.blocks]
    said = [b.text for b in blocks if isinstance(b, Paragraph) and "summary" in b.kind.split()]
    lists = [b for part in document.parts if part.kind == "findings" for b in part.blocks]
    said += [entry for block in lists if isinstance(block, Items) for entry in block.entries]
    return "\n".join([document.title, *_computed_line(computed), *map(plain, said)]) + "\n"


def _computed_line(computed: bool) -> list[str]:
    return [f"{COMPUTED}: the images are computed."] if computed else []


def write_files(folder: Path, files: Mapping[Path, bytes]) -> None:
    """Write the files, each atomically, and take away those of an earlier page.

    Args:
        folder: the run's.
        files: path from the folder to content; all tables and figures of its page among them.
    """
    for path, content in files.items():
        with replacing(folder / path) as temporary:
            temporary.write_bytes(content)
    for path in _left_over(folder, files):
        path.unlink()


def _left_over(folder: Path, files: Mapping[Path, bytes]) -> Iterator[Path]:
    for place, suffixes in SUFFIXES.items():
        for path in sorted((folder / place).glob("*")):
            if path.suffix in suffixes and path.relative_to(folder) not in files:
                yield path
