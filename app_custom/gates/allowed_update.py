"""The last gate before an answer leaves a site lets pass what is listed and stops everything else.

NVFlare's ``ExcludeVars`` strikes out what it recognises and lets the rest pass, as do filters
derived from its ``DXOFilter``. This filter does the opposite: it refuses the whole answer where it
finds something it does not know.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Integral

import numpy as np
from nvflare.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from nvflare.apis.filter import Filter
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import ReservedHeaderKey, Shareable

from app_custom.aggregation.model_message import PREFIX
from app_custom.gates.job_limits import REASONS, REFUSED_BY
from app_custom.gates.shared_metrics import (
    IN_ROUNDS,
    SHARED_METRICS,
    TRAIN_METRICS,
    is_possible,
)
from app_custom.gates.study_numbers import study_fault
from app_custom.privacy.secure_sum.key_exchange import MASKED, exchange_fault
from fedi2i.errors import ConfigError
from fedi2i.typed_config import choose
from lightning_modules.combining.known_samples import MOST_SAMPLES
from lightning_modules.model_networks import MODELS, is_network_name
from lightning_modules.sharing.scope import SharingScope

_PARTS = frozenset({ReservedHeaderKey.HEADERS, "DXO"})
_DXO_PARTS = frozenset({"kind", "data", "meta"})
# What an executor's answer carries; NVFlare adds its own headers after the filters.
_HEADERS = frozenset({ReservedHeaderKey.RC, ReservedHeaderKey.CONTENT_TYPE, REFUSED_BY})
_CONTENT_TYPES = frozenset({"DXO"})
_RETURN_CODES = frozenset(
    value for name, value in vars(ReturnCode).items() if not name.startswith("_")
)
_META = frozenset({MetaKey.NUM_STEPS_CURRENT_ROUND, MetaKey.INITIAL_METRICS, TRAIN_METRICS})
_FILTERS: frozenset[str] = frozenset()
"""Filters derived from NVFlare's ``DXOFilter`` that may stand before ours; each leaves its name in
the answer."""
_INSTEAD = {
    "ExcludeVars": "it takes arrays out that the server needs, or none at all where a name is "
    "misspelt; take 'sharing: generator', or name what stays in 'local'",
    "PercentilePrivacy": "it acts on weights here; take privacy.mechanism 'percentile', or "
    "app_custom.privacy.nvflare_filters in the site's policy",
    "SVTPrivacy": "it acts on weights here; take privacy.mechanism 'svt', or "
    "app_custom.privacy.nvflare_filters in the site's policy",
}
"""Why NVFlare's own filters are not on the list, and what to take in their place."""
_NUMBERS = frozenset("biuf")
"""NumPy kinds: boolean, signed, unsigned, floating; not text, bytes, records or objects."""
_WORDS = (np.dtype(np.uint32), np.dtype(np.uint64))
"""Types of the words of secure aggregation."""


class UpdateNotAllowedError(RuntimeError):
    """An answer holds something that is not on the list; it must not leave."""


