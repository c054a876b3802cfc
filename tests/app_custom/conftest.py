"""What the tests of several folders look at: the audit trail of one process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from nvflare.fuel.sec.audit import AuditService


@pytest.fixture
def trail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file of this process' audit trail."""
    monkeypatch.setattr(AuditService, "the_auditor", None)
    AuditService.initialize(str(tmp_path / "audit.log"))
    yield tmp_path / "audit.log"
    AuditService.close()
