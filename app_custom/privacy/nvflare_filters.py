"""NVFlare's PercentilePrivacy and SVTPrivacy, acting on what training changed. Neither is private.

In a chain of filters both would act on weights: an executor answers with weights, and NVFlare's
``ConvertWeights`` no longer finds what was received when an answer is filtered. So they are called
from here, with the difference between what is sent and what was received. They act without a word
of complaint on arguments that make them do nothing, and with none on arguments that keep
``SVTPrivacy`` busy for ever; both kinds are refused.

Neither is differential privacy. PercentilePrivacy (after Shokri and Shmatikov, CCS 2015) adds no
noise. SVTPrivacy's epsilon holds for a change of one coordinate by at most ``gamma``, while one
patient moves all of them.
"""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from nvflare.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from nvflare.apis.dxo_filter import DXOFilter
from nvflare.apis.filter import Filter
from nvflare.apis.fl_constant import FLContextKey, ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.filters.percentile_privacy import PercentilePrivacy
from nvflare.app_common.filters.svt_privacy import SVTPrivacy

from app_custom.nvflare_context import site_name
from app_custom.privacy.received_model import (
    Arrays,
    PrivacyRefusalError,
    TaskMemory,
    received_model,
    trained_alone,
)
from fedi2i.errors import ConfigError
from lightning_modules.privacy.update_noise import Noise

_MEMORY: TaskMemory[Arrays] = TaskMemory()
_SEED_BYTES = 2496
"""As many as the state of NumPy's global generator has."""


class RememberReceived(Filter):
    """Remembers the model that arrives to be trained; it passes on as it came."""

    def process(self, shareable: Shareable, fl_ctx: FLContext) -> Shareable:
        """Copy the weights of a training task; a task that trains nothing is none of ours.

        Raises:
            PrivacyRefusalError: the message holds no model that an update could be measured from.
        """
        if fl_ctx.get_prop(FLContextKey.TASK_NAME) == AppConstants.TASK_TRAIN:
            _MEMORY.begin(fl_ctx, received_model(shareable))
        else:
            _MEMORY.forget(fl_ctx)
        return shareable


