"""At the end of a swarm the server collects the model that all sites hold.

``HeldModels`` answers at a site, ``CollectedModel`` compares the answers at the server, and
``FinalSelection`` keeps the final model as the best one where it is.
"""

from __future__ import annotations

import numpy as np
from nvflare.apis.client import Client
from nvflare.apis.dxo import DXO, DataKind, from_shareable
from nvflare.apis.event_type import EventType
from nvflare.apis.executor import Executor
from nvflare.apis.fl_constant import FLContextKey, ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.apis.signal import Signal
from nvflare.app_common.abstract.model import ModelLearnableKey, make_model_learnable
from nvflare.app_common.abstract.response_processor import ResponseProcessor
from nvflare.app_common.app_constant import AppConstants, DefaultCheckpointFileName
from nvflare.app_common.app_event_type import AppEventType
from nvflare.widgets.widget import Widget

from app_custom.aggregation.received_update import UPDATE_REFUSED
from app_custom.audit_trail import audit, one_line
from app_custom.server.global_metrics import GlobalMetrics
from fedi2i.metric_files import RECEIVED
from lightning_modules.combining.updates import (
    SiteUpdate,
    UpdateRefusedError,
    Weights,
    check_update,
)

FINAL_TASK, BEST_TASK = "submit_final_model", "submit_best_model"
_FILES = {
    FINAL_TASK: DefaultCheckpointFileName.GLOBAL_MODEL,
    BEST_TASK: DefaultCheckpointFileName.BEST_GLOBAL_MODEL,
}


class HeldModels(Executor):
    """Answers with the final or the best aggregated model, as the swarm left it at this site.

    Args:
        persistor_id: component that has saved them.
    """

    def __init__(self, persistor_id: str = "persistor") -> None:
        super().__init__()
        self._persistor_id = persistor_id

    def execute(
        self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal
    ) -> Shareable:
        """Send the weights alone; ``EMPTY_RESULT`` where the site holds no such model."""
        if task_name not in _FILES:
            return make_reply(ReturnCode.TASK_UNKNOWN)
        persistor = fl_ctx.get_engine().get_component(self._persistor_id)
        model = persistor.get_model(_FILES[task_name], fl_ctx)
        if model is None:
            return make_reply(ReturnCode.EMPTY_RESULT)
        return DXO(DataKind.WEIGHTS, data=model[ModelLearnableKey.WEIGHTS]).to_shareable()


class CollectedModel(ResponseProcessor):
    """Takes one model that every site holds alike, and saves it as the global model.

    Used with NVFlare's ``BroadcastAndProcess``. That the copies must be equal to the last bit is a
    check of the swarm: no site can show the server another model than the others have.

    Args:
        best: whether it is the best model so far, which not every run has; else the final one.
        persistor_id: component that saves it.
        metrics_id: component that counts the copies' bytes.
    """

    def __init__(
        self, best: bool, persistor_id: str = "persistor", metrics_id: str = "global_metrics"
    ) -> None:
        super().__init__()
        self._best = best
        self._persistor_id = persistor_id
        self._metrics_id = metrics_id
        self._expected: Weights = {}
        self._first: SiteUpdate | None = None

    def create_task_data(self, task_name: str, fl_ctx: FLContext) -> Shareable:
        """Send no data: a task says by its name which model it asks for."""
        persistor = fl_ctx.get_engine().get_component(self._persistor_id)
        self._expected = dict(persistor.load(fl_ctx)[ModelLearnableKey.WEIGHTS])
        self._first = None
        return Shareable()

    def process_client_response(
        self, client: Client, task_name: str, response: Shareable, fl_ctx: FLContext
    ) -> bool:
        """Check one site's copy; False, and the reason as the job's last word, if it is refused."""
        if self._best and response.get_return_code() == ReturnCode.EMPTY_RESULT:
            return True
        try:
            copy = self._checked(client.name, response)
            self._compare(copy)
        except UpdateRefusedError as refused:
            audit(client.name, UPDATE_REFUSED, refused)
            self.system_panic(f"'{task_name}' of site '{client.name}': {one_line(refused)}", fl_ctx)
            return False
        rounds = int(fl_ctx.get_prop(AppConstants.CURRENT_ROUND)) + 1
        size = float(sum(value.nbytes for value in copy.weights.values()))
        metrics: GlobalMetrics = fl_ctx.get_engine().get_component(self._metrics_id)
        metrics.add_rows([(client.name, rounds, RECEIVED, size)])
        return True

    def final_process(self, fl_ctx: FLContext) -> bool:
        """Save what was collected."""
        if self._first is None:
            return self._best
        model = make_model_learnable(self._first.weights, {})
        fl_ctx.set_prop(AppConstants.GLOBAL_MODEL, model, private=True, sticky=True)
        if self._best:
            self.fire_event(AppEventType.GLOBAL_BEST_MODEL_AVAILABLE, fl_ctx)
        else:
            fl_ctx.get_engine().get_component(self._persistor_id).save(model, fl_ctx)
        return True

    def _checked(self, site: str, response: Shareable) -> SiteUpdate:
        code = response.get_return_code()
        if code != ReturnCode.OK:
            raise UpdateRefusedError(f"no model ({code}); the reason is in that site's log")
        try:
            weights = dict(from_shareable(response).data)
        except (TypeError, ValueError) as error:
            raise UpdateRefusedError(f"it cannot be read as a model ({error})") from error
        copy = SiteUpdate(site, weights, samples=1.0)
        check_update(copy, self._expected)
        return copy

    def _compare(self, copy: SiteUpdate) -> None:
        if self._first is None:
            self._first = copy
            return
        for key, value in self._first.weights.items():
            if not np.array_equal(value, copy.weights[key]):
                raise UpdateRefusedError(
                    f"'{key}' differs from the copy of site '{self._first.site}'"
                )


class FinalSelection(Widget):
    """After the final evaluation, lets the final model compete with the best of earlier rounds.

    ``SwarmBestModel`` decides at the sites of a swarm while rounds run; this widget
    applies its rule once more to the model that the last round produced. In a swarm every site
    takes part in every round, so that medians over sites can be compared.

    Args:
        key_metric: the metric that both compare; higher is better.
        selector_id: component of the ``SwarmBestModel``.
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
        value = metrics.median(self._key_metric, final_round)
        if value is None:
            return
        best = selector.best_val_metric
        self.log_info(
            fl_ctx, f"final {self._key_metric} {value:.4f}, best of earlier rounds {best:.4f}"
        )
        if value > best:
            selector.best_val_metric = value
            self.fire_event(AppEventType.GLOBAL_BEST_MODEL_AVAILABLE, fl_ctx)
