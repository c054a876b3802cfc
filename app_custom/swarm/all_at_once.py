"""Refuse a simulator that does not run all sites at the same time."""

from __future__ import annotations

from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import FLContextKey
from nvflare.apis.fl_context import FLContext
from nvflare.private.fed.utils.fed_utils import split_gpus
from nvflare.widgets.widget import Widget


class AllAtOnce(Widget):
    """Ends the job at its start where the simulator has fewer threads than sites.

    Such a simulator starts a process for each task of the server and ends it with the task. Sites
    that talk to each other need processes that last.
    """

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Look when the run starts; a real server's arguments know no threads."""
        if event_type != EventType.START_RUN:
            return
        options = fl_ctx.get_prop(FLContextKey.ARGS)
        threads = getattr(options, "threads", None)
        if threads is None:
            return
        groups = len(split_gpus(options.gpu)) if getattr(options, "gpu", None) else 1
        sites = len(fl_ctx.get_engine().get_clients())
        if threads * groups < sites:
            self.system_panic(
                f"swarm learning needs all {sites} sites at the same time, and this simulator runs "
                f"{threads * groups}: add '-t {sites}' to the command (with at most one GPU group)",
                fl_ctx,
            )
