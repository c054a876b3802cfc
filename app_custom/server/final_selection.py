"""Keep a swarm's final model as the best one where it is."""

from __future__ import annotations

from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import FLContextKey
from nvflare.apis.fl_context import FLContext
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.app_event_type import AppEventType
from nvflare.widgets.widget import Widget

from app_custom.server.global_metrics import GlobalMetrics


class FinalSelection(Widget):
    """After the final evaluation, lets the final model compete with the best of earlier rounds.

    NVFlare's ``IntimeModelSelector`` decides at the sites of a swarm while rounds run; this widget
    applies its rule once more to the model that the last round produced. In a swarm every site
    takes part in every round, so that means over sites can be compared.

    Args:
        key_metric: the metric that both compare; higher is better.
        selector_id: component of the ``IntimeModelSelector``.
        metrics_id: component of the ``GlobalMetrics``; it must be listed before this widget.
        workflow_id: the workflow that evaluates the final model.
    """

    def __init__(
        self, key_metric: str, selector_id: str, metrics_id: str, workflow_id: str
    ) -> None:
        super().__init__()
        self._key_metric = key_metric
        self._selector_id = selector_id
        self._metrics_id = metrics_id
        self._workflow_id = workflow_id

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Compare when the final evaluation has ended."""
        if event_type != EventType.END_WORKFLOW:
            return
        if fl_ctx.get_prop(FLContextKey.WORKFLOW) != self._workflow_id:
            return
        engine = fl_ctx.get_engine()
        metrics: GlobalMetrics = engine.get_component(self._metrics_id)
        selector = engine.get_component(self._selector_id)
        final_round = int(fl_ctx.get_prop(AppConstants.CURRENT_ROUND, -1)) + 1
        value = metrics.mean(self._key_metric, final_round)
        if value is None:
            return
        best = selector.best_val_metric
        self.log_info(
            fl_ctx, f"final {self._key_metric} {value:.4f}, best of earlier rounds {best:.4f}"
        )
        if value > best:
            selector.best_val_metric = value
            self.fire_event(AppEventType.GLOBAL_BEST_MODEL_AVAILABLE, fl_ctx)
