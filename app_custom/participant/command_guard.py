"""No command goes past the server, which is where rights are judged, and every refusal is audited.

A participant's ``resources.json`` lists both components, ``CommandGuard`` and ``RefusalAudit``.
"""

from __future__ import annotations

from typing import Any

from nvflare.apis.event_type import EventType
from nvflare.apis.fl_component import FLComponent
from nvflare.apis.fl_context import FLContext
from nvflare.fuel.f3.cellnet.defs import (
    CellChannel,
    MessageHeaderKey,
    MessageType,
    ReturnCode,
)
from nvflare.fuel.f3.cellnet.utils import make_reply
from nvflare.fuel.f3.message import Message
from nvflare.fuel.sec.audit import AuditService
from nvflare.fuel.sec.authz import AuthorizationService, Authorizer, AuthzContext, Policy
from nvflare.private.defs import CellMessageHeaderKeys, SysCommandTopic

COMMAND_CHANNELS = frozenset(
    {
        CellChannel.CLIENT_MAIN,
        CellChannel.CLIENT_COMMAND,
        CellChannel.CLIENT_SUB_WORKER_COMMAND,
        CellChannel.SERVER_COMMAND,
        CellChannel.SERVER_PARENT_LISTENER,
        CellChannel.MULTI_PROCESS_EXECUTOR,
        CellChannel.EDGE_REQUEST,
        "_net_manager",  # NVFlare's own tools to look into its network, and to stop parts of it
    }
)
"""Channels on which nothing but commands travels. Tasks, events and models have others."""

PASSING_ON_REFUSED = "command_guard.refused"
"""The action in the server's audit trail."""
PERMISSION_REFUSED = "authorization.refused"
"""The action in the participant's audit trail."""

_SENDER = "fedi2i.sender"
"""The header that keeps the sender's name past NVFlare's check."""


class CommandGuard(FLComponent):
    """No participant or person commands another past the server.

    NVFlare 2.9's server passes any authenticated participant's message on to any other, also on the
    channels for commands; a site judges a command only where the message itself asks for it, and
    its handler for shell commands reads files by absolute paths. Both ends are closed when the
    participant has started: the server passes no command on, and sites have no shell. Commands that
    the server itself sends are not touched: it has judged who gave them.
    """

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Filter at the server what passes through; remove the shell at a site."""
        if event_type != EventType.SYSTEM_START:
            return
        engine = fl_ctx.get_engine()
        agent = getattr(engine, "admin_agent", None)
        if agent is not None:
            agent.processors.pop(SysCommandTopic.SHELL, None)
        server = getattr(engine, "server", None)
        if server is not None:
            # NVFlare takes the most special list of filters alone: a list for one channel would
            # put the server's check of who sends out of action there.
            cell = server.cell
            cell.core_cell.add_incoming_filter("*", "*", note_sender)
            filters = cell.core_cell.in_filter_reg.find("*", "*")
            filters.insert(0, filters.pop())  # before NVFlare's check, which removes the name
            cell.core_cell.add_incoming_filter("*", "*", refuse_passing_on, cell.get_fqcn())


def note_sender(message: Message) -> None:
    """Keep the name that a message gives for its sender; NVFlare checks it next."""
    message.set_header(_SENDER, message.get_header(CellMessageHeaderKeys.CLIENT_NAME))


def refuse_passing_on(message: Message, own_name: str) -> Message | None:
    """Refuse a command that another participant sends through the server; None lets it pass.

    Args:
        message: any message that arrives at the server's cell.
        own_name: the name of that cell.
    """
    headers: dict[str, Any] = message.headers or {}
    named = headers.pop(_SENDER, None)
    channel = headers.get(MessageHeaderKey.CHANNEL)
    destination = headers.get(MessageHeaderKey.DESTINATION)
    if (
        headers.get(MessageHeaderKey.MSG_TYPE) != MessageType.REQ
        or channel not in COMMAND_CHANNELS
        or destination == own_name
    ):
        return None
    origin = headers.get(MessageHeaderKey.ORIGIN)
    what = f"'{channel}' from {origin} to {destination}: commands go through the server's console"
    # By now NVFlare has checked that the message carries the token of whoever it names. The origin
    # of a person's message is a number.
    AuditService.add_event(user=str(named or origin), action=PASSING_ON_REFUSED, msg=what)
    return make_reply(ReturnCode.UNAUTHENTICATED, error=what)


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
            AuditService.add_event(
                user=ctx.user.name, action=PERMISSION_REFUSED, msg=f"{ctx.right}: {reason}"
            )
        return authorized, reason

    def get_policy(self) -> Policy:
        """Return the policy that decides."""
        return self._deciding.get_policy()

    def load_policy(self, policy_config: dict[str, Any]) -> str:
        """Hand a new policy on; returns why it was refused, or an empty text."""
        return str(self._deciding.load_policy(policy_config))
