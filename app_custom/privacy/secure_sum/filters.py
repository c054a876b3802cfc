"""Secure aggregation as a pair of filters at a site: ``BeginSum`` and ``MaskUpdate``.

``BeginSum`` stands in the way of the model that arrives: it refuses a sum that the site must not be
part of, before anything is trained, and remembers the weights. ``MaskUpdate`` stands in the way of
the answer: what leaves is the change of the weights as masked integers, in which nobody finds
anything, and beside it the numbers that leave without masks as well. Both belong to the job; noise
of a site's own policy is added before them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from nvflare.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from nvflare.apis.filter import Filter
from nvflare.apis.fl_constant import FLContextKey, ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.app_common.app_constant import AppConstants

from app_custom.aggregation.model_message import (
    EXECUTOR,
    executors_of,
    filters_of_trained,
    unpack,
)
from app_custom.gates.allowed_update import AllowedUpdate
from app_custom.nvflare_context import site_name
from app_custom.participant.site_configuration import checked_run_name
from app_custom.privacy.received_model import (
    Arrays,
    PrivacyRefusalError,
    TaskMemory,
    received_model,
)
from app_custom.privacy.secure_sum.key_exchange import MASKED
from app_custom.privacy.secure_sum.mask_keys import KeyStore, least_sites, round_of
from fedi2i.errors import UserError
from lightning_modules.combining.known_samples import claimed_samples
from lightning_modules.combining.updates import UpdateRefusedError, network_of, networks_of
from lightning_modules.privacy.integer_code import IntegerCode
from lightning_modules.privacy.mask_turns import answered, check_turn
from lightning_modules.privacy.pairwise_masks import (
    MaskRound,
    SiteSecrets,
    masked,
    words_digest,
)

MASK_KEYS = "app_custom.privacy.secure_sum.mask_keys.MaskKeys"
"""The executor that agrees on the masks; it sends keys alone."""


@dataclass(frozen=True)
class _Begun:
    """A task whose answer is to be masked.

    Attributes:
        asked: the round, and the sites of the sum.
        least: fewest sites that this site agrees to.
        received: copies of the received weights.
    """

    asked: MaskRound
    least: int
    received: Arrays


_MEMORY: TaskMemory[_Begun] = TaskMemory()


class BeginSum(Filter):
    """Checks which sum a round's answer is for, and remembers the model.

    Args:
        run: names the run.
    """

    def __init__(self, run: str) -> None:
        super().__init__()
        self._run = checked_run_name(run)

    def process(self, shareable: Shareable, fl_ctx: FLContext) -> Shareable:
        """Remember the model of a round; it passes on as it came.

        Raises:
            PrivacyRefusalError: the site must not be part of this sum.
        """
        if fl_ctx.get_prop(FLContextKey.TASK_NAME) != AppConstants.TASK_TRAIN:
            return shareable
        _MEMORY.forget(fl_ctx)
        try:
            asked = round_of(shareable, fl_ctx)
            kept = KeyStore(self._run, fl_ctx).held()
            least = least_sites(fl_ctx)
            check_turn(kept.turn, asked, site_name(fl_ctx), least)
        except UserError as error:
            self.log_error(fl_ctx, f"site '{site_name(fl_ctx)}' does not train: {error}")
            raise PrivacyRefusalError(str(error)) from error
        self.log_info(
            fl_ctx,
            f"round {asked.number}: this site's update joins the sum over {', '.join(asked.sites)}",
        )
        _MEMORY.begin(fl_ctx, _Begun(asked, least, received_model(shareable)))
        return shareable


class MaskUpdate(Filter):
    """Sends a round's update as masked integers, in place of the weights.

    Args:
        run: names the run.
        bits, fraction_bits, bound, slices_per_weight: as for ``IntegerCode``.
    """

    def __init__(
        self, run: str, bits: int, fraction_bits: int, bound: float, slices_per_weight: int
    ) -> None:
        super().__init__()
        self._run = checked_run_name(run)
        self._code = IntegerCode(bits, fraction_bits, bound, slices_per_weight)

    def process(self, shareable: Shareable, fl_ctx: FLContext) -> Shareable:
        """Mask an answer with weights; errors and validation metrics pass as they are.

        Raises:
            PrivacyRefusalError: weights that no sum was begun for, or that must not be sent.
        """
        begun = _MEMORY.of_task(fl_ctx)
        _MEMORY.forget(fl_ctx)
        if shareable.get_return_code() != ReturnCode.OK:
            return shareable
        dxo = from_shareable(shareable)
        if dxo.data_kind == DataKind.METRICS:
            return shareable
        if begun is None or dxo.data_kind != DataKind.WEIGHTS:
            raise PrivacyRefusalError(
                f"an answer of kind '{dxo.data_kind}' belongs to no sum that this site has begun"
            )
        try:
            words = self._masked(dxo, begun, fl_ctx)
        except (UserError, UpdateRefusedError) as error:
            self.log_error(fl_ctx, f"site '{site_name(fl_ctx)}' sends nothing: {error}")
            raise PrivacyRefusalError(str(error)) from error
        data = {f"{MASKED}{network}": value for network, value in words.items()}
        return DXO(DataKind.WEIGHT_DIFF, data=data, meta=dxo.meta).update_shareable(shareable)

    def _masked(self, dxo: DXO, begun: _Begun, fl_ctx: FLContext) -> dict[str, np.ndarray]:
        store = KeyStore(self._run, fl_ctx)
        kept = store.held()
        self._code.check_no_overflow(len(kept.sites))
        weight = self._code.weight_of(
            claimed_samples(dxo.meta.get(MetaKey.NUM_STEPS_CURRENT_ROUND))
        )
        update = _changed(begun.received, *unpack(dxo.data))
        words = self._words(update, weight, begun, kept.secrets, fl_ctx)
        # Written down before it leaves: a second answer under the same masks is refused.
        turn = answered(kept.turn, begun.asked, site_name(fl_ctx), words_digest(words), begun.least)
        store.save(replace(kept, turn=turn))
        return words

    def _words(
        self,
        update: Arrays,
        weight: int,
        begun: _Begun,
        secrets: SiteSecrets,
        fl_ctx: FLContext,
    ) -> dict[str, np.ndarray]:
        model = words_digest(begun.received)
        words: dict[str, np.ndarray] = {}
        for network in networks_of(update):
            part = {key: value for key, value in update.items() if network_of(key) == network}
            encoded = self._code.encode(part, weight)
            if encoded.clipped:
                self.log_warning(
                    fl_ctx,
                    f"{encoded.clipped} of {encoded.words.size} values of {network} changed by "
                    f"more than {self._code.bound:g} and were clipped; a larger bound keeps them",
                )
            words[network] = masked(encoded.words, network, begun.asked, secrets, model)
        return words


def masks(fl_ctx: FLContext) -> bool:
    """Whether what this site trains leaves under masks: behind ``MaskUpdate`` stand gates alone.

    No other executor may do a task of the job: what that one sends passes other filters.

    Args:
        fl_ctx: context of this site's run.
    """
    chain = filters_of_trained(fl_ctx)
    ungated = [part for part in chain if not isinstance(part, AllowedUpdate)]
    behind = bool(ungated) and isinstance(ungated[-1], MaskUpdate)
    return behind and executors_of(fl_ctx) == {EXECUTOR, MASK_KEYS}


def _changed(received: Arrays, trained: Arrays, extras: Arrays) -> dict[str, np.ndarray]:
    """What training changed, in float64.

    Raises:
        UpdateRefusedError: more or less than the received model was trained, or the strategy sends
            something besides.
    """
    if extras:
        kinds = ", ".join(sorted({name.partition("/")[0] for name in extras}))
        raise UpdateRefusedError(f"the strategy also sends {kinds}, which no mask covers")
    if trained.keys() != received.keys():
        odd = min(trained.keys() ^ received.keys())
        raise UpdateRefusedError(
            f"'{odd}' was not both received and trained; a sum needs whole models of all sites"
        )
    changed: dict[str, np.ndarray] = {}
    for key, value in trained.items():
        if value.shape != received[key].shape:
            raise UpdateRefusedError(f"'{key}' has another shape than was received")
        if not np.issubdtype(value.dtype, np.floating):
            raise UpdateRefusedError(f"'{key}' holds whole numbers, of which no mean can be taken")
        changed[key] = value.astype(np.float64) - received[key]
    return changed
