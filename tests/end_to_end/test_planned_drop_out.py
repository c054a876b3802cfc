"""Sites that miss rounds by plan in NVFlare's simulator, as in the loop of one process."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from simulator_runs import SITES, TWO_SITES, assert_same, simulate

from fedi2i.metric_files import read_metrics
from jobs.running.plain_loop import PlainLoop
from jobs.running.run_record import took_part
from jobs.writing.export import export_job
from jobs.writing.federation import read_federated_experiment
from jobs.writing.workspace import prepare_workspace
from lightning_modules.training.hardware import Hardware
from partitions.manifest import read_manifest
from partitions.preparation import prepare_site

pytestmark = [pytest.mark.slow, pytest.mark.nightly]

PLAN = {"min_sites": 1, "participation": {"missing": 0.5, "stragglers": {"east": 0.25}}}


def test_the_weights_are_those_of_the_loop_in_one_process_with_one_thread_in_the_simulator(
    tiny_cohort: Path, tmp_path: Path
) -> None:
    """Faster: the loop against messages in ``tests/strategies/test_plain_loop.py``.

    And the server's part, ``tests/app_custom/server/test_planned_rounds.py``.
    """
    changes = {"federation": PLAN, "experiment": {"training": {"steps": 8, "rounds": 2}}}
    job = read_federated_experiment(TWO_SITES, changes)
    experiment, federation = job.experiment, job.federation
    prepared = {
        site: prepare_site(
            read_manifest(tiny_cohort / site),
            experiment.data.preparation,
            tmp_path / "prepared" / site,
            progress=False,
        )
        for site in SITES
    }
    loop = PlainLoop(
        experiment,
        prepared,
        tmp_path / "state",
        Hardware("cpu", "32-true", 1),
        participation=federation.participation,
        least=1,
    )
    weights = loop.run(experiment.training.rounds)
    assert {len(there) for there in loop.took_part} == {1, 2}
    workspace = prepare_workspace(tmp_path / "ws", {"tiny": tiny_cohort})
    run = simulate(export_job("planned", job, tmp_path / "planned"), workspace, "-t", "1")
    assert run.exit_code == 0, run.output[-3000:]
    assert_same(run.weights, {key: torch.as_tensor(value) for key, value in weights.items()})
    noted = took_part(read_metrics(run.run_folder / "metrics.csv"))
    assert noted == [list(there) for there in loop.took_part]
