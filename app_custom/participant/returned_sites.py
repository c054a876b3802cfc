"""Tell a running job of a site that has started anew: its process of the job is gone.

NVFlare 2.9 watches for sites that stay away and for jobs that a site no longer reports. A site that
crashes and is back before its heartbeat is missed falls between the two: it registers under a new
token, the job still waits for the old one, and nothing ends the wait. The server's
``resources.json`` lists this component; it works in the server's own process.
"""

from __future__ import annotations

from typing import Any

from nvflare.apis.event_type import EventType
from nvflare.apis.fl_component import FLComponent
from nvflare.apis.fl_constant import RunProcessKey
from nvflare.apis.fl_context import FLContext


class ReturnedSites(FLComponent):
    """Reports, once each, participants of running jobs whose registration is no longer known."""

    def __init__(self) -> None:
        super().__init__()
        self._told: set[tuple[str, str]] = set()

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Look after every registration."""
        if event_type != EventType.CLIENT_REGISTER_PROCESSED:
            return
        engine = fl_ctx.get_engine()
        registered = set(engine.client_manager.clients)
        for job_id, process in list(engine.run_processes.items()):
            for site in self._gone(job_id, process, registered):
                engine.notify_dead_job(job_id, site, "the site has started anew")

    def _gone(self, job_id: str, process: dict[str, Any], registered: set[str]) -> list[str]:
        participants = process.get(RunProcessKey.PARTICIPANTS) or {}
        sites = []
        for token, client in participants.items():
            if token not in registered and (job_id, token) not in self._told:
                self._told.add((job_id, token))
                sites.append(client.name)
        return sites
