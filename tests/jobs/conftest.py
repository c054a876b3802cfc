"""Fixtures for tests of the jobs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from nvflare.fuel.utils.config_service import ConfigService

from jobs.writing.workspace import prepare_workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Path]:
    """A prepared simulator workspace; NVFlare's process-wide configuration is reset afterwards."""
    data = tmp_path / "data"
    data.mkdir()
    yield prepare_workspace(tmp_path / "workspace", {"demo": data})
    ConfigService.reset()
