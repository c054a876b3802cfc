"""Opening a session: what data it opens, that nobody removes them under it, whose run it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from nvflare.apis.fl_constant import FLContextKey
from nvflare.apis.fl_context import FLContext
from nvflare_fakes import JOB, Engine
from omegaconf import OmegaConf
from tiny_cohort import write_tiny_cohort

from app_custom.executor import session_opening
from app_custom.executor.session_opening import (
    describes_source,
    kept_by,
    open_session,
    settings_digest,
)
from app_custom.executor.site_session import SiteSession
from app_custom.gates.allowed_statistics import SharedStatistics
from app_custom.gates.job_limits import JobLimits, JobRefusedError
from app_custom.participant.release import Releases
from app_custom.participant.site_configuration import FILE_NAME, SiteConfig
from app_custom.participant.used_data import UsedData
from app_custom.privacy.patient_noise.policy import PatientPrivacy
from fedi2i import __version__
from fedi2i.errors import DataError
from jobs.writing.workspace import prepare_workspace
from lightning_modules.configuration import experiment_from
from lightning_modules.networks.building import build_networks
from lightning_modules.privacy.patient_settings import PatientNoise
from lightning_modules.training.participation import Participation
from lightning_modules.translation.model_file import read_card
from partitions.manifest import read_manifest, write_manifest
from partitions.preparation.cache_folders import hold, is_cache, nobody_uses

EXPERIMENT = experiment_from(
    {
        "data": {"dataset": "tiny", "preparation": {"size": [32, 32], "spacing": None}},
        "model": {"generator": {"channels": [4, 8]}, "discriminator": {"channels": 4, "layers": 1}},
    },
    "test",
)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """North's data; its workspace is beside it."""
    data = write_tiny_cohort(tmp_path / "data", ("north",))
    prepare_workspace(tmp_path / "ws", {"tiny": data})
    return data / "north"


def context(root: Path, submitter: str = "lead") -> FLContext:
    ctx = Engine(root / "ws", name="north").new_context()
    meta = {"submitter_name": submitter, "submitter_org": "east", "min_clients": 1}
    ctx.set_prop(FLContextKey.JOB_META, meta, private=True, sticky=True)
    return ctx


def opened(root: Path, submitter: str = "lead") -> SiteSession:
    releases = Releases(job=__version__)
    return open_session(EXPERIMENT, "fedavg-0123", releases, context(root, submitter))


def test_the_job_its_submitter_and_the_patients_by_split_are_written_down(
    site: Path, tmp_path: Path
) -> None:
    opened(tmp_path)
    record = UsedData(tmp_path / "ws_state" / "north")
    ((use, splits),) = record.of("north-000")
    assert splits == ("train",)
    assert (use.job, use.submitter, use.dataset) == (JOB, "lead/east", "tiny")
    assert use.run.startswith("fedavg-0123-") and use.pictures and not use.accounted
    assert [splits for _, splits in record.of("north-002")] == [("val",)]


def test_a_straggler_s_limits_hold_for_the_steps_that_are_left_to_it(
    site: Path, tmp_path: Path
) -> None:
    path = tmp_path / "ws" / "local" / FILE_NAME
    own = OmegaConf.load(path)
    samples = EXPERIMENT.training.steps * EXPERIMENT.training.batch_size
    own.limits.least_samples_per_round = samples
    OmegaConf.save(own, path)
    releases, ctx = Releases(job=__version__), context(tmp_path)
    slow = Participation(stragglers={"north": 0.5})
    with pytest.raises(JobRefusedError, match="least_samples_per_round"):
        open_session(EXPERIMENT, "run-1", releases, ctx, participation=slow)
    another = Participation(stragglers={"east": 0.5})
    assert open_session(EXPERIMENT, "run-1", releases, ctx, participation=another)


def test_the_slices_are_held_as_long_as_the_session_lives(site: Path, tmp_path: Path) -> None:
    sessions = [opened(tmp_path), opened(tmp_path)]
    (cache,) = (folder for folder in (site / "prepared").iterdir() if is_cache(folder))
    for _ in range(2):
        with pytest.raises(DataError, match="a job is using it"), nobody_uses(cache):
            pass
        sessions.pop()
    with nobody_uses(cache), pytest.raises(DataError, match="is being removed"):
        hold(cache)


def test_two_people_s_jobs_of_one_name_keep_their_models_apart(site: Path, tmp_path: Path) -> None:
    path = tmp_path / "ws" / "local" / FILE_NAME
    own = OmegaConf.load(path)
    own.keep_models = str(tmp_path / "kept")
    OmegaConf.save(own, path)
    drawn = build_networks(EXPERIMENT.model, 1).state_dict()
    model = {key: value.numpy() for key, value in drawn.items()}
    for submitter in ("lead", "guest"):
        session = opened(tmp_path, submitter)
        session.keep_models(model, 1, {}, final=True)
    kept = list((tmp_path / "kept").glob("*/final.safetensors"))
    assert len(kept) == 2 and all(one.parent.name.startswith("fedavg-0123-") for one in kept)
    assert {read_card(one).training.run for one in kept} == {"fedavg-0123"}


def test_data_that_changed_while_they_were_prepared_are_not_used(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepare(manifest: Any, *arguments: Any, **named: Any) -> Any:
        prepared = real(manifest, *arguments, **named)
        write_manifest(replace(read_manifest(site), subjects=manifest.subjects[1:]))
        return prepared

    real = session_opening.prepare_site
    monkeypatch.setattr(session_opening, "prepare_site", prepare)
    with pytest.raises(DataError, match="manifest changed while the site was prepared"):
        opened(tmp_path)
    assert UsedData(tmp_path / "ws_state" / "north").of("north-001") == ()


def test_what_a_site_keeps_is_bound_to_every_setting() -> None:
    digests = {
        settings_digest(experiment_from(values, "test"))
        for values in (
            {},
            {"seed": 1},
            {"training": {"steps": 151}},
            {"data": {"preparation": {"target": "flair"}}},
            {"strategy": {"name": "fedprox", "mu_generator": 0.5}},
        )
    }
    assert len(digests) == 5


def test_what_a_site_keeps_is_bound_to_the_submitter_and_in_the_simulator_to_the_settings() -> None:
    experiment = experiment_from({}, "test")
    names = set()
    for submitter in (None, "lead@north.example.org", "lead@south.example.org"):
        ctx = Engine(name="north").new_context()
        meta = {"submitter_name": submitter} if submitter else {}
        ctx.set_prop(FLContextKey.JOB_META, meta, private=True, sticky=False)
        names.add(kept_by(experiment, ctx))
    assert len(names) == 3 and settings_digest(experiment) in names


SHARES = SiteConfig(statistics=SharedStatistics(share=True))


@pytest.mark.parametrize(
    ("config", "noise", "expected"),
    [
        (SiteConfig(), None, False),
        (SHARES, None, True),
        (SHARES, PatientNoise(), False),
        (replace(SHARES, patient_privacy=PatientPrivacy(required=True)), None, False),
        (replace(SHARES, limits=JobLimits(plain_updates=False)), None, False),
    ],
)
def test_a_site_describes_its_source_where_it_would_answer_a_job_of_statistics(
    tmp_path: Path, config: SiteConfig, noise: PatientNoise | None, expected: bool
) -> None:
    assert describes_source(config, context(tmp_path), noise) == expected