class AllowedUpdate(Filter):
    """Passes arrays of the sharing scope and listed numbers; raises on anything else.

    NVFlare turns the exception into a filter error: the answer is dropped at the site and the
    server receives a return code only.

    Args:
        networks: the shared networks: parameters under these names may leave.
        local: dotted prefixes inside them that must stay all the same.
        arrays: kinds of arrays that the strategy sends beside the parameters, each for shared
            parameters only.

    Raises:
        ConfigError: a network that no model has, or a text in place of a list.
    """

    def __init__(
        self, networks: Sequence[str], local: Sequence[str] = (), arrays: Sequence[str] = ()
    ) -> None:
        super().__init__()
        known = [name for model in MODELS.values() for name in model.roles]
        # A text in place of a list would be read letter by letter and let nothing out.
        for name in [networks] if isinstance(networks, str) else networks:
            if not is_network_name(str(name)):
                choose(name, known, "AllowedUpdate: networks")
        if any(isinstance(names, str) for names in (networks, local, arrays)):
            raise ConfigError("AllowedUpdate: networks, local and arrays are lists of names")
        self._scope = SharingScope(tuple(networks), tuple(local))
        self._kinds = frozenset(arrays)

    def process(self, shareable: Shareable, fl_ctx: FLContext) -> Shareable:
        """Check an answer; it is passed on unchanged.

        Raises:
            UpdateNotAllowedError: naming the first thing that is not listed.
        """
        _refuse_unlisted(shareable, _PARTS, "part")
        _check_headers(shareable.get(ReservedHeaderKey.HEADERS) or {})
        if shareable.get_return_code() != ReturnCode.OK:
            _refuse_unlisted(shareable, {ReservedHeaderKey.HEADERS}, "part of an error answer")
            return shareable
        self._check(from_shareable(shareable))
        _refuse_unlisted(shareable["DXO"], _DXO_PARTS, "part of the data")
        return shareable

    def _check(self, dxo: DXO) -> None:
        _check_filters(_names(dxo.meta.get(MetaKey.FILTER_HISTORY)))
        _refuse_unlisted(dxo.meta, _META | {MetaKey.FILTER_HISTORY}, "meta key")
        for name in (MetaKey.INITIAL_METRICS, TRAIN_METRICS):
            _check_numbers(dxo.meta.get(name) or {}, IN_ROUNDS)
        if MetaKey.NUM_STEPS_CURRENT_ROUND in dxo.meta:
            _check_samples(dxo.meta[MetaKey.NUM_STEPS_CURRENT_ROUND])
        if dxo.data_kind == DataKind.METRICS:
            _check_numbers(dxo.data, SHARED_METRICS)
            fault = study_fault(dxo.data)
            if fault:
                raise UpdateNotAllowedError(f"numbers of a study are refused: {fault}")
        elif dxo.data_kind in (DataKind.WEIGHTS, DataKind.WEIGHT_DIFF):
            self._check_weights(dxo.data)
        elif dxo.data_kind == DataKind.APP_DEFINED:
            _check_exchange(dxo)
        else:
            raise UpdateNotAllowedError(
                f"kind of data '{dxo.data_kind}' is not on the list of what may leave"
            )

    def _check_weights(self, weights: dict[str, object]) -> None:
        for key, value in weights.items():
            if key.startswith(MASKED):
                self._check_masked(key, value)
                continue
            if not self._may_leave(key):
                raise UpdateNotAllowedError(f"parameter '{key}' is outside the sharing scope")
            if not isinstance(value, np.ndarray) or value.dtype.kind not in _NUMBERS:
                raise UpdateNotAllowedError(f"parameter '{key}' is not an array of numbers")

    def _check_masked(self, key: str, value: object) -> None:
        if key[len(MASKED) :] not in self._scope.networks:
            raise UpdateNotAllowedError(f"'{key}' is outside the sharing scope")
        is_words = isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype in _WORDS
        if not is_words:
            raise UpdateNotAllowedError(f"'{key}' does not hold words under masks")

    def _may_leave(self, key: str) -> bool:
        if not key.startswith(PREFIX):
            return self._scope.covers(key)
        kind, _, parameter = key[len(PREFIX) :].partition("/")
        return kind in self._kinds and self._scope.covers(parameter)


def _check_exchange(dxo: DXO) -> None:
    """Let keys and openings of secure aggregation pass, with no word beside them."""
    _refuse_unlisted(dxo.meta, (), "meta key of an exchange of keys")
    fault = exchange_fault(dxo.data)
    if fault:
        raise UpdateNotAllowedError(f"an exchange of keys is refused: {fault}")


def _check_filters(names: Iterable[str]) -> None:
    for name in names:
        if name in _INSTEAD:
            raise UpdateNotAllowedError(
                f"filter '{name}' does not do here what it is for: {_INSTEAD[name]}"
            )
        _refuse_unlisted([name], _FILTERS, "filter")


def _names(history: object) -> list[str]:
    """Return the names in the history of filters; anything but names is shown by its type."""
    if history is None:
        return []
    if isinstance(history, list) and all(isinstance(name, str) for name in history):
        return history
    return [type(history).__name__]


def _check_headers(headers: dict[str, object]) -> None:
    _refuse_unlisted(headers, _HEADERS, "header")
    for key, known in (
        (ReservedHeaderKey.RC, _RETURN_CODES),
        (ReservedHeaderKey.CONTENT_TYPE, _CONTENT_TYPES),
        (REFUSED_BY, REASONS),
    ):
        if key in headers:
            _refuse_unlisted([str(headers[key])], known, f"value of header '{key}'")


def _check_samples(value: object) -> None:
    """Let a whole number of samples pass that the server would take, and nothing else."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not (whole and 1 <= int(value) <= MOST_SAMPLES):  # type: ignore[call-overload]
        raise UpdateNotAllowedError(
            f"the number of training samples is no whole number from 1 to {MOST_SAMPLES}"
        )


def _check_numbers(values: dict[str, object], listed: Iterable[str]) -> None:
    _refuse_unlisted(values, listed, "metric")
    for key, value in values.items():
        if not isinstance(value, float):
            raise UpdateNotAllowedError(f"metric '{key}' is not a number")
        if not is_possible(key, value):
            raise UpdateNotAllowedError(f"metric '{key}' has a value that it cannot have")


def _refuse_unlisted(keys: Iterable[str], allowed: Iterable[str], what: str) -> None:
    for key in keys:
        if key not in allowed:
            raise UpdateNotAllowedError(f"{what} '{key}' is not on the list of what may leave")
