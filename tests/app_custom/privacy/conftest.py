"""A site with a folder of its own, whose filters remember nothing yet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from nvflare.apis.fl_context import FLContext
from nvflare_fakes import Engine

from app_custom.privacy import nvflare_filters, update_filters


@pytest.fixture
def fl_ctx(tmp_path: Path) -> Iterator[FLContext]:
    """The context of a site's task."""
    for memory in (update_filters._MEMORY, nvflare_filters._MEMORY):
        memory.begun.clear()
        memory.done.clear()
    engine = Engine(tmp_path, name="north")
    (tmp_path / "local" / "fedi2i.yaml").write_text("datasets: {}\n")
    with engine.new_context() as context:
        yield context
