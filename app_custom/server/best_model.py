"""The best global model is found by comparing two models over the sites that measured both."""

from __future__ import annotations

from statistics import fmean

from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import FLContextKey
from nvflare.apis.fl_context import FLContext
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.app_event_type import AppEventType
from nvflare.widgets.widget import Widget

from app_custom.server.global_metrics import GlobalMetrics


class BestModel(Widget):
    """Fires ``GLOBAL_BEST_MODEL_AVAILABLE`` while the best model so far is the global model.

    NVFlare's ``IntimeModelSelector`` compares means over whoever answered, which a round without
    its weakest site wins, and counts answers that the aggregator refuses. Here two models are
    compared by their unweighted means over the sites that measured both, from accepted answers
    alone. The initial model does not compete, the final one does.

    Args:
        key_metric: the metric; higher is better.
        metrics_id: component of the ``GlobalMetrics``; it must be listed before this widget.
        workflow_id: the workflow that evaluates the final model.

    Attributes:
        best_round: number of rounds after which the global model was best so far; 0 before the
            first comparison.
    """

    def __init__(self, key_metric: str, metrics_id: str, workflow_id: str) -> None:
        super().__init__()
        self.best_round = 0
        self._key_metric = key_metric
        self._metrics_id = metrics_id
        self._workflow_id = workflow_id

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Compare the received model when all answers are there, and the final one at the end."""
        finished = int(fl_ctx.get_prop(AppConstants.CURRENT_ROUND, 0))
        if event_type == AppEventType.BEFORE_AGGREGATION:
            self._compete(finished, fl_ctx)
        elif (
            event_type == EventType.END_WORKFLOW
            and fl_ctx.get_prop(FLContextKey.WORKFLOW) == self._workflow_id
        ):
            self._compete(finished + 1, fl_ctx)

    def _compete(self, finished: int, fl_ctx: FLContext) -> None:
        if finished == 0:
            return
        metrics: GlobalMetrics = fl_ctx.get_engine().get_component(self._metrics_id)
        new = metrics.by_site(self._key_metric, finished)
        best = metrics.by_site(self._key_metric, self.best_round) if self.best_round else new
        common = sorted(new.keys() & best.keys())
        if not common:
            return
        value, earlier = fmean(new[site] for site in common), fmean(best[site] for site in common)
        if self.best_round and value <= earlier:
            return
        self.best_round = finished
        self.log_info(
            fl_ctx,
            f"best model so far: after {finished} round(s), {self._key_metric} {value:.4f} over "
            f"{', '.join(common)}",
        )
        self.fire_event(AppEventType.GLOBAL_BEST_MODEL_AVAILABLE, fl_ctx)
