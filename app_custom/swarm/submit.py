"""The models that a site of a swarm holds, for the server's question at the end."""

from __future__ import annotations

from nvflare.apis.dxo import DXO, DataKind
from nvflare.apis.executor import Executor
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.apis.signal import Signal
from nvflare.app_common.abstract.model import ModelLearnableKey
from nvflare.app_common.app_constant import DefaultCheckpointFileName

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
        """The weights alone; ``EMPTY_RESULT`` where the site holds no such model."""
        if task_name not in _FILES:
            return make_reply(ReturnCode.TASK_UNKNOWN)
        persistor = fl_ctx.get_engine().get_component(self._persistor_id)
        model = persistor.get_model(_FILES[task_name], fl_ctx)
        if model is None:
            return make_reply(ReturnCode.EMPTY_RESULT)
        return DXO(DataKind.WEIGHTS, data=model[ModelLearnableKey.WEIGHTS]).to_shareable()
