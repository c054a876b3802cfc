"""The server decides which jobs continue the same run, from what it knows of a job itself.

A job gives its run a name. Were finished rounds kept under that name alone, another person's job
could name the same run, go on with its model and take model and metrics home. So the server adds a
digest of what a job cannot choose freely and stay the same: its submitter, its sites, and its
configurations of server and sites.
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

from nvflare.apis.event_type import EventType
from nvflare.apis.fl_component import FLComponent
from nvflare.apis.fl_constant import FLContextKey, JobConstants, SystemComponents
from nvflare.apis.fl_context import FLContext
from nvflare.apis.job_def import JobMetaKey

from app_custom.nvflare_context import app_folder, job_submitter, run_folder
from fedi2i.digest import digest
from fedi2i.files import write_text

DIGEST_FILE = "configurations.sha256"
"""In the server's folder of a job: the digest of both configurations."""

_CONFIGS = (JobConstants.SERVER_JOB_CONFIG, JobConstants.CLIENT_JOB_CONFIG)


class DeployedConfigurations(FLComponent):
    """Leaves the digest of a job's configurations where the job's own process finds it.

    The server's process of a job has the server's configuration alone. This component works in the
    server's own process, which holds the whole job; the server's ``resources.json`` lists it.
    """

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Write when a job has been sent out, before it is started."""
        if event_type != EventType.JOB_DEPLOYED:
            return
        job_id = str(fl_ctx.get_prop(FLContextKey.JOB_RUN_NUMBER))
        engine = fl_ctx.get_engine()
        jobs = engine.get_component(SystemComponents.JOB_MANAGER)
        content = jobs.get_content(jobs.get_job(job_id, fl_ctx).meta, fl_ctx)
        folder = Path(engine.get_workspace().get_run_dir(job_id))
        write_text(folder / DIGEST_FILE, configurations_digest(content) + "\n")


def configurations_digest(job: bytes) -> str:
    """Compute the digest of all configurations in a job's archive.

    Args:
        job: the job's folder, zipped; signatures in it differ from submission to submission.
    """
    with zipfile.ZipFile(io.BytesIO(job)) as archive:
        paths = [path for path in archive.namelist() if PurePosixPath(path).name in _CONFIGS]
        # The first part is the job folder's name, which means nothing.
        found = {"/".join(PurePosixPath(p).parts[1:]): json.loads(archive.read(p)) for p in paths}
    return digest(found)


def run_key(run_name: str, fl_ctx: FLContext) -> str:
    """Return the name under which the server keeps a run's finished rounds.

    Args:
        run_name: the job's own name for its run.
        fl_ctx: of the server's process of the job.
    """
    meta: dict[str, Any] = fl_ctx.get_prop(FLContextKey.JOB_META) or {}
    deployed = meta.get(JobMetaKey.DEPLOY_MAP.value) or {}
    own = {
        "submitter": job_submitter(fl_ctx),
        "sites": {app: sorted(map(str, sites)) for app, sites in deployed.items()},
        "configurations": _configurations(fl_ctx),
    }
    return f"{run_name}-{digest(own)[:32]}"


def _configurations(fl_ctx: FLContext) -> Any:
    """Both configurations' digest; in the simulator, where one person owns all, the server's."""
    both = run_folder(fl_ctx) / DIGEST_FILE
    if both.is_file():
        return both.read_text(encoding="utf-8").strip()
    own = app_folder(fl_ctx) / "config" / JobConstants.SERVER_JOB_CONFIG
    return json.loads(own.read_text(encoding="utf-8")) if own.is_file() else None
