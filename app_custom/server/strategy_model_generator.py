"""The global model as it goes out to the sites, together with what the strategy sends along."""

from __future__ import annotations

from nvflare.apis.dxo import DXO, DataKind
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.app_common.abstract.model import ModelLearnable, ModelLearnableKey
from nvflare.app_common.shareablegenerators.full_model_shareable_generator import (
    FullModelShareableGenerator,
)

from app_custom.aggregation.aggregator import Aggregator
from app_custom.aggregation.extras import joined
from app_custom.checkpoints.accepted_rounds import META_KEY


class StrategyModelGenerator(FullModelShareableGenerator):
    """NVFlare's generator for whole models, with the aggregator's arrays beside the weights.

    Args:
        aggregator_id: component whose arrays go out with the model.
    """

    def __init__(self, aggregator_id: str) -> None:
        super().__init__()
        self._aggregator_id = aggregator_id

    def learnable_to_shareable(
        self, model_learnable: ModelLearnable, fl_ctx: FLContext
    ) -> Shareable:
        """The weights, the strategy's arrays, and which answers the server took last.

        The learnable itself stays as it is.
        """
        aggregator: Aggregator = fl_ctx.get_engine().get_component(self._aggregator_id)
        aggregator.fl_ctx = fl_ctx
        data = joined(model_learnable[ModelLearnableKey.WEIGHTS], aggregator.extras_for_sites())
        meta = {
            **(model_learnable[ModelLearnableKey.META] or {}),
            META_KEY: aggregator.accepted_rounds(),
        }
        return DXO(DataKind.WEIGHTS, data=data, meta=meta).to_shareable()
