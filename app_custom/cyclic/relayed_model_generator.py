"""The model as it goes from site to site in cyclic training."""

from __future__ import annotations

from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.app_common.abstract.model import (
    ModelLearnable,
    ModelLearnableKey,
    make_model_learnable,
)
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.app_event_type import AppEventType
from nvflare.app_common.shareablegenerators.full_model_shareable_generator import (
    FullModelShareableGenerator,
)

from app_custom.aggregation.received_update import model_of, update_from
from app_custom.nvflare_context import peer_name
from lightning_modules.combining.updates import UpdateRefusedError, check_update


class RelayedModelGenerator(FullModelShareableGenerator):
    """Makes a site's checked update the model that its successor receives.

    NVFlare's own generator takes any weights as they come, and passes a site's meta data (metrics,
    number of samples) on to the next site. This one holds an update to the aggregators' rules, ends
    the job where it breaks them, since every later site would build on it, and passes on weights
    alone.

    Args:
        partial_networks: whether a site may leave out whole networks that it could not train; its
            successor then receives them as this site did.
    """

    def __init__(self, partial_networks: bool = False) -> None:
        super().__init__()
        self._partial = partial_networks

    def shareable_to_learnable(self, shareable: Shareable, fl_ctx: FLContext) -> ModelLearnable:
        """The update as the global model; fires ``AFTER_CONTRIBUTION_ACCEPT``.

        Raises:
            UpdateRefusedError: it must not become the global model; the job has been ended.
        """
        site = peer_name(fl_ctx)
        received = dict(fl_ctx.get_prop(AppConstants.GLOBAL_MODEL)[ModelLearnableKey.WEIGHTS])
        try:
            update = update_from(model_of(shareable, fl_ctx), site)
            check_update(update, received, partial=self._partial)
        except UpdateRefusedError as refused:
            self.system_panic(
                f"round {fl_ctx.get_prop(AppConstants.CURRENT_ROUND)}: the model from site "
                f"'{site}' is refused: {refused}; all later sites would build on it",
                fl_ctx,
            )
            raise
        relayed = make_model_learnable({**received, **update.weights}, {})
        fl_ctx.set_prop(AppConstants.GLOBAL_MODEL, relayed, private=True, sticky=True)
        fl_ctx.set_prop(AppConstants.AGGREGATION_ACCEPTED, True, private=True, sticky=False)
        self.fire_event_with_data(
            AppEventType.AFTER_CONTRIBUTION_ACCEPT, fl_ctx, AppConstants.TRAINING_RESULT, shareable
        )
        return relayed
