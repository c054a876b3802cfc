"""The best global model has the highest median over sites of the metric that they measured.

The median, because a site's own word is all that anybody knows of its metric: one site that claims
120 dB for its model of choice, or 0 dB for all others, decides a mean and not a median. With two
sites both are the same.
"""

from __future__ import annotations

import math
from statistics import median

from nvflare.apis.dxo import MetaKey, from_shareable
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import FLContextKey
from nvflare.apis.fl_context import FLContext
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.app_event_type import AppEventType
from nvflare.widgets.widget import Widget

from app_custom.gates.shared_metrics import shared_metrics
from app_custom.nvflare_context import peer_name
from app_custom.server.global_metrics import GlobalMetrics


class BestModel(Widget):
    """Fires ``GLOBAL_BEST_MODEL_AVAILABLE`` while the best model so far is the global model.

    NVFlare's ``IntimeModelSelector`` compares means over whoever answered, which a round without
    its weakest site wins, and counts answers that the aggregator refuses. Here two models are
    compared by their medians over the sites that measured both, from accepted answers alone. The
    initial model does not compete, the final one does.

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
        value = median(new[site] for site in common)
        earlier = median(best[site] for site in common)
        if self.best_round and value <= earlier:
            return
        self.best_round = finished
        self.log_info(
            fl_ctx,
            f"best model so far: after {finished} round(s), median {self._key_metric} {value:.4f} "
            f"over {', '.join(common)}",
        )
        self.fire_event(AppEventType.GLOBAL_BEST_MODEL_AVAILABLE, fl_ctx)


class SwarmBestModel(Widget):
    """Fires ``GLOBAL_BEST_MODEL_AVAILABLE`` at the site of a swarm that aggregates the best model.

    NVFlare's swarm compares what its sites hold by the number that comes with the event
    (``VALIDATION_RESULT``); its own selector would give it a mean. In a swarm every site takes part
    in every round, so medians of different rounds can be compared.

    Args:
        key_metric: the metric; higher is better.

    Attributes:
        best_val_metric: the highest median so far.
    """

    def __init__(self, key_metric: str) -> None:
        super().__init__()
        self.best_val_metric = -math.inf
        self._key_metric = key_metric
        self._values: dict[str, float] = {}

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Collect the answers of a round as they are accepted; compare when all are there."""
        if event_type == AppEventType.ROUND_STARTED:
            self._values = {}
        elif event_type == AppEventType.AFTER_CONTRIBUTION_ACCEPT:
            self._note(fl_ctx)
        elif event_type == AppEventType.BEFORE_AGGREGATION:
            self._compete(fl_ctx)

    def _note(self, fl_ctx: FLContext) -> None:
        if not fl_ctx.get_prop(AppConstants.AGGREGATION_ACCEPTED):
            return
        answer = from_shareable(fl_ctx.get_prop(AppConstants.TRAINING_RESULT))
        metrics = shared_metrics(answer.get_meta_prop(MetaKey.INITIAL_METRICS) or {})
        if self._key_metric in metrics:
            self._values[peer_name(fl_ctx)] = metrics[self._key_metric]

    def _compete(self, fl_ctx: FLContext) -> None:
        """The initial model does not compete."""
        values, self._values = self._values, {}
        if not values or int(fl_ctx.get_prop(AppConstants.CURRENT_ROUND, 0)) == 0:
            return
        value = median(values.values())
        if value > self.best_val_metric:
            self.best_val_metric = value
            fl_ctx.set_prop(AppConstants.VALIDATION_RESULT, value, private=True, sticky=False)
            self.fire_event(AppEventType.GLOBAL_BEST_MODEL_AVAILABLE, fl_ctx)
