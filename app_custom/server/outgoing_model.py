"""The global model goes out to the sites with what the strategy and the server say beside it."""

from __future__ import annotations

from nvflare.apis.dxo import DXO, DataKind
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.app_common.abstract.model import (
    ModelLearnable,
    ModelLearnableKey,
    model_learnable_to_dxo,
)
from nvflare.app_common.abstract.model_locator import ModelLocator
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.shareablegenerators.full_model_shareable_generator import (
    FullModelShareableGenerator,
)

from app_custom.aggregation.aggregator import Aggregator
from app_custom.aggregation.model_message import ACCEPTED_ROUNDS, pack

FINAL_MODEL = "final"
"""What NVFlare calls the model of the final evaluation."""


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
        """Send the weights, the strategy's arrays, and which answers the server took last.

        The learnable itself stays as it is.
        """
        aggregator: Aggregator = fl_ctx.get_engine().get_component(self._aggregator_id)
        aggregator.fl_ctx = fl_ctx
        data = pack(model_learnable[ModelLearnableKey.WEIGHTS], aggregator.extras_for_sites())
        meta = {
            **(model_learnable[ModelLearnableKey.META] or {}),
            ACCEPTED_ROUNDS: aggregator.accepted_rounds(),
        }
        return DXO(DataKind.WEIGHTS, data=data, meta=meta).to_shareable()


class FinalModelLocator(ModelLocator):
    """Has the final evaluation send out one model: the global model after the last round.

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
        """Name the one model to evaluate."""
        return [FINAL_MODEL]

    def locate_model(self, model_name: str, fl_ctx: FLContext) -> DXO:
        """Return the global model as the sites receive it."""
        model = model_learnable_to_dxo(fl_ctx.get_prop(AppConstants.GLOBAL_MODEL))
        aggregator = fl_ctx.get_engine().get_component(self._aggregator_id)
        if isinstance(aggregator, Aggregator):
            aggregator.fl_ctx = fl_ctx
            model.set_meta_prop(ACCEPTED_ROUNDS, aggregator.accepted_rounds())
        return model
