"""The site of the documents: which links it shows, and which it leaves to be refused."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from mkdocs.config.base import load_config
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("site_hooks", REPOSITORY / "docs/site_hooks.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("[FedMA](fedma.md#settings)", "[FedMA](fedma.md#settings)"),
        ("[readme](../README.md)", "[readme](../README.md)"),
        ("[`learner.py`](../lightning_modules/training/learner.py)", "`learner.py`"),
        ("[the folder](../provision/container/)", "the folder"),
        (
            "[gone](gone.md), [gone too](../jobs/gone.py)",
            "[gone](gone.md), [gone too](../jobs/gone.py)",
        ),
        ("[paper](https://example.org/a)", "[paper](https://example.org/a)"),
        ("```\n[kept](../Makefile)\n```", "```\n[kept](../Makefile)\n```"),
    ],
)
def test_a_link_to_a_source_file_becomes_text_and_a_dead_link_stays_to_be_refused(
    hooks: ModuleType, written: str, shown: str
) -> None:
    config = load_config(str(REPOSITORY / "mkdocs.yml"))
    files = Files([_file(uri) for uri in ("README.md", "docs/fedma.md", "docs/index.md")])
    page = Page("Index", _file("docs/index.md"), config)
    assert hooks.on_page_markdown(written, page, config, files) == shown


def _file(uri: str) -> File:
    return File(uri, str(REPOSITORY), "build/site", use_directory_urls=False)
