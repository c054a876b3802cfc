"""Open a site's session for a job: its own file, its limits, its data, its learner.

As `site_session`, this module imports Torch, MONAI and Lightning: at the first task.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, replace
from typing import IO

from nvflare.apis.fl_context import FLContext

from app_custom.executor.kept_models import KeptModels
from app_custom.executor.site_session import SiteSession
from app_custom.gates.allowed_statistics import check_statistics
from app_custom.gates.job_limits import (
    JobLimits,
    JobRefusedError,
    check_data,
    check_parameters,
    check_readable,
    check_settings,
    check_sites,
)
from app_custom.nvflare_context import (
    job_sites,
    job_submitter,
    local_folder,
    needed_sites,
    run_folder,
    site_name,
    workspace_folder,
)
from app_custom.participant.release import Releases
from app_custom.participant.site_configuration import (
    SiteConfig,
    data_folder,
    path_for_site,
    read_site_config,
    state_folder,
)
from app_custom.participant.used_data import Use, UsedData
from app_custom.privacy.encryption.filters import encrypts
from app_custom.privacy.patient_noise.policy import check_demand
from app_custom.privacy.patient_noise.rounds import PatientRounds
from app_custom.privacy.secure_sum.filters import masks
from app_custom.privacy.update_filters import keeps_to_the_ledger
from app_custom.study.site_study import SiteStudy, study_folder
from app_custom.study.task import StudyTask
from fedi2i.digest import digest
from fedi2i.errors import DataError
from lightning_modules.configuration import ExperimentConfig, experiment_values
from lightning_modules.data.slices import TrainingSlices
from lightning_modules.networks.building import parameter_count
from lightning_modules.privacy.patient_settings import PatientNoise
from lightning_modules.training.hardware import choose_hardware, threads_for
from lightning_modules.training.learner import Learner
from lightning_modules.training.local_state import LocalStateStore
from lightning_modules.training.participation import EVERYBODY, Participation, with_steps
from partitions.manifest import read_manifest
from partitions.preparation import PreparedSite, prepare_site
from partitions.preparation.cache_folders import hold, lock_of

WRITER_ID = "curve_sender"


def open_session(
    experiment: ExperimentConfig,
    run_name: str,
    releases: Releases,
    fl_ctx: FLContext,
    noise: PatientNoise | None = None,
    every_metric: bool = False,
    participation: Participation = EVERYBODY,
    measures_only: bool = False,
    study: StudyTask | None = None,
) -> SiteSession:
    """Read this site's configuration and data, and build its learner.

    The site's own limits are held against the job first, and against the data before any training.

    Args:
        experiment: the job's.
        run_name: names the run.
        releases: of the job and its server.
        fl_ctx: NVFlare's context.
        noise: patient-level differential privacy, if the job trains with it.
        every_metric: measure also by the metrics that are too slow for every round.
        participation: says which part of a round's steps this site does.
        measures_only: whether the first task trains nothing, and so needs no memory for it.
        study: what the job says of the study that it belongs to, if any.

    Raises:
        JobRefusedError: the site's limits refuse the job.
        UserError: configuration or data that cannot be used.
    """
    site = site_name(fl_ctx)
    config = _config(fl_ctx, noise)
    releases.check(config.limits)
    steps = participation.steps(site, experiment.training.steps)
    _check_job(config.limits, with_steps(experiment, steps), fl_ctx)
    prepared, held = _prepared_data(experiment, config, site)
    check_data(
        config.limits, experiment.model.described, prepared.split("train"), prepared.split("val")
    )
    hardware = choose_hardware(experiment.training.precision, _threads(config, fl_ctx))
    state = state_folder(config, site, workspace_folder(fl_ctx)) / site
    run = f"{run_name}-{kept_by(experiment, fl_ctx, noise)}"
    UsedData(state).note(_use_of(prepared, run, config, fl_ctx, noise), prepared)
    slices = TrainingSlices([prepared.split("train")])
    store = LocalStateStore(state / run)
    learner = Learner(
        experiment, site, slices, hardware, store, steps, noise, measures_only=measures_only
    )
    rounds = kept = None
    if noise is not None:
        rounds = PatientRounds(noise, config.patient_privacy, experiment, slices, run_name)
    if config.keep_models is not None:
        folder = path_for_site(config.keep_models, site) / run
        kept = KeptModels(folder, run_name, experiment, prepared, asdict(noise) if noise else {})
    return SiteSession(
        experiment,
        prepared,
        learner,
        hardware,
        config,
        fl_ctx.get_engine().get_component(WRITER_ID),
        run_folder(fl_ctx),
        fl_ctx.get_run_abort_signal(),
        held,
        rounds,
        kept,
        every_metric,
        not every_metric
        and prepared.config.source == experiment.data.preparation.source
        and describes_source(config, fl_ctx, noise),
        _study(study, experiment, prepared, config, fl_ctx, noise),
    )


def _study(
    task: StudyTask | None,
    experiment: ExperimentConfig,
    prepared: PreparedSite,
    config: SiteConfig,
    fl_ctx: FLContext,
    noise: PatientNoise | None,
) -> SiteStudy | None:
    """This site's part of a study, where the job belongs to one and the site takes part in any.

    No noise would cover what is said of test patients, so under noise nothing is.
    """
    own = config.studies
    if task is None or own.folder is None:
        return None
    folder = study_folder(
        path_for_site(own.folder, prepared.site),
        task,
        experiment,
        prepared,
        job_submitter(fl_ctx),
    )
    sends = own.share and noise is None and not keeps_to_the_ledger(fl_ctx)
    return SiteStudy(folder, task, experiment, prepared, own, config.limits, sends)


def describes_source(config: SiteConfig, fl_ctx: FLContext, noise: PatientNoise | None) -> bool:
    """Whether the site says what its training's source scans look like, in a few percentiles.

    It does where it would answer a job of statistics, and where the server writes a model file.
    """
    try:
        check_statistics(config.statistics, keeps_to_the_ledger(fl_ctx) or noise is not None)
        check_demand(config.patient_privacy, None)
        check_readable(config.limits, encrypted=False, masked=False)
    except JobRefusedError:
        return False
    return not encrypts(fl_ctx)


def _config(fl_ctx: FLContext, noise: PatientNoise | None) -> SiteConfig:
    """The site's own file; where what is trained is noised, it shares no curves and pictures.

    Points of curves and pictures pass no filter: no noise would cover them.
    """
    config = read_site_config(local_folder(fl_ctx))
    check_demand(config.patient_privacy, noise)
    if keeps_to_the_ledger(fl_ctx) or noise is not None:
        return replace(config, share_curves=False, share_images=False)
    return config


def _use_of(
    prepared: PreparedSite,
    run: str,
    config: SiteConfig,
    fl_ctx: FLContext,
    noise: PatientNoise | None,
) -> Use:
    return Use(
        job=str(fl_ctx.get_job_id()),
        run=run,
        submitter=job_submitter(fl_ctx),
        dataset=prepared.dataset,
        content_hash=prepared.content_hash,
        pictures=config.share_images,
        accounted=keeps_to_the_ledger(fl_ctx) or noise is not None,
    )


def kept_by(
    experiment: ExperimentConfig, fl_ctx: FLContext, noise: PatientNoise | None = None
) -> str:
    """Name whose run it is that this site keeps something of: by settings and submitter.

    What training without noise has left must never be where training with noise goes on.
    """
    submitter = job_submitter(fl_ctx)
    own = settings_digest(experiment)
    if noise is not None:
        own = f"{own}-noised-{digest(asdict(noise))[:8]}"
    return f"{own}-{digest(submitter)[:8]}" if submitter else own


def settings_digest(experiment: ExperimentConfig) -> str:
    """Compute a short hash of all settings.

    The run's name comes with the job, from whoever exported it: what other settings left under the
    same name must not be used.
    """
    return digest(experiment_values(experiment))[:8]


def _check_job(limits: JobLimits, experiment: ExperimentConfig, fl_ctx: FLContext) -> None:
    check_sites(limits, job_sites(fl_ctx), needed_sites(fl_ctx))
    check_readable(limits, encrypts(fl_ctx), masks(fl_ctx))
    check_settings(limits, experiment)
    check_parameters(limits, parameter_count(experiment.model))


def _prepared_data(
    experiment: ExperimentConfig, config: SiteConfig, site: str
) -> tuple[PreparedSite, IO[bytes] | None]:
    """The site's slices, and what holds them against being removed."""
    folder = data_folder(config, experiment.data.dataset, site)
    manifest = read_manifest(folder, expected_site=site)
    cache = path_for_site(config.cache, site) if config.cache else folder / "prepared"
    prepared = prepare_site(manifest, experiment.data.preparation_at(site), cache, progress=False)
    held = hold(prepared.folder)
    if read_manifest(folder, expected_site=site).content_hash() != manifest.content_hash():
        raise DataError(
            f"{folder}: its manifest changed while the site was prepared; start the job again. If "
            "a patient was withdrawn meanwhile, withdraw them again: these slices still hold them"
        )
    with suppress(OSError):  # for 'fedi2i provision prune'; a cache may be read-only
        lock_of(prepared.folder).touch()
    return prepared, held


def _threads(config: SiteConfig, fl_ctx: FLContext) -> int:
    if config.torch_threads is not None:
        return config.torch_threads
    return threads_for(job_sites(fl_ctx) if config.shared_machine else 1)
