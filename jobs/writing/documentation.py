"""The generated tables in the documents: strategies and rules of data, from their own records."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedi2i.errors import ConfigError
from fedi2i.files import write_text
from fedi2i.typed_config import allowed_values
from jobs.privacy.catalogue import MECHANISMS, PRIVACY_JOBS
from lightning_modules.strategies.catalogue import STRATEGIES, STRATEGY_JOBS
from lightning_modules.strategies.interface import Strategy
from partitions.check.catalogue import findings_table

COLUMNS = 3


def documents() -> dict[str, dict[str, str]]:
    """The generated sections by document and by name of the section."""
    return {
        "README.md": {"strategies": strategy_columns(), "privacy-jobs": privacy_jobs_table()},
        "docs/strategies.md": {
            "strategies": strategies_table(),
            "papers": papers_table(),
            "grids": grids_table(),
        },
        "docs/settings.md": {
            "strategy-settings": settings_table(),
            "privacy-settings": privacy_settings_table(),
        },
        "docs/privacy.md": {"admission": admission_table()},
        "docs/data.md": {"findings": findings_table()},
    }


def write_documents(root: Path) -> list[Path]:
    """Write every generated section into the documents below a checkout; returns the documents.

    Raises:
        ConfigError: the folder is no checkout, or a document lacks the marks of a section.
    """
    changed = {}
    for name, sections in documents().items():
        path = root / name
        if not path.is_file():
            raise ConfigError(f"{path}: no such document; run this in a checkout of the project")
        text = path.read_text(encoding="utf-8")
        for section, content in sections.items():
            text = with_section(text, section, content, str(path))
        changed[path] = text
    for path, text in changed.items():
        write_text(path, text)
    return list(changed)


def with_section(text: str, section: str, content: str, where: str) -> str:
    """A document with the text between a section's two marks replaced.

    Raises:
        ConfigError: the marks are missing.
    """
    begin, end = f"<!-- generated: {section} -->", f"<!-- end: {section} -->"
    pattern = re.compile(rf"{re.escape(begin)}\n.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(text):
        raise ConfigError(f"{where}: lacks the lines '{begin}' and '{end}'; put them back")
    return pattern.sub(lambda _: f"{begin}\n{content}\n{end}", text)


def strategies_table() -> str:
    """One row per committed job: what it does, who sends models to whom, whether it acts."""
    rows = (
        (f"`{job.name}`", job.label, job.does, job.strategy.topology, "yes" if job.acts else "no")
        for job in STRATEGY_JOBS.values()
    )
    return _table(("job", "strategy", "what it does", "topology", "acts on the models"), rows)


def papers_table() -> str:
    """One row per strategy: its paper, what of it is built, and its key in a bibliography."""
    rows = (
        (
            strategy.label,
            f"{strategy.paper.text}, {_link(strategy.paper.link)}",
            f"`{strategy.paper.equation}`",
            f"`{strategy.paper.bibtex}`",
        )
        for strategy in STRATEGIES.values()
    )
    return _table(("strategy", "paper", "what of it is built", "BibTeX key"), rows)


def grids_table() -> str:
    """One row per strategy with a grid: what is tuned, the authors' value, where it stands."""
    rows = [
        (strategy.label, ", ".join(_point(point) for point in strategy.grid), source)
        for strategy in STRATEGIES.values()
        if strategy.grid
        for source in [f"{_point(strategy.published)} ({strategy.published_in})"]
    ]
    return _table(("strategy", "grid", "the authors' value, and where it stands"), rows)


def settings_table() -> str:
    """One row per setting of every strategy: default, range, meaning."""
    rows = [
        (f"`{strategy.name}`", f"`{name}`", default, allowed, meaning)
        for strategy in STRATEGIES.values()
        for name, default, allowed, meaning in _settings(strategy)
    ]
    return _table(("strategy", "setting", "default", "allowed", "meaning"), rows)


def strategy_columns() -> str:
    """The committed jobs in three columns, to be read downwards."""
    names = [f"`{job.name}`" for job in STRATEGY_JOBS.values()]
    height = -(-len(names) // COLUMNS)
    padded = [*names, *[""] * (COLUMNS * height - len(names))]
    rows = list(zip(*(padded[n * height : (n + 1) * height] for n in range(COLUMNS)), strict=True))
    return _table(rows[0], rows[1:])


def privacy_jobs_table() -> str:
    """One row per mechanism: the committed jobs that show it, and what it promises."""
    rows = [
        (
            ", ".join(f"`{name}`" for name, job in PRIVACY_JOBS.items() if job.mechanism == one),
            one.label,
            one.promise,
        )
        for one in MECHANISMS.values()
    ]
    return _table(("jobs", "mechanism", "promise"), [row for row in rows if row[0]])


def privacy_settings_table() -> str:
    """One row per setting of every privacy mechanism: default, range, meaning."""
    rows = [
        (f"`{mechanism.name}`", f"`{name}`", default, allowed, meaning)
        for mechanism in MECHANISMS.values()
        for name, default, allowed, meaning in _fields(mechanism.settings)
    ]
    return _table(("mechanism", "key", "default", "allowed", "meaning"), rows)


def admission_table() -> str:
    """One row per strategy: ``yes`` or why not, for each kind of mechanism."""
    kinds: dict[str, list[str]] = {}
    for mechanism in MECHANISMS.values():
        kinds.setdefault(mechanism.admitted_by, []).append(f"`{mechanism.name}`")
    rows = (
        (strategy.label, *(getattr(strategy.mechanisms, kind) for kind in kinds))
        for strategy in STRATEGIES.values()
    )
    return _table(("strategy", *(", ".join(names) for names in kinds.values())), rows)


def _settings(strategy: Strategy) -> Iterable[tuple[str, str, str, str]]:
    if strategy.may_start_independently:
        jobs = [job for job in STRATEGY_JOBS.values() if job.strategy == strategy]
        apart = [f"`{job.name}`" for job in jobs if job.starts_independently]
        meaning = f"whether every site draws its own first weights, as in {', '.join(apart)}"
        yield "initialisation", "`shared`", "one of shared, independent", meaning
    yield from _fields(strategy.settings)


def _fields(record: type[Any]) -> Iterable[tuple[str, str, str, str]]:
    """Name, default, range and meaning of every setting of a record."""
    for field, allowed in allowed_values(record):
        default = field.default
        shown = str(default).lower() if isinstance(default, bool) else f"{default}"
        told = "true or false" if isinstance(default, bool) else allowed.describe()
        yield field.name, f"`{shown}`", told, allowed.meaning


def _point(settings: Mapping[str, Any]) -> str:
    """The values of a point of a grid: of the generator and, if it is another, of the other."""
    return " / ".join(dict.fromkeys(f"{value:.2g}" for value in settings.values()))


def _link(reference: str) -> str:
    kind, _, identifier = reference.partition(":")
    site = "https://arxiv.org/abs/" if kind == "arXiv" else "https://doi.org/"
    return f"[{reference}]({site}{identifier})"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(_cell(text) for text in line)} |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
