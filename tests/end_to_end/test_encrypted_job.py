"""The committed encrypted job in the simulator, which has no keys for it.

Nightly. The faster test of the same sentence:
``test_a_server_without_a_key_ends_the_job_before_the_first_round`` in
``tests/app_custom/privacy/encryption/test_encrypted_averaging.py``.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from simulator_runs import simulate

from jobs.__main__ import main as jobs_command
from jobs.commands.job_folders import JOBS_FOLDER

pytestmark = [pytest.mark.nightly, pytest.mark.slow]


def test_the_simulator_says_at_once_that_the_keys_come_with_a_kit(
    tiny_cohort: Path, tmp_path: Path
) -> None:
    pytest.importorskip("tenseal", exc_type=ImportError)
    workspace = tmp_path / "workspace"
    assert jobs_command(["workspace", str(workspace), "--dataset", f"demo={tiny_cohort}"]) == 0
    run = simulate(JOBS_FOLDER / "fedavg_he", workspace)
    assert run.exit_code != 0
    assert "encrypted averaging takes its keys from a startup kit" in run.output
    assert "Traceback" not in run.output
    assert "Round 0 started" not in run.output
