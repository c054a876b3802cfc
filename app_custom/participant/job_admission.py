"""A site refuses a job that its own limits do not allow when the job arrives, and says which limit.

NVFlare hands the sentence to whoever submitted the job (``job_deploy_detail`` in the job's meta
data). The executor checks the same once more, and what needs the data, when its session opens.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from nvflare.apis.fl_component import FLComponent
from nvflare.apis.fl_constant import JobConstants, SiteType
from nvflare.apis.fl_context import FLContext
from nvflare.apis.job_def import ALL_SITES, JobMetaKey
from nvflare.apis.workspace import Workspace
from nvflare.app_common.app_constant import AppConstants
from nvflare.fuel.utils.config_factory import ConfigFactory
from nvflare.private.fed.utils.app_deployer import AppDeployer

from app_custom.aggregation.model_message import EXECUTOR
from app_custom.audit_trail import audit
from app_custom.gates.job_limits import (
    REFUSED,
    JobRefusedError,
    check_readable,
    check_settings,
    check_sites,
)
from app_custom.nvflare_context import site_name
from app_custom.participant.release import Releases
from app_custom.participant.site_configuration import FILE_NAME, SiteConfig, read_site_config
from app_custom.privacy.patient_noise.policy import check_demand, noise_from
from app_custom.privacy.secure_sum.filters import MASK_KEYS
from app_custom.statistics.site_statistics import check_job_statistics
from fedi2i.errors import UserError
from fedi2i.typed_config import record_from
from lightning_modules.configuration import ExperimentConfig, experiment_from
from lightning_modules.training.participation import participation_from, with_steps
from partitions.preparation import PreparationConfig

ENCRYPT = "app_custom.privacy.encryption.filters.Encrypt"
MASK = "app_custom.privacy.secure_sum.filters.MaskUpdate"
GATE = "app_custom.gates.allowed_update.AllowedUpdate"
STATISTICS = "app_custom.statistics.site_statistics.SiteStatistics"


class JobAdmission(AppDeployer, FLComponent):
    """Deploys jobs as NVFlare does, but those alone that the site's ``fedi2i.yaml`` allows.

    A site's ``resources.json`` lists it as ``app_deployer``, where NVFlare looks for another
    deployer than its own.
    """

    def deploy(
        self,
        workspace: Workspace,
        job_id: str,
        job_meta: dict[str, Any],
        app_name: str,
        app_data: bytes,
        fl_ctx: FLContext,
    ) -> str:
        """Deploy a job's app; returns the reason for a refusal, or an empty text."""
        # NVFlare writes None where all is well.
        reason = str(super().deploy(workspace, job_id, job_meta, app_name, app_data, fl_ctx) or "")
        if reason:
            shutil.rmtree(workspace.get_run_dir(job_id), ignore_errors=True)
            return reason
        try:
            config = read_site_config(Path(workspace.get_site_config_dir()))
            check_job(config, job_meta, Path(workspace.get_app_dir(job_id)), site_name(fl_ctx))
        except JobRefusedError as refused:
            reason = str(refused)
        except UserError as error:
            self.log_error(fl_ctx, f"job {job_id} is refused: {error}", fire_event=False)
            reason = f"this site cannot read the job's settings or its own {FILE_NAME}; see its log"
        except Exception as error:  # noqa: BLE001 - what is not understood must not stay deployed
            self.log_exception(fl_ctx, f"job {job_id} is refused: {error}", fire_event=False)
            reason = "this site cannot read what the job says of itself; see its log"
        if reason:
            shutil.rmtree(workspace.get_run_dir(job_id), ignore_errors=True)
            user = str(job_meta.get(JobMetaKey.SUBMITTER_NAME.value) or "system")
            audit(user, REFUSED, f"job {job_id}: {reason}")
        return reason


def check_job(config: SiteConfig, meta: dict[str, Any], app: Path, site: str) -> None:
    """Hold what a job says of itself against a site's limits.

    Args:
        config: the site's.
        meta: the job's ``meta.json``.
        app: folder of the app that came to this site.
        site: this site.

    Raises:
        JobRefusedError: naming the limit.
        ConfigError: settings that cannot be read.
    """
    limits = config.limits
    sites = {name for names in (meta.get("deploy_map") or {}).values() for name in _names(names)}
    needed = int(meta.get(JobMetaKey.MIN_CLIENTS.value) or 1)
    # Where the job goes to all there are, their number is known when it starts.
    count = limits.least_sites if ALL_SITES in sites else len(sites - {SiteType.SERVER})
    check_sites(limits, count, needed)
    check_readable(limits, *_leaves_encrypted_or_masked(app / "config"))
    for arguments in _arguments(app / "config", "components", STATISTICS):
        preparation = record_from(PreparationConfig, arguments.get("preparation") or {}, "the job")
        check_job_statistics(config, str(arguments.get("release") or ""), preparation)
    for arguments in _executors(app / "config"):
        Releases(job=str(arguments.get("release") or "")).check(limits)
        check_settings(limits, _asked_of(site, arguments))
        check_demand(config.patient_privacy, noise_from(arguments.get("patient_noise"), "the job"))


def _asked_of(site: str, arguments: dict[str, Any]) -> ExperimentConfig:
    """The job's experiment with as many steps as it asks of this site."""
    experiment = experiment_from(arguments.get("settings") or {}, "the job")
    stragglers = arguments.get("stragglers") or {}
    participation = participation_from({"stragglers": stragglers}, "the job")
    return with_steps(experiment, participation.steps(site, experiment.training.steps))


def _names(participants: Any) -> list[str]:
    """The sites that one app goes to; NVFlare also takes a mapping."""
    named = participants.get("targets", []) if isinstance(participants, dict) else participants
    return [str(name) for name in named]


def _leaves_encrypted_or_masked(folder: Path) -> tuple[bool, bool]:
    """Whether what is trained goes to the server alone, encrypted, and whether it does so masked.

    Encryption must be the last filter; behind masks there may be gates, which change nothing. In a
    swarm models go to other sites past the filters. When the session opens, the filters that
    NVFlare has built are looked at.
    """
    config = _site_config(folder)
    chains = [
        [str(part.get("path")) for part in chain.get("filters") or []]
        for chain in config.get("task_result_filters") or []
        if isinstance(chain, dict) and AppConstants.TASK_TRAIN in (chain.get("tasks") or [])
    ]
    executors = {(entry.get("executor") or {}).get("path") for entry in config.get("executors", [])}
    encrypted = all(chain[-1:] == [ENCRYPT] for chain in chains) and executors == {EXECUTOR}
    ungated = [[path for path in chain if path != GATE] for chain in chains]
    masked = all(chain[-1:] == [MASK] for chain in ungated) and executors == {EXECUTOR, MASK_KEYS}
    return bool(chains) and encrypted, bool(chains) and masked


def _executors(folder: Path) -> list[dict[str, Any]]:
    executors = _site_config(folder).get("executors") or []
    found = [entry.get("executor") or {} for entry in executors if isinstance(entry, dict)]
    return [entry.get("args") or {} for entry in found if entry.get("path") == EXECUTOR]


def _arguments(folder: Path, part: str, path: str) -> list[dict[str, Any]]:
    """The arguments of every component of a class."""
    listed = [one for one in _site_config(folder).get(part) or [] if isinstance(one, dict)]
    return [one.get("args") or {} for one in listed if one.get("path") == path]


def _site_config(folder: Path) -> dict[str, Any]:
    config = ConfigFactory.load_config(JobConstants.CLIENT_JOB_CONFIG, [str(folder)])
    return dict(config.to_dict()) if config is not None else {}
