"""A participant's own gate: the most that may leave, whatever a job's filters say."""

from __future__ import annotations

from collections.abc import Sequence

from nvflare.apis.filter import Filter
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import ReservedHeaderKey, Shareable

from app_custom.gates.allowed_update import AllowedUpdate


class SitePolicy(Filter):
    """``AllowedUpdate`` for every task of every job; it stands in the site's ``privacy.json``.

    NVFlare applies a site's filters to all tasks, also to those that only steer a swarm. Their
    answers hold nothing but a return code and pass.

    Args:
        networks, local, arrays: as for ``AllowedUpdate``.
    """

    def __init__(
        self, networks: Sequence[str], local: Sequence[str] = (), arrays: Sequence[str] = ()
    ) -> None:
        super().__init__()
        self._gate = AllowedUpdate(networks, local, arrays)

    def process(self, shareable: Shareable, fl_ctx: FLContext) -> Shareable:
        """Check an answer; it is passed on unchanged.

        Raises:
            UpdateNotAllowedError: naming the first thing that is not listed.
        """
        headers = shareable.get(ReservedHeaderKey.HEADERS) or {}
        bare = shareable.keys() <= {ReservedHeaderKey.HEADERS}
        if bare and headers == {ReservedHeaderKey.RC: ReturnCode.OK}:
            return shareable
        return self._gate.process(shareable, fl_ctx)
