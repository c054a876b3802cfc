"""What all our aggregators do before they combine: check, collect and order the sites' updates."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real

import numpy as np
from nvflare.apis.dxo import MetaKey
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.app_common.abstract.fl_model import FLModel, ParamsType
from nvflare.app_common.aggregators.model_aggregator import ModelAggregator
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.utils.fl_model_utils import FLModelUtils

from app_custom.nvflare_context import peer_name

Weights = dict[str, np.ndarray]


@dataclass(frozen=True)
class SiteUpdate:
    """One site's answer in one round.

    Attributes:
        site: its name.
        weights: parameter name to array.
        samples: its number of training slices.
    """

    site: str
    weights: Weights
    samples: float


class UpdateRefusedError(ValueError):
    """An update that must not be averaged; says why."""


class CollectingAggregator(ModelAggregator):
    """Collects one checked update per site, then combines them in the order of site names.

    Updates of other rounds, second updates of a site, updates with other keys or shapes than the
    global model and updates that hold NaN or infinity are refused and the site is named; the round
    goes on with the rest. Sums run in the order of names, not of arrival, so that results do not
    depend on timing.

    Args:
        min_sites: fewest updates that make a round; with fewer the job ends and names the sites
            that are missing.
    """

    def __init__(self, min_sites: int) -> None:
        super().__init__()
        self._min_sites = min_sites
        self._updates: dict[str, SiteUpdate] = {}

    @abstractmethod
    def combine(self, updates: Sequence[SiteUpdate], anchor: Weights) -> Weights:
        """Combine the updates into the next global model.

        Args:
            updates: at least one, ordered by site name.
            anchor: the global model that was sent out in this round.
        """

    def accept(self, shareable: Shareable, fl_ctx: FLContext) -> bool:
        """Check and keep one site's update; False if it was refused."""
        self.fl_ctx = fl_ctx
        site = peer_name(fl_ctx)
        try:
            self._check_turn(site, shareable.get_cookie(AppConstants.CONTRIBUTION_ROUND), fl_ctx)
            self.accept_model(_model_of(shareable, fl_ctx))
        except UpdateRefusedError as refused:
            self.log_warning(fl_ctx, f"update of site '{site}' refused: {refused}")
            return False
        return True

    def accept_model(self, model: FLModel) -> None:
        """Check and keep one update.

        Raises:
            UpdateRefusedError: it does not fit the global model or is not finite.
        """
        site = peer_name(self.fl_ctx)
        if model.params_type == ParamsType.DIFF:
            raise UpdateRefusedError("it holds differences, not weights")
        samples = (model.meta or {}).get(MetaKey.NUM_STEPS_CURRENT_ROUND)
        if not isinstance(samples, Real):
            raise UpdateRefusedError("it states no number of training samples")
        update = SiteUpdate(site, dict(model.params or {}), float(samples))
        check_update(update, self._anchor())
        self._updates[site] = update

    def aggregate(self, fl_ctx: FLContext) -> Shareable:
        """Combine what was collected, or end the job where too few sites answered."""
        self.fl_ctx = fl_ctx
        missing = sorted(self._invited() - set(self._updates))
        current_round = fl_ctx.get_prop(AppConstants.CURRENT_ROUND)
        if missing:
            self.log_warning(
                fl_ctx, f"round {current_round}: no usable update from {', '.join(missing)}"
            )
        if len(self._updates) < self._min_sites:
            self.system_panic(
                f"round {current_round}: {len(self._updates)} site(s) answered, at least "
                f"{self._min_sites} are needed; missing: {', '.join(missing)}",
                fl_ctx,
            )
            return Shareable()
        return FLModelUtils.to_shareable(self.aggregate_model())

    def aggregate_model(self) -> FLModel:
        """The combined model of the updates collected so far."""
        updates = [self._updates[site] for site in sorted(self._updates)]
        weights = self.combine(updates, self._anchor())
        return FLModel(params_type=ParamsType.FULL, params=weights)

    def reset_stats(self) -> None:
        """Forget the round's updates."""
        self._updates = {}

    def _anchor(self) -> Weights:
        model = self.fl_ctx.get_prop(AppConstants.GLOBAL_MODEL)
        return dict(model["weights"])

    def _invited(self) -> set[str]:
        return {client.name for client in self.fl_ctx.get_engine().get_clients()}

    def _check_turn(self, site: str, contribution_round: object, fl_ctx: FLContext) -> None:
        current = fl_ctx.get_prop(AppConstants.CURRENT_ROUND)
        if contribution_round != current:
            raise UpdateRefusedError(f"it belongs to round {contribution_round}, not {current}")
        if site in self._updates:
            raise UpdateRefusedError("the site has already answered in this round")


def _model_of(shareable: Shareable, fl_ctx: FLContext) -> FLModel:
    try:
        return FLModelUtils.from_shareable(shareable, fl_ctx)
    except Exception as error:
        raise UpdateRefusedError(f"it cannot be read as a model ({error})") from error


def check_update(update: SiteUpdate, anchor: Weights) -> None:
    """Refuse an update that cannot be combined with the global model.

    Raises:
        UpdateRefusedError: keys, shapes or types differ, a value is not finite, or the stated
            number of samples is not a finite number above 0.
    """
    if set(update.weights) != set(anchor):
        odd = min(set(update.weights) ^ set(anchor), key=str)
        raise UpdateRefusedError(f"its keys differ from the global model's, e.g. '{odd}'")
    for key, value in update.weights.items():
        if not isinstance(value, np.ndarray) or value.dtype != anchor[key].dtype:
            raise UpdateRefusedError(f"'{key}' is not an array of {anchor[key].dtype}")
        if value.shape != anchor[key].shape:
            raise UpdateRefusedError(
                f"'{key}' has shape {value.shape}, the global model {anchor[key].shape}"
            )
        if not np.isfinite(value).all():
            raise UpdateRefusedError(f"'{key}' holds NaN or infinity")
    if not 0 < update.samples < np.inf:
        raise UpdateRefusedError(f"it states {update.samples} training samples")
