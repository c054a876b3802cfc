"""The committed studies at levels: they read, every arm's job is admitted, one level runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from job_building import class_paths

from app_custom.gates.job_limits import SIMULATION
from app_custom.participant.allowed_classes import ALLOWED_CLASSES
from app_custom.participant.job_admission import check_job
from app_custom.participant.site_configuration import SiteConfig
from jobs.privacy.catalogue import epsilon_of
from jobs.running.plain_loop import validation_in_this_process
from jobs.running.studies.levels import LevelledStudy, has_levels, read_levels
from jobs.writing.export import export_job
from jobs.writing.federation import FederatedExperiment, read_federated_experiment, with_strategy

TINY = Path(__file__).parents[1] / "experiments" / "tiny.yaml"
STUDIES = {
    path.stem: path for path in sorted(Path("jobs/studies").glob("*.yaml")) if has_levels(path)
}


@pytest.fixture(scope="module")
def studies() -> dict[str, LevelledStudy]:
    """All committed studies that name levels."""
    return {name: read_levels(path) for name, path in STUDIES.items()}


def arms(study: LevelledStudy) -> Iterator[tuple[str, FederatedExperiment]]:
    """A name and a job for every strategy at every level."""
    for level, one in study.studies.items():
        for strategy in one.config.strategies:
            yield f"{level}-{strategy}", with_strategy(one.job, strategy)


def test_the_two_studies_can_be_read_with_three_seeds_and_a_base_on_their_axes(
    studies: dict[str, LevelledStudy],
) -> None:
    assert {"robustness", "privacy"} <= studies.keys()
    for study in studies.values():
        for one in study.studies.values():
            assert len(one.config.seeds) >= 3
            assert one.config.strategies[0] == "fedavg"


@pytest.mark.parametrize("name", sorted(STUDIES))
def test_every_arm_s_job_is_admitted_by_every_site_of_a_simulation(
    studies: dict[str, LevelledStudy], name: str, tmp_path: Path
) -> None:
    count = 0
    for arm, job in arms(studies[name]):
        if job.federation.hostile:  # trained in one process, see test_hostile_arm.py
            continue
        folder = export_job(arm, job, tmp_path / arm)
        for path in folder.rglob("*.json"):
            named = set(class_paths(json.loads(path.read_text(encoding="utf-8"))))
            assert named <= set(ALLOWED_CLASSES), arm
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        for site in {job.federation.sites[0], *job.federation.participation.stragglers}:
            check_job(SiteConfig(limits=SIMULATION), meta, folder / "app_site", site)
        count += 1
    assert count >= 3 * (len(studies[name].levels) - 1)


def test_levels_of_privacy_stand_at_the_epsilon_that_their_jobs_spend(
    studies: dict[str, LevelledStudy],
) -> None:
    study = studies["privacy"]
    places = {name: set(level.at.values()) for name, level in study.levels.items()}
    for name, one in study.studies.items():
        spent = epsilon_of(one.job, one.job.experiment.training.rounds)
        expected = float("inf") if spent is None else spent
        assert all(place == pytest.approx(expected, rel=0.01) for place in places[name])


def test_levels_of_local_steps_do_equally_many_steps_in_all(
    studies: dict[str, LevelledStudy],
) -> None:
    study = studies["robustness"]
    training = {name: one.job.experiment.training for name, one in study.studies.items()}
    on_axis = {n: level.at["steps"] for n, level in study.levels.items() if "steps" in level.at}
    assert {training[name].steps for name in on_axis} == set(on_axis.values())
    assert len({training[name].rounds * training[name].steps for name in on_axis}) == 1


def test_a_level_with_missing_sites_runs_at_the_tiniest_size_in_this_process(
    studies: dict[str, LevelledStudy], tiny_cohort: Path, tmp_path: Path
) -> None:
    planned = studies["robustness"].studies["missing-60"].job
    changes = {"experiment": {"training": {"steps": 1}}}
    tiny = replace(planned, experiment=read_federated_experiment(TINY, changes).experiment)
    metrics = validation_in_this_process(tiny, tiny_cohort, "tiny", tmp_path / "absent")
    everybody = replace(tiny, federation=read_federated_experiment(TINY).federation)
    others = validation_in_this_process(everybody, tiny_cohort, "tiny", tmp_path / "everybody")
    assert metrics["val/psnr"] > 5 and metrics != others
