"""Which models the final evaluation sends to the sites: the final one."""

from __future__ import annotations

from nvflare.apis.dxo import DXO
from nvflare.apis.fl_context import FLContext
from nvflare.app_common.abstract.model import model_learnable_to_dxo
from nvflare.app_common.abstract.model_locator import ModelLocator
from nvflare.app_common.app_constant import AppConstants

NAME = "final"


class FinalModelLocator(ModelLocator):
    """Names the global model after the last round.

    NVFlare judges the model that a round starts from, so the result of the last round would never
    be measured. NVFlare's own locator would send the best model too, which the sites have already
    measured.
    """

    def get_model_names(self, fl_ctx: FLContext) -> list[str]:
        """The one model to evaluate."""
        return [NAME]

    def locate_model(self, model_name: str, fl_ctx: FLContext) -> DXO:
        """The global model as the sites receive it."""
        return model_learnable_to_dxo(fl_ctx.get_prop(AppConstants.GLOBAL_MODEL))
