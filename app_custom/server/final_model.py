"""Which models the final evaluation sends to the sites: the final one."""

from __future__ import annotations

from nvflare.apis.dxo import DXO
from nvflare.apis.fl_context import FLContext
from nvflare.app_common.abstract.model import model_learnable_to_dxo
from nvflare.app_common.abstract.model_locator import ModelLocator
from nvflare.app_common.app_constant import AppConstants

from app_custom.aggregation.aggregator import Aggregator
from app_custom.checkpoints.accepted_rounds import META_KEY

NAME = "final"


class FinalModelLocator(ModelLocator):
    """Names the global model after the last round.

    NVFlare judges the model that a round starts from, so the result of the last round would never
    be measured. NVFlare's own locator would send the best model too, which the sites have already
    measured. With it goes the last round of each site that the server took, where it collects
    rounds.

    Args:
        aggregator_id: component that collects them.
    """

    def __init__(self, aggregator_id: str = "aggregator") -> None:
        super().__init__()
        self._aggregator_id = aggregator_id

    def get_model_names(self, fl_ctx: FLContext) -> list[str]:
        """The one model to evaluate."""
        return [NAME]

    def locate_model(self, model_name: str, fl_ctx: FLContext) -> DXO:
        """The global model as the sites receive it."""
        model = model_learnable_to_dxo(fl_ctx.get_prop(AppConstants.GLOBAL_MODEL))
        aggregator = fl_ctx.get_engine().get_component(self._aggregator_id)
        if isinstance(aggregator, Aggregator):
            aggregator.fl_ctx = fl_ctx
            model.set_meta_prop(META_KEY, aggregator.accepted_rounds())
        return model
