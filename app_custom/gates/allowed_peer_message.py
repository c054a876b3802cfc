"""The gate that checks what a site sends to another one in a swarm.

NVFlare applies no result filters to the learner's answer there, because the site's own controller
calls the learner and sends the answer on. It does apply the *data* filters of direction ``out`` to
its messages to peers, and sends nothing where one raises.
"""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real
from typing import Any

from nvflare.apis.dxo import DXO, DataKind
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import ReservedHeaderKey, Shareable
from nvflare.app_common.abstract.model import ModelLearnable, ModelLearnableKey
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.ccwf.common import Constant, ResultType, make_task_name

from app_custom.gates.allowed_update import AllowedUpdate, UpdateNotAllowedError

Parts = dict[str, Any]

_NUMBERS = (
    AppConstants.CURRENT_ROUND,
    AppConstants.NUM_ROUNDS,
    Constant.ROUND,
    Constant.METRIC,
    ReservedHeaderKey.PASS_THROUGH,
    ReservedHeaderKey.MSG_ROOT_TTL,
)
_SITES = (Constant.AGGREGATOR, Constant.CLIENT)
SWARM_TASKS = frozenset(
    make_task_name(Constant.TN_PREFIX_SWARM, name)
    for name in (
        Constant.BASENAME_LEARN,
        Constant.BASENAME_REPORT_LEARN_RESULT,
        Constant.BASENAME_REPORT_FINAL_RESULT,
    )
)
"""What a site of a swarm may ask of another."""
_COOKIES = frozenset({AppConstants.CONTRIBUTION_ROUND})


class AllowedPeerMessage(AllowedUpdate):
    """Passes what ``AllowedUpdate`` passes, with the headers by which swarm messages are routed.

    A message is a site's update, or an aggregated model that starts a round or ends the swarm. It
    is passed on as it is or refused: NVFlare 2.9.0 sends what was there before the filters, so a
    filter that changed a message would change nothing.

    Args:
        networks, local, arrays: as for ``AllowedUpdate``.
    """

    def process(self, shareable: Shareable, fl_ctx: FLContext) -> Shareable:
        """Check a message to a peer.

        Raises:
            UpdateNotAllowedError: naming the first thing that is not listed.
        """
        sites = {client.name for client in fl_ctx.get_engine().get_clients()}
        headers = dict(shareable.get(ReservedHeaderKey.HEADERS) or {})
        for name in _NUMBERS:
            _take(headers, name, lambda value: isinstance(value, Real))
        for name in _SITES:
            _take(headers, name, lambda value: value in sites)
        _take(headers, ReservedHeaderKey.TASK_NAME, lambda value: value in SWARM_TASKS)
        _take(headers, Constant.RESULT_TYPE, lambda v: v in (ResultType.BEST, ResultType.LAST))
        _take(headers, ReservedHeaderKey.COOKIE_JAR, _known_cookies)
        content = {
            key: value for key, value in shareable.items() if key != ReservedHeaderKey.HEADERS
        }
        if Constant.RESULT in content:
            content, headers = _as_update(content, headers)
        checked = Shareable(content)
        checked[ReservedHeaderKey.HEADERS] = headers  # the constructor drops them
        super().process(checked, fl_ctx)
        return shareable


def _take(headers: Parts, name: str, allowed: Callable[[Any], bool]) -> None:
    """Remove a header if it is of the allowed kind; None says nothing and is always allowed."""
    value = headers.pop(name, None)
    if value is not None and not allowed(value):
        raise UpdateNotAllowedError(f"header '{name}' is not of the kind that may leave")


def _known_cookies(jar: Any) -> bool:
    return (
        isinstance(jar, dict)
        and jar.keys() <= _COOKIES
        and all(isinstance(value, Real) for value in jar.values())
    )


def _as_update(parts: Parts, headers: Parts) -> tuple[Parts, Parts]:
    """Bring a final model, which travels as NVFlare's own object, into the form of an update."""
    model = parts[Constant.RESULT]
    if not isinstance(model, ModelLearnable) or not model.keys() <= {
        ModelLearnableKey.WEIGHTS,
        ModelLearnableKey.META,
    }:
        raise UpdateNotAllowedError("the result is not a model")
    update = DXO(
        DataKind.WEIGHTS,
        data=model[ModelLearnableKey.WEIGHTS],
        meta=dict(model.get(ModelLearnableKey.META) or {}),
    ).to_shareable()
    content_type = update.pop(ReservedHeaderKey.HEADERS)
    rest = {key: value for key, value in parts.items() if key != Constant.RESULT}
    return {**update, **rest}, {**content_type, **headers}
