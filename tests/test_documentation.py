"""What the documents name is there."""

from __future__ import annotations

import dataclasses
import re
import shlex
from pathlib import Path

import pytest

from app_custom.nvflare_files import GLOBAL_MODEL, PERSONAL_MODEL
from app_custom.participant.site_configuration import SiteConfig
from app_custom.participant.used_data import KEY, RECORD
from app_custom.privacy.update_filters import ANCHOR, LEDGER
from fedi2i.cli.program import parser_for
from jobs.writing.documentation import documents, settings_table, with_section
from jobs.writing.federation import FederationConfig
from lightning_modules.configuration import ExperimentConfig
from lightning_modules.strategies.catalogue import STRATEGIES
from partitions.commands.prepare import DEFAULT_CACHE as CACHE_FOLDER
from partitions.manifest import FILE_NAME as MANIFEST
from partitions.withdrawn_patients import FILE_NAME as WITHDRAWN

REPOSITORY = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted(
    [*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md"), *REPOSITORY.glob("provision/*.md")]
)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def _slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    kept = re.sub(r"[^\w\- ]", "", heading.strip().lower())
    return kept.replace(" ", "-")


def _anchors(document: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {_slug(heading) for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.name))
def test_a_link_leads_to_a_file_and_its_heading(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for link in _LINK.findall(text):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (document.parent / name).resolve() if name else document
        assert target.exists(), link
        if anchor:
            assert anchor in _anchors(target), link


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.name))
def test_no_line_waits_to_be_written(document: Path) -> None:
    for line in document.read_text(encoding="utf-8").splitlines():
        assert not re.fullmatch(r"[A-Z]{3,}|.*\b(TODO|TBD|FIXME)\b.*", line), line


def _command_lines(document: Path) -> list[list[str]]:
    """The words after ``fedi2i`` of every command in a Makefile or a document's code blocks."""
    text = re.sub(r"\\\n\s*", "", document.read_text(encoding="utf-8"))
    found = re.findall(r"^\s*(?:@?\$\(BIN\)/|\$ )?fedi2i (.*)$", text, re.MULTILINE)
    return [shlex.split(line, comments=True) for line in found if "..." not in line]


# The pages of docs/howto use the things that their reader makes, which are not there.
@pytest.mark.parametrize(
    "document",
    [REPOSITORY / "Makefile", *(path for path in DOCUMENTS if path.parent.name != "howto")],
    ids=lambda path: str(path.name),
)
def test_a_command_line_can_be_given_as_it_stands(
    document: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in _command_lines(document):
        try:
            parser_for(words).parse_args(words)
        except SystemExit as stopped:
            assert stopped.code == 0, f"fedi2i {' '.join(words)}: {capsys.readouterr().err}"


def test_the_makefile_s_command_lines_are_found() -> None:
    lines = _command_lines(REPOSITORY / "Makefile")
    assert ["data", "demo", "--out", "data/demo"] in lines
    assert any("--experiment" in words and "--title" in words for words in lines)


def _keys(record: type, prefix: str = "") -> list[str]:
    keys: list[str] = []
    for field in dataclasses.fields(record):
        default = field.default_factory() if callable(field.default_factory) else field.default
        if dataclasses.is_dataclass(default) and field.name != "strategy":
            keys += _keys(type(default), f"{prefix}{field.name}.")
        elif field.name != "strategy":
            keys.append(prefix + field.name)
    return keys


def test_the_tables_of_strategies_are_what_the_records_say() -> None:
    for name, sections in documents().items():
        text = (REPOSITORY / name).read_text(encoding="utf-8")
        for section, content in sections.items():
            assert with_section(text, section, content, name) == text, f"{name}: run 'make jobs'"


def test_every_setting_of_every_strategy_is_in_the_table_with_its_default_and_range() -> None:
    rows = [line.split(" | ") for line in settings_table().splitlines()]
    for strategy in STRATEGIES.values():
        for field in dataclasses.fields(strategy.settings):
            (row,) = [
                r for r in rows if (r[0], r[1]) == (f"| `{strategy.name}`", f"`{field.name}`")
            ]
            assert row[2].strip("`") == str(field.default).lower()
            assert row[3] and row[4].strip(" |"), (strategy.name, field.name)


@pytest.mark.parametrize("record", [ExperimentConfig, FederationConfig, SiteConfig])
def test_every_setting_is_listed(record: type) -> None:
    text = (REPOSITORY / "docs/settings.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text))
    for key in _keys(record):
        last = key.rsplit(".", 1)[-1]
        assert {key, f".{last}"} & listed, key


def test_what_is_kept_is_listed_under_the_names_that_the_code_gives_it() -> None:
    kept = {
        CACHE_FOLDER,
        PERSONAL_MODEL,
        GLOBAL_MODEL,
        RECORD,
        KEY,
        LEDGER,
        ANCHOR,
        WITHDRAWN,
        MANIFEST,
    }
    text = (REPOSITORY / "docs/governance.md").read_text(encoding="utf-8")
    table = text.split("## How long what is kept")[1].split("## ")[0]
    assert {name for name in kept if name not in table} == set()
