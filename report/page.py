"""Put the sections together into one self-contained HTML page and write it atomically."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from report.analysis import Analysis
from report.cross_site import cross_site_matrix
from report.cross_site_section import cross_site_section
from report.curves_section import curves_section
from report.diagnostics_section import diagnostics_section
from report.errors import ReportError
from report.markup import Markup, joined, tag
from report.panels_section import panels_section
from report.provenance_section import provenance_section
from report.records import RunDescription
from report.results_section import results_section
from report.statistics_section import statistics_section
from report.stylesheet import CSS
from report.summary import summary

CONTENTS = (
    ("results", "Key results"),
    ("cross-site", "Cross-site matrix"),
    ("statistics", "Paired comparison"),
    ("curves", "Convergence"),
    ("action", "Did the strategies act?"),
    ("pictures", "Pictures"),
    ("provenance", "Provenance"),
)


def render_page(analysis: Analysis) -> str:
    """The whole page as text; it refers to no other file or address."""
    run, shown = analysis.run, analysis.shown
    sections = [
        results_section(run, analysis.tables),
        cross_site_section(cross_site_matrix(run, analysis.methods)),
        statistics_section(analysis.tests, analysis.ranks, analysis.like, run.about.seed),
        curves_section(run, shown),
        diagnostics_section(run, analysis.actions),
        panels_section(run, shown),
        provenance_section(run),
    ]
    body = tag(
        "body",
        tag("main", _head(run.about, summary(analysis)), *sections),
    )
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", run.about.title),
        tag("style", Markup(CSS)),
    )
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"


def write_page(path: Path, text: str) -> None:
    """Write the page under a temporary name, then rename it, so that no half page is ever seen.

    Raises:
        ReportError: the folder cannot be written to.
    """
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".writing-", suffix=path.suffix)
        temporary = Path(name)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise ReportError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _head(about: RunDescription, paragraphs: Sequence[str]) -> Markup:
    parts: list[str] = [
        tag("h1", about.title),
        tag("p", f"Run of {about.created} · seed {about.seed} · {_preset(about)}", class_="meta"),
        *(tag("p", paragraph, class_="summary") for paragraph in paragraphs),
    ]
    if about.computed:
        text = joined([tag("b", "Computed data. "), "The images are computed, not acquired. "])
        parts.append(tag("p", text, about.data_note, class_="banner", role="note"))
    elif about.data_note:
        parts.append(tag("p", about.data_note, class_="data"))
    return tag("header", *parts, _contents(CONTENTS))


def _preset(about: RunDescription) -> str:
    return f"metric preset {about.preset.get('name', 'not named')}"


def _contents(entries: Sequence[tuple[str, str]]) -> Markup:
    return tag("nav", *(tag("a", text, href=f"#{anchor}") for anchor, text in entries))
