"""What a participant's permissions refuse leaves a line in its audit trail."""

from __future__ import annotations

from typing import Any

from nvflare.apis.event_type import EventType
from nvflare.apis.fl_component import FLComponent
from nvflare.apis.fl_context import FLContext
from nvflare.fuel.sec.authz import AuthorizationService, Authorizer, AuthzContext, Policy

from app_custom.audit_trail import audit

PERMISSION_REFUSED = "authorization.refused"
"""The action in the participant's audit trail."""


class RefusalAudit(FLComponent):
    """Puts into a participant's audit trail what its permissions refused, and to whom.

    NVFlare writes a command into the trail after it was authorized: what was refused leaves no
    line. The same decision also refuses code that a job brings along. This component works in the
    participant's own process, not in those of jobs.
    """

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Take over when the participant has started."""
        authorizer = AuthorizationService.get_authorizer()
        if event_type == EventType.SYSTEM_START and authorizer is not None:
            AuthorizationService.the_authorizer = AuditedAuthorizer(authorizer)


class AuditedAuthorizer(Authorizer):
    """Decides as another authorizer does, and writes refusals into the audit trail.

    Args:
        deciding: the authorizer that decides.
    """

    def __init__(self, deciding: Authorizer) -> None:
        super().__init__(deciding.site_org, deciding.right_categories)
        self._deciding = deciding

    def authorize(self, ctx: AuthzContext) -> tuple[bool, str]:
        """Return NVFlare's decision and its reason."""
        authorized, reason = self._deciding.authorize(ctx)
        if not authorized:
            audit(ctx.user.name, PERMISSION_REFUSED, f"{ctx.right}: {reason}")
        return authorized, reason

    def get_policy(self) -> Policy:
        """Return the policy that decides."""
        return self._deciding.get_policy()

    def load_policy(self, policy_config: dict[str, Any]) -> str:
        """Hand a new policy on; returns why it was refused, or an empty text."""
        return str(self._deciding.load_policy(policy_config))
