"""Bring the model that a swarm has agreed on to the server."""

from __future__ import annotations

import numpy as np
from nvflare.apis.client import Client
from nvflare.apis.dxo import from_shareable
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.app_common.abstract.model import ModelLearnableKey, make_model_learnable
from nvflare.app_common.abstract.response_processor import ResponseProcessor
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.app_event_type import AppEventType

from app_custom.server.global_metrics import GlobalMetrics
from fedi2i.metric_files import RECEIVED
from lightning_modules.combining.updates import (
    SiteUpdate,
    UpdateRefusedError,
    Weights,
    check_update,
)


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
        """A task says what it asks for by its name."""
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
            self.system_panic(f"'{task_name}' of site '{client.name}': {refused}", fl_ctx)
            return False
        rounds = int(fl_ctx.get_prop(AppConstants.CURRENT_ROUND)) + 1
        size = float(sum(value.nbytes for value in copy.weights.values()))
        metrics: GlobalMetrics = fl_ctx.get_engine().get_component(self._metrics_id)
        metrics.take([(client.name, rounds, RECEIVED, size)])
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
