"""The server of a swarm follows the rounds, which happen between the sites.

All sites must run at the same time: a simulator that cannot do so is refused at the start.
"""

from __future__ import annotations

import threading

from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import FLContextKey, ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.app_event_type import AppEventType
from nvflare.app_common.ccwf.server_ctl import ServerSideController
from nvflare.private.fed.utils.fed_utils import split_gpus
from nvflare.widgets.widget import Widget

from app_custom.audit_trail import audit, one_line
from app_custom.nvflare_context import peer_name
from app_custom.server.global_metrics import GlobalMetrics
from app_custom.server.site_watch import STAYS_CONNECTED
from app_custom.swarm.round_report import TOPIC, RoundRecord, record_from

RECORD_REFUSED = "record.refused"
"""The action in the audit trail of the job."""


class SwarmRounds(Widget):
    """Takes the aggregating sites' records and fires ``ROUND_DONE`` for our other widgets.

    It keeps the metrics, lets the model selector know the best median so far, and ends the job
    where a round lacks a site. The server sees no model before the end.

    Args:
        num_rounds: rounds of the whole run.
        task_names: the swarm's tasks that the server sends; a site that has answered one must stay
            connected until the swarm has ended.
        key_metric: the metric by which models are compared; higher is better.
        metrics_id, selector_id: components that are told.
        goodbye_seconds: how long all sites together have to confirm the swarm's end. NVFlare gives
            them two seconds, takes no argument for it, and fails the job, trained as it is, where
            one is late.
    """

    def __init__(
        self,
        num_rounds: int,
        task_names: list[str],
        key_metric: str,
        metrics_id: str,
        selector_id: str,
        goodbye_seconds: float = 120.0,
    ) -> None:
        super().__init__()
        self._num_rounds = num_rounds
        self._task_names = frozenset(task_names)
        self._key_metric = key_metric
        self._metrics_id = metrics_id
        self._selector_id = selector_id
        self._goodbye_seconds = goodbye_seconds
        self._finished = 0
        self._lock = threading.Lock()

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Listen to records from the start of the run; say who must stay connected."""
        if event_type == EventType.START_RUN:
            fl_ctx.get_engine().register_aux_message_handler(TOPIC, self.handle_record)
        elif event_type == EventType.START_WORKFLOW:
            self._allow_time(fl_ctx)
        elif event_type == EventType.END_WORKFLOW:
            self._close(fl_ctx)
        elif (
            event_type == EventType.AFTER_PROCESS_SUBMISSION
            and fl_ctx.get_prop(FLContextKey.TASK_NAME) in self._task_names
        ):
            self.fire_event(STAYS_CONNECTED, fl_ctx)

    def _allow_time(self, fl_ctx: FLContext) -> None:
        runner = fl_ctx.get_prop(FLContextKey.RUNNER)
        controller = runner.config.workflows[runner.current_wf_index].controller
        if isinstance(controller, ServerSideController):
            controller.end_workflow_timeout = self._goodbye_seconds

    def handle_record(self, topic: str, request: Shareable, fl_ctx: FLContext) -> Shareable:
        """Handle one record; one of an earlier round or with unlisted content is refused."""
        sender = peer_name(fl_ctx)
        try:
            record = record_from(request)
            with self._lock:
                if not self._finished <= record.round_number < self._num_rounds:
                    raise ValueError(f"it is of round {record.round_number}")
                self._finish(record, sender, fl_ctx)
        except ValueError as error:
            self.log_warning(fl_ctx, f"record from site '{sender}' refused: {one_line(error)}")
            audit(sender, RECORD_REFUSED, error)
            return make_reply(ReturnCode.BAD_REQUEST_DATA)
        return make_reply(ReturnCode.OK)

    def _finish(self, record: RoundRecord, sender: str, fl_ctx: FLContext) -> None:
        engine, number = fl_ctx.get_engine(), record.round_number
        sites = {client.name for client in engine.get_clients()}
        strange = sorted({site for site, _, _ in record.rows} - sites)
        if strange:
            raise ValueError(f"it speaks of '{strange[0]}', which is no site of this job")
        missing = sorted(sites - set(record.accepted))
        if missing:
            self.system_panic(
                f"round {number}: no usable update from {', '.join(missing)}; site '{sender}' "
                "aggregates this round, and its log has the reason",
                fl_ctx,
            )
            return
        self._finished = number + 1
        fl_ctx.set_prop(AppConstants.CURRENT_ROUND, number, private=True, sticky=True)
        metrics: GlobalMetrics = engine.get_component(self._metrics_id)
        metrics.add_rows((site, number, metric, value) for site, metric, value in record.rows)
        self.fire_event(AppEventType.ROUND_DONE, fl_ctx)
        self.log_info(fl_ctx, f"Round {number} finished, aggregated at site '{sender}'.")
        value = metrics.median(self._key_metric, number)
        if number > 0 and value is not None:  # the initial model does not compete
            selector = engine.get_component(self._selector_id)
            selector.best_val_metric = max(selector.best_val_metric, value)

    def _close(self, fl_ctx: FLContext) -> None:
        """Training has ended: what follows belongs to the model after all rounds.

        A record may have been lost on its way, which must cost nothing but its numbers.
        """
        if fl_ctx.get_prop(FLContextKey.RUNNER).abort_signal.triggered:
            return
        if self._finished < self._num_rounds:
            self.log_warning(fl_ctx, f"no record of rounds from {self._finished} on has arrived")
        self._finished = self._num_rounds
        last = self._num_rounds - 1
        fl_ctx.set_prop(AppConstants.CURRENT_ROUND, last, private=True, sticky=True)


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
