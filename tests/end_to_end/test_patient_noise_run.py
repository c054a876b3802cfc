"""The job of patient-level differential privacy in NVFlare's simulator, a new process per task.

Nightly: ``tests/app_custom/privacy/patient_noise/test_patient_rounds.py`` has the same executor
answer in this process.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from simulator_runs import SITES, TWO_SITES, export, simulate

from fedi2i.epsilon import EPSILON_ROUND, EPSILON_TOTAL, LEAST_PATIENTS
from fedi2i.metric_files import SAMPLES

pytestmark = [pytest.mark.slow, pytest.mark.nightly, pytest.mark.timeout(1200)]


def test_the_run_records_what_each_site_has_spent_and_no_loss(
    new_workspace: Callable[[str], Path], tmp_path: Path
) -> None:
    job = tmp_path / "fedavg_patient_dp"
    options = ("--rounds", "2", "--steps", "6", "--min-sites", "2")
    export(job, *options, strategy="fedavg_patient_dp", experiment=TWO_SITES)
    run = simulate(job, new_workspace("noised"), "-t", "1")
    assert run.exit_code == 0, run.output[-3000:]
    for site in SITES:
        rounds = [run.metrics[site, number, EPSILON_ROUND] for number in range(2)]
        totals = [run.metrics[site, number, EPSILON_TOTAL] for number in range(2)]
        assert rounds[0] == rounds[1] == totals[0] < totals[1] < 2 * totals[0]
        assert run.metrics[site, 0, LEAST_PATIENTS] == run.metrics[site, 0, SAMPLES] == 2
        assert f"site '{site}': this round spends epsilon" in run.output
        assert ("all", 2, "val/psnr") in run.metrics
    assert not [name for _, _, name in run.metrics if name.startswith(("train/", "time/train"))]
    ledgers = run.workspace.parent.rglob("privacy_ledger.jsonl")
    assert sorted(path.parents[1].name for path in ledgers) == sorted(SITES)
