"""Refuse, before training, what would make updates unreadable to the server's strategies.

Our aggregators check, order and analyse single updates; FedMA matches channels, medians sort
values. Homomorphic encryption allows sums only. NVFlare's encrypting filters and aggregators live
in ``nvflare.app_opt.he``; whatever comes from there, in the job or in a site's policy, is named.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from nvflare.apis.fl_constant import FLContextKey
from nvflare.apis.fl_context import FLContext

from fedi2i.errors import ConfigError

_ENCRYPTING = "nvflare.app_opt.he"


def refuse_encryption(fl_ctx: FLContext, strategy: str) -> None:
    """Refuse a participant that would encrypt updates or expects them encrypted.

    Args:
        fl_ctx: context of this participant's run.
        strategy: name for the message.

    Raises:
        ConfigError: naming the class that encrypts.
    """
    for part in _parts(fl_ctx):
        if type(part).__module__.startswith(_ENCRYPTING):
            raise ConfigError(
                f"{strategy} must see plain weights, but {type(part).__name__} encrypts them; take "
                "it out, or use NVFlare's own encrypted FedAvg in place of our strategies"
            )


def _parts(fl_ctx: FLContext) -> Iterator[Any]:
    """Components and filters of this participant: the job's and those of its own privacy scope."""
    runner = fl_ctx.get_prop(FLContextKey.RUNNER)
    config = getattr(runner, "config", runner)
    yield from (getattr(config, "components", None) or {}).values()
    scope = fl_ctx.get_prop(FLContextKey.SCOPE_OBJECT)
    for holder in (config, scope):
        for name in ("task_data_filters", "task_result_filters"):
            yield from _flat(getattr(holder, name, None) or {})


def _flat(filters: Mapping[str, Any]) -> Iterator[Any]:
    for found in filters.values():
        yield from found if isinstance(found, list) else _flat(found)
