"""Before all checks: a compressed message becomes what it was."""

from __future__ import annotations

from nvflare.apis.dxo import DXO, MetaKey, from_shareable
from nvflare.apis.filter import Filter
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable

from app_custom.aggregation.compress import MARK, with_arrays
from app_custom.aggregation.compression import CompressionError, restored


class Restore(Filter):
    """Undoes ``Compress``, by what the message says of itself.

    A message that is not what it says is passed on as it is: the aggregator refuses it and names
    the site, while an error here would leave the round without an answer.
    """

    def process(self, shareable: Shareable, fl_ctx: FLContext) -> Shareable:
        """A message with arrays in float32."""
        if "DXO" not in shareable:
            return shareable
        dxo = from_shareable(shareable)
        said = str(dxo.get_meta_prop(MetaKey.PROCESSED_ALGORITHM) or "")
        if not said.startswith(MARK):
            return shareable
        try:
            arrays = restored(dxo.data, said[len(MARK) :])
        except CompressionError as error:
            self.log_error(fl_ctx, f"a compressed message cannot be read: {error}")
            return shareable
        meta = {key: value for key, value in dxo.meta.items() if key != MetaKey.PROCESSED_ALGORITHM}
        return with_arrays(shareable, DXO(dxo.data_kind, data=arrays, meta=meta))
