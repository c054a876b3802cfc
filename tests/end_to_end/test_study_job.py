"""A study's job in NVFlare's simulator: numbers reach the server, patients stay in their folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from simulator_runs import SITES, TWO_SITES, SimulatorRun, prepared_workspace, simulate
from tiny_cohort import write_tiny_cohort

from fedi2i.cli.program import main
from jobs.running.studies.in_federation import StudyJob, study_jobs, summary_rows
from jobs.running.studies.study import read_study
from jobs.writing.export import export_job
from partitions.manifest import read_manifest, write_manifest

pytestmark = [pytest.mark.slow, pytest.mark.nightly, pytest.mark.timeout(1200)]

PLANTED, TESTED = "Doe_Jane", 3
STUDY = f"""
title: Two strategies
experiment: {TWO_SITES}
settings: {{training: {{rounds: 1, steps: 4}}}}
strategies: [fedavg]
seeds: [5]
"""


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> StudyJob:
    file = tmp_path_factory.mktemp("study") / "study.yaml"
    file.write_text(STUDY, encoding="utf-8")
    (only,) = study_jobs(read_study(file), "thesis", [5], "design")
    return only


@pytest.fixture(scope="module")
def run(job: StudyJob, tmp_path_factory: pytest.TempPathFactory) -> SimulatorRun:
    """One job at two sites, whose own file agrees; patients have names."""
    folder = tmp_path_factory.mktemp("hospitals")
    data = write_tiny_cohort(folder / "data", SITES, ("train", "val", *["test"] * TESTED))
    for site in SITES:
        manifest = read_manifest(data / site)
        named = (replace(one, subject=f"{PLANTED}_{one.subject}") for one in manifest.subjects)
        write_manifest(replace(manifest, subjects=tuple(named)))
    workspace = prepared_workspace(folder / "federation" / "ws", data)
    path = workspace / "local" / "fedi2i.yaml"
    own = OmegaConf.load(path)
    own.studies = {"folder": f"{folder}/studies/{{site}}", "share": True, "least_patients": TESTED}
    OmegaConf.save(own, path)
    finished = simulate(export_job(job.name, job.job, folder / job.name), workspace, "-t", "2")
    assert finished.exit_code == 0, finished.output[-3000:]
    return finished


def test_the_server_learns_of_the_federated_and_of_each_site_s_own_arm(
    run: SimulatorRun, job: StudyJob
) -> None:
    """Faster: ``tests/app_custom/study/test_site_study.py``."""
    recorded = [(site, number, name, value) for (site, number, name), value in run.metrics.items()]
    rows = [row for row in summary_rows(recorded, job) if row[3] == "psnr"]
    assert {(arm, site) for arm, _, site, *_ in rows} == {
        (arm, site) for arm in ("fedavg", "local-only") for site in SITES
    }
    assert {patients for *_, patients, _, _ in rows} == {TESTED}


def test_no_patient_is_named_in_what_the_server_has_and_each_site_has_its_page(
    run: SimulatorRun,
) -> None:
    """Faster: the same."""
    server = [path for path in (run.workspace / "server").rglob("*") if path.is_file()]
    assert server and not [p for p in server if PLANTED.encode() in p.read_bytes()]
    for site in SITES:
        (study,) = (run.workspace.parents[1] / "studies" / site).iterdir()
        assert PLANTED in (study / "seed-5" / "results.csv").read_text(encoding="utf-8")
        assert main(["report", str(study)]) == 0
        assert Path(study / "report.html").is_file()