class FilteredUpdate(Filter, ABC):
    """Hands the update of an answer to one of NVFlare's filters and sends what comes back.

    What leaves is what was received plus the filtered update, with the answer's own meta data:
    nothing that NVFlare's filters add to it (their names, SVTPrivacy's account) leaves the site.

    Args:
        steps: by how many steps NVFlare's filter divides the update before it compares and bounds
            it, and multiplies it afterwards; 1 bounds the update of a whole round. NVFlare would
            take the number of samples, with which the bound hardly ever acts.

    Raises:
        ConfigError: ``steps`` is no whole number above 0.
    """

    def __init__(self, steps: int) -> None:
        super().__init__()
        if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
            raise ConfigError(f"{self._name}: steps is {steps}; write 1 or a larger whole number")
        self._steps = steps

    @abstractmethod
    def _filter(self) -> DXOFilter:
        """NVFlare's filter, new for every answer, as it keeps an account of its own."""

    def process(self, shareable: Shareable, fl_ctx: FLContext) -> Shareable:
        """Return the answer with a filtered update; an answer without weights passes.

        Raises:
            PrivacyRefusalError: weights whose received model is not remembered, arrays that are no
                update, or a filter that did not do its work.
        """
        if shareable.get_return_code() != ReturnCode.OK:
            _MEMORY.forget(fl_ctx)
            return shareable
        dxo = from_shareable(shareable)
        if dxo.data_kind == DataKind.METRICS:
            return shareable
        if dxo.data_kind != DataKind.WEIGHTS:
            raise PrivacyRefusalError(f"{self._name} cannot filter an answer of '{dxo.data_kind}'")
        received = _MEMORY.of_task(fl_ctx)
        if received is None:
            raise PrivacyRefusalError(
                f"{self._name} has not seen the model that this answer was trained from; put "
                "RememberReceived into the way of the models that arrive"
            )
        trained, base = trained_alone(dxo, received, self._name)
        update = _update(trained, base)
        filtered = self._filtered(update, shareable, fl_ctx, os.urandom(_SEED_BYTES))
        cosine, length = resemblance(update, filtered)
        self.log_info(
            fl_ctx,
            f"{self._name} at site '{site_name(fl_ctx)}', which is not differential privacy: what "
            f"leaves has cosine {cosine:.3f} to the update and {length:.3f} times its length",
        )
        dxo.data = _sent(trained, base, filtered)
        return dxo.update_shareable(shareable)

    def released(self, received: Arrays, trained: Arrays, noise: Noise) -> dict[str, np.ndarray]:
        """What would leave of a trained model, for the leakage audit, whose noise has a seed."""
        seed = noise(_SEED_BYTES // 8).tobytes()
        update = _update(trained, received)
        return _sent(trained, received, self._filtered(update, Shareable(), FLContext(), seed))

    def _filtered(
        self,
        update: dict[str, np.ndarray],
        shareable: Shareable,
        fl_ctx: FLContext,
        seed: bytes,
    ) -> dict[str, np.ndarray]:
        """What NVFlare's filter makes of an update; its arguments stay as they were."""
        difference = DXO(
            DataKind.WEIGHT_DIFF,
            data={key: value.copy() for key, value in update.items()},
            meta={MetaKey.NUM_STEPS_CURRENT_ROUND: self._steps},
        )
        with _randomness_of(seed):
            result = self._filter().process_dxo(difference, shareable, fl_ctx)
        if result is None:
            raise PrivacyRefusalError(f"{self._name} did nothing; the answer stays at the site")
        if result.data.keys() != update.keys():
            raise PrivacyRefusalError(f"{self._name} changed the names of the arrays")
        for key, value in result.data.items():
            if np.shape(value) != update[key].shape or not np.isfinite(value).all():
                raise PrivacyRefusalError(f"{self._name} made something else of '{key}'")
        return {key: np.asarray(value) for key, value in result.data.items()}


class PercentileOnUpdates(FilteredUpdate):
    """NVFlare's PercentilePrivacy on updates: small changes become 0, large ones are cut off.

    Args:
        percentile: this share of all values of an update, the smallest ones, becomes 0, in per
            cent from 0 to below 100; one threshold over all networks.
        gamma: larger values are cut to it, in units of the weights per step, above 0.
        steps: see ``FilteredUpdate``.

    Raises:
        ConfigError: values with which NVFlare's filter would let everything or nothing pass.
    """

    def __init__(self, percentile: float = 10.0, gamma: float = 0.01, steps: int = 1) -> None:
        super().__init__(steps)
        if not 0 <= percentile < 100:
            raise ConfigError(f"{self._name}: percentile is {percentile}; write 0 to below 100")
        self._percentile = percentile
        self._gamma = _positive(self._name, "gamma", gamma)

    def _filter(self) -> DXOFilter:
        return PercentilePrivacy(self._percentile, self._gamma)


class SVTOnUpdates(FilteredUpdate):
    """NVFlare's SVTPrivacy on updates: a noisy choice of values leaves, cut off and with noise.

    Args:
        fraction: which part of all values leaves, above 0 and at most 1; the others are 0.
        epsilon: of the choice.
        noise_var: epsilon of the noise per value: its scale is ``2 gamma / noise_var``.
        gamma: values are cut to it, in units of the weights per step.
        tau: the threshold of the choice before its noise, 0 or above.
        steps: see ``FilteredUpdate``.

    Raises:
        ConfigError: a value outside its range, or a threshold that no value might ever pass.
    """

    def __init__(
        self,
        fraction: float = 0.5,
        epsilon: float = 0.1,
        noise_var: float = 10.0,
        gamma: float = 0.01,
        tau: float = 1e-6,
        steps: int = 1,
    ) -> None:
        super().__init__(steps)
        check_svt(fraction, epsilon, noise_var, gamma, tau, self._name)
        self._arguments = {
            "fraction": fraction,
            "epsilon": epsilon,
            "noise_var": noise_var,
            "gamma": gamma,
            "tau": tau,
            "replace": False,
        }

    def _filter(self) -> DXOFilter:
        return SVTPrivacy(**self._arguments)


def check_svt(
    fraction: float, epsilon: float, noise_var: float, gamma: float, tau: float, where: str
) -> None:
    """Refuse arguments of SVTPrivacy that it takes in silence.

    It chooses again and again until enough values are above the threshold. The noise of the choice
    has at least the scale ``2 gamma / epsilon``; a threshold below that is passed by one value in
    six, and so within a few rounds of choosing.

    Raises:
        ConfigError: a value outside its range, or a threshold above that scale.
    """
    if not 0 < fraction <= 1:
        raise ConfigError(f"{where}: fraction is {fraction}; write a number above 0, at most 1")
    for name, value in (("epsilon", epsilon), ("noise_var", noise_var), ("gamma", gamma)):
        _positive(where, name, value)
    if not 0 <= tau <= 2 * gamma / epsilon:
        raise ConfigError(
            f"{where}: tau is {tau}; write 0 to 2 gamma / epsilon, which is "
            f"{2 * gamma / epsilon:g}: above it the choice might never end"
        )


def resemblance(update: Arrays, filtered: Arrays) -> tuple[float, float]:
    """The cosine between two updates, and the length of the second as a multiple of the first's.

    Both are data of the site. They are 0 where the first update is 0.
    """
    product, before, after = (
        math.fsum(float(np.vdot(one[key], other[key])) for key in update)
        for one, other in ((update, filtered), (update, update), (filtered, filtered))
    )
    cosine = product / math.sqrt(before * after) if before * after > 0 else 0.0
    return cosine, math.sqrt(after / before) if before > 0 else 0.0


def _update(trained: Arrays, received: Arrays) -> dict[str, np.ndarray]:
    """Sent minus received, of the arrays that hold weights; counters of steps stay as they are."""
    update = {}
    for key, value in trained.items():
        if value.shape != received[key].shape:
            raise PrivacyRefusalError(
                f"'{key}' was received as {received[key].shape}, not {value.shape}"
            )
        if np.issubdtype(value.dtype, np.floating):
            update[key] = value.astype(np.float64) - received[key]
            # NVFlare's filters let NaN pass, and SVTPrivacy never ends on it.
            if not np.isfinite(update[key]).all():
                raise PrivacyRefusalError(f"the update of '{key}' is not finite")
    return update


def _sent(trained: Arrays, received: Arrays, filtered: Arrays) -> dict[str, np.ndarray]:
    """What was received plus the filtered update, in the weights' own types."""
    return {
        key: (received[key] + filtered[key]).astype(value.dtype) if key in filtered else value
        for key, value in trained.items()
    }


@contextmanager
def _randomness_of(seed: bytes) -> Iterator[None]:
    """NumPy's global generator, from which NVFlare draws, seeded, and as it was afterwards.

    The seed of an answer is the operating system's entropy: a noise that the experiment's seed
    repeats could be taken off.
    """
    before = np.random.get_state()
    np.random.seed(np.frombuffer(seed, dtype=np.uint32))
    try:
        yield
    finally:
        np.random.set_state(before)


def _positive(where: str, name: str, value: float) -> float:
    if not 0 < value < math.inf:
        raise ConfigError(f"{where}: {name} is {value}; write a number above 0")
    return value
