"""Our components read these few facts from NVFlare's context."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nvflare.apis.client import Client
from nvflare.apis.fl_constant import FLContextKey, ServerCommandKey
from nvflare.apis.fl_context import FLContext
from nvflare.apis.job_def import JobMetaKey
from nvflare.apis.shareable import Shareable


def site_name(fl_ctx: FLContext) -> str:
    """Return this participant's name."""
    return str(fl_ctx.get_identity_name())


def peer_name(fl_ctx: FLContext) -> str:
    """Return the name of the participant whose message is being handled, or ``?``.

    For an answer to a task it is the client that the server authenticated, by its token; see
    ``contradicted_name`` for one that calls itself otherwise. Other messages name their sender
    themselves, and ``JobGuard`` has compared that with the cell from which they came.
    """
    authenticated = _authenticated_name(fl_ctx)
    return _own_word(fl_ctx) if authenticated is None else authenticated


def contradicted_name(fl_ctx: FLContext) -> str:
    """Return the name that the sender of an answer gives itself, if the server knows another."""
    authenticated, named = _authenticated_name(fl_ctx), _own_word(fl_ctx)
    return "" if authenticated in (None, named) else named


def _authenticated_name(fl_ctx: FLContext) -> str | None:
    """Return whom the server put into the answer's headers, over whatever was sent."""
    answer = fl_ctx.get_prop(FLContextKey.TASK_RESULT)
    if not isinstance(answer, Shareable):
        return None
    client = answer.get_header(ServerCommandKey.FL_CLIENT)
    return str(client.name) if isinstance(client, Client) else None


def _own_word(fl_ctx: FLContext) -> str:
    peer = fl_ctx.get_peer_context()
    return str(peer.get_identity_name("?")) if peer is not None else "?"


def local_folder(fl_ctx: FLContext) -> Path:
    """Return the ``local`` folder of this participant's workspace, absolute."""
    return Path(_workspace(fl_ctx).get_site_config_dir()).resolve()


def startup_folder(fl_ctx: FLContext) -> Path:
    """Return the ``startup`` folder of this participant's kit, absolute."""
    return Path(_workspace(fl_ctx).get_startup_kit_dir()).resolve()


def workspace_folder(fl_ctx: FLContext) -> Path:
    """Return this participant's workspace, absolute."""
    return Path(_workspace(fl_ctx).get_root_dir()).resolve()


def run_folder(fl_ctx: FLContext) -> Path:
    """Return the folder of this job's run, absolute."""
    return Path(_workspace(fl_ctx).get_run_dir(fl_ctx.get_job_id())).resolve()


def app_folder(fl_ctx: FLContext) -> Path:
    """Return the folder of the job's deployed app, absolute; the persistor writes models there."""
    return Path(str(fl_ctx.get_prop(FLContextKey.APP_ROOT))).resolve()


def job_sites(fl_ctx: FLContext) -> int:
    """Count the sites that the running job was sent to; 1 when the job does not say."""
    return max(1, len(_job_meta(fl_ctx).get(JobMetaKey.JOB_CLIENTS.value) or ()))


def needed_sites(fl_ctx: FLContext) -> int:
    """Return the fewest sites that the running job says it makes a round of; 1 when it does not."""
    return max(1, int(_job_meta(fl_ctx).get(JobMetaKey.MIN_CLIENTS.value) or 1))


def submitter(fl_ctx: FLContext) -> str:
    """Return who submitted the running job; ``system`` when the job does not say."""
    return str(_job_meta(fl_ctx).get(JobMetaKey.SUBMITTER_NAME.value) or "system")


def _job_meta(fl_ctx: FLContext) -> dict[str, Any]:
    return fl_ctx.get_prop(FLContextKey.JOB_META) or {}


def job_submitter(fl_ctx: FLContext) -> str:
    """Return who submitted the running job, and of which organisation; empty in the simulator."""
    meta: dict[str, Any] = fl_ctx.get_prop(FLContextKey.JOB_META) or {}
    said = (meta.get(JobMetaKey.SUBMITTER_NAME.value), meta.get(JobMetaKey.SUBMITTER_ORG.value))
    return "/".join(str(part) for part in said if part)


def _workspace(fl_ctx: FLContext) -> Any:
    return fl_ctx.get_engine().get_workspace()
