"""The pair of filters that sends arrays in fewer bytes: ``Compress`` and ``Restore``."""

from __future__ import annotations

from nvflare.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from nvflare.apis.filter import Filter
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import ReservedHeaderKey, Shareable

from app_custom.aggregation.compression import KINDS, CompressionError, compress, restore
from fedi2i.typed_config import choose

MARK = "fedi2i/"
"""Before the kind of compression, in the meta data of a message."""


class Compress(Filter):
    """Compresses the arrays of a message; messages without arrays pass as they are.

    It stands behind the gates, which see what the learner made. NVFlare's servers send one message
    to all sites, so the message and its arrays are left alone and a new one is passed on.

    Args:
        kind: one of ``app_custom.aggregation.compression.KINDS``.

    Raises:
        ConfigError: an unknown kind.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        choose(kind, KINDS, "Compress: kind")
        self._kind = kind

    def process(self, shareable: Shareable, fl_ctx: FLContext) -> Shareable:
        """Return a message with compressed arrays, which says so."""
        if shareable.get_return_code(ReturnCode.OK) != ReturnCode.OK or "DXO" not in shareable:
            return shareable
        dxo = from_shareable(shareable)
        if dxo.data_kind not in (DataKind.WEIGHTS, DataKind.WEIGHT_DIFF):
            return shareable
        meta = {**dxo.meta, MetaKey.PROCESSED_ALGORITHM: f"{MARK}{self._kind}"}
        smaller = DXO(dxo.data_kind, data=compress(dxo.data, self._kind), meta=meta)
        return with_arrays(shareable, smaller)


class Restore(Filter):
    """Undoes ``Compress`` before any check, by what the message says of itself.

    A message that is not what it says is passed on as it is: the aggregator refuses it and names
    the site, while an error here would leave the round without an answer.
    """

    def process(self, shareable: Shareable, fl_ctx: FLContext) -> Shareable:
        """Return a message with arrays in float32."""
        if "DXO" not in shareable:
            return shareable
        dxo = from_shareable(shareable)
        said = str(dxo.get_meta_prop(MetaKey.PROCESSED_ALGORITHM) or "")
        if not said.startswith(MARK):
            return shareable
        try:
            arrays = restore(dxo.data, said[len(MARK) :])
        except CompressionError as error:
            self.log_error(fl_ctx, f"a compressed message cannot be read: {error}")
            return shareable
        meta = {key: value for key, value in dxo.meta.items() if key != MetaKey.PROCESSED_ALGORITHM}
        return with_arrays(shareable, DXO(dxo.data_kind, data=arrays, meta=meta))


def with_arrays(shareable: Shareable, dxo: DXO) -> Shareable:
    """Copy a message with its headers, and put other arrays into the copy."""
    message = Shareable()
    message.update(shareable)
    message[ReservedHeaderKey.HEADERS] = dict(shareable.get(ReservedHeaderKey.HEADERS) or {})
    return dxo.update_shareable(message)
