"""A site's update as NVFlare delivers it, read into our own record."""

from __future__ import annotations

from nvflare.apis.dxo import MetaKey
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.app_common.abstract.fl_model import FLModel, ParamsType
from nvflare.app_common.utils.fl_model_utils import FLModelUtils

from app_custom.aggregation.model_message import unpack
from lightning_modules.combining.known_samples import claimed_samples
from lightning_modules.combining.updates import SiteUpdate, UpdateRefusedError

UPDATE_REFUSED = "update.refused"
"""The action in the audit trail of the job."""


def model_of(shareable: Shareable, fl_ctx: FLContext) -> FLModel:
    """The model in an answer.

    Raises:
        UpdateRefusedError: the answer holds none.
    """
    try:
        return FLModelUtils.from_shareable(shareable, fl_ctx)
    except Exception as error:
        raise UpdateRefusedError(f"it cannot be read as a model ({error})") from error


def update_from(model: FLModel, site: str) -> SiteUpdate:
    """The update of a site; not yet held against the global model (see ``check_update``).

    Raises:
        UpdateRefusedError: it holds differences, or states no number of samples that can be.
    """
    if model.params_type == ParamsType.DIFF:
        raise UpdateRefusedError("it holds differences, not weights")
    samples = (model.meta or {}).get(MetaKey.NUM_STEPS_CURRENT_ROUND)
    count = claimed_samples(samples)
    for key in model.params or {}:
        if not isinstance(key, str):
            raise UpdateRefusedError(f"its key '{key}' is no name")
    weights, arrays = unpack(model.params or {})
    return SiteUpdate(site, weights, count, arrays)
