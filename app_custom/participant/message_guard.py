"""Nobody speaks for another: every message is held against who sent it and what may be sent.

NVFlare's server passes any authenticated participant's message on to any other, takes commands from
any of them, and believes the names that senders write into their own messages. ``MessageGuard``
works in the process of a server or site itself, ``JobGuard`` in the processes of its jobs.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from nvflare.apis.analytix import ANALYTIC_EVENT_TYPE
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_component import FLComponent
from nvflare.apis.fl_constant import (
    FedEventHeader,
    FLContextKey,
    ReservedKey,
    ReservedTopic,
    RunProcessKey,
    ServerCommandNames,
)
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import ReservedHeaderKey, Shareable
from nvflare.apis.workspace import Workspace
from nvflare.app_common.widgets.convert_to_fed_event import FED_EVENT_PREFIX
from nvflare.fuel.f3.cellnet.defs import (
    CellChannel,
    MessageHeaderKey,
    MessagePropKey,
    ReturnCode,
)
from nvflare.fuel.f3.cellnet.fqcn import FQCN
from nvflare.fuel.f3.cellnet.utils import make_reply
from nvflare.fuel.f3.message import Message
from nvflare.private.defs import CellMessageHeaderKeys, SysCommandTopic
from nvflare.widgets.fed_event import FED_EVENT_TOPIC

from app_custom.audit_trail import audit, one_line
from app_custom.gates.allowed_peer_message import SWARM_TASKS
from app_custom.participant.allowed_messages import (
    TABLE_FILE,
    MessageTable,
    envelope_of,
    read_table,
    site_of,
)
from app_custom.participant.class_check import named_classes

REFUSED = "message_guard.refused"
"""The action in the audit trail; the user is who sent the message."""

EXPECTED_EVENT = FED_EVENT_PREFIX + ANALYTIC_EVENT_TYPE
"""The only event that a site may raise at the server: one point of a curve."""

_SWARM = (
    "nvflare.app_common.ccwf.swarm_server_ctl.SwarmServerController",
    "nvflare.app_common.ccwf.swarm_client_ctl.SwarmClientController",
)
_SAY_AGAIN_SECONDS = 60.0
_SENTENCES = 100
_SENTENCE_LENGTH = 500
"""A refused stream comes in many pieces and is sent again: one line a minute says as much. Nobody's
messages make more than so many lines a minute."""

Callback = Callable[..., Any]


class MessageGuard(FLComponent):
    """Lets only listed messages pass a server or site, and takes a site's shell away.

    The server's and every site's ``resources.json`` lists it. A site judges a command only where
    the message itself asks for it, and its handler for shell commands reads files by absolute
    paths: the handler is removed when the site has started.
    """

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Begin when the participant has started, or end it: NVFlare would go on unguarded."""
        if event_type != EventType.SYSTEM_START:
            return
        begun = False
        try:
            self._begin(fl_ctx.get_engine(), fl_ctx)
            begun = True
        finally:
            if not begun:
                self.logger.critical(
                    "messages cannot be checked; nothing is started", exc_info=True
                )
                logging.shutdown()
                os._exit(1)  # NVFlare's threads would outlive an exception

    def _begin(self, engine: Any, fl_ctx: FLContext) -> None:
        agent = getattr(engine, "admin_agent", None)
        if agent is not None:
            agent.processors.pop(SysCommandTopic.SHELL, None)
        table = MessageTable(read_table(), _Sites(engine).of_job, _Swarms(engine, fl_ctx).include)
        installed = MessageFilter(table, engine.get_cell(), self.logger)
        installed.install()
        how = "senders by their certificates" if installed.by_certificate else "senders by origin"
        self.log_info(fl_ctx, f"messages are checked by {TABLE_FILE}, {how}")


class JobGuard(FLComponent):
    """Holds what arrives in a job's process against the names and tasks that the server gave out.

    What a message says of its sender, NVFlare's components and ours read from the message's
    content, which only the receiving process can decode. Every participant's ``privacy.json`` lists
    this component: NVFlare then builds it for every job, whatever the job's own configuration says.
    """

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Begin with the run, before any task is given out."""
        if event_type != EventType.START_RUN:
            return
        try:
            self._begin(fl_ctx.get_engine(), fl_ctx)
        except Exception as error:
            self.system_panic(f"messages cannot be checked: {error}", fl_ctx)
            raise

    def _begin(self, engine: Any, fl_ctx: FLContext) -> None:
        cell = engine.get_cell()
        sites = {client.name for client in engine.get_clients()}
        table = MessageTable(read_table(), lambda job: sites, _Swarms(engine, fl_ctx).include)
        MessageFilter(table, cell, self.logger).install()
        speakers = Speakers(sites, self.logger)
        for channel in (CellChannel.AUX_COMMUNICATION, CellChannel.SERVER_COMMAND):
            known = cell.core_cell.req_reg.find(channel, "*")
            if known is not None:
                handler = speakers.checking(known.cb)
                cell.register_request_cb(channel=channel, topic="*", cb=handler)
        self.log_info(fl_ctx, f"senders are checked: server and {', '.join(sorted(sites))}")


class MessageFilter:
    """Refuses at one cell what the table does not list or what comes from somebody else.

    The server's cell knows its neighbours by their certificates, as NVFlare lets a connection carry
    no other name than its certificate's. So the origin that a message names must lie behind the
    connection on which it came. Messages between one participant's own processes are its own
    affair.

    Args:
        table: what may pass.
        cell: the cell, of the server, of a site, or of a job.
        logger: says what is refused.

    Attributes:
        by_certificate: whether senders are held against certificates: at the server's cell, where
            all come in, unless its connections have none.
    """

    def __init__(self, table: MessageTable, cell: Any, logger: logging.Logger) -> None:
        self._table = table
        self._cell = cell
        self._own = str(cell.get_fqcn())
        self.by_certificate = self._own == FQCN.ROOT_SERVER and bool(cell.core_cell.is_secure())
        self._refusals = _Refusals(logger)

    def install(self) -> None:
        """Put this filter before NVFlare's own, which takes the sender's name off some messages.

        NVFlare takes the most special list of filters alone: a list for one channel would put the
        server's check of who sends out of action there.
        """
        core_cell = self._cell.core_cell
        core_cell.add_incoming_filter("*", "*", self.refuse)
        filters = core_cell.in_filter_reg.find("*", "*")
        filters.insert(0, filters.pop())

    def refuse(self, message: Message) -> Message | None:
        """Refuse a message by returning an answer; None lets it pass."""
        headers: dict[str, Any] = message.headers or {}
        # A connection past the server, which the receiver would open to any address.
        headers.pop(MessageHeaderKey.CONN_URL, None)
        envelope = envelope_of(headers)
        endpoint = message.get_prop(MessagePropKey.ENDPOINT)
        neighbour = str(endpoint.name) if endpoint is not None else envelope.sender
        certified = message.get_prop(MessagePropKey.COMMON_NAME) or ""
        named = headers.get(CellMessageHeaderKeys.CLIENT_NAME) or ""
        reason = self._foreign(envelope.sender, neighbour, certified, named)
        # The server has compared the origin of what it passes on.
        passed_on = not reason and site_of(neighbour) == FQCN.ROOT_SERVER
        who = site_of(envelope.sender) if passed_on else certified or site_of(neighbour)
        own = site_of(self._own)
        if not reason and {site_of(envelope.sender), site_of(envelope.receiver)} != {own}:
            reason = self._table.refusal(envelope)
        if not reason:
            return None
        sentence = f"{envelope} {reason}"
        self._refusals.note(who, sentence)
        return make_reply(ReturnCode.UNAUTHENTICATED, error=sentence)

    def _foreign(self, origin: str, neighbour: str, certified: str, named: str) -> str:
        """Say why a message cannot come from its neighbour; an empty text if it can."""
        whose = site_of(neighbour)
        if self._own != FQCN.ROOT_SERVER:
            known = (FQCN.ROOT_SERVER, site_of(self._own))
            return "" if whose in known else f"came past the server, from '{neighbour}'"
        if origin != neighbour and not origin.startswith(f"{neighbour}."):
            return f"came from '{neighbour}'"
        if whose == FQCN.ROOT_SERVER or not self.by_certificate:
            return ""
        if not certified:
            return "came without a certificate"
        return f"names '{named}' as its sender" if named not in ("", certified) else ""


class Speakers:
    """Compares, in a job's process, the sender that a message's content names with the true one.

    Args:
        sites: the job's sites.
        logger: says what is refused.
    """

    def __init__(self, sites: Collection[str], logger: logging.Logger) -> None:
        self._sites = frozenset(sites)
        self._refusals = _Refusals(logger)
        self._given: dict[str, str] = {}

    def checking(self, handle: Callback) -> Callback:
        """Wrap NVFlare's handler of a channel: it gets only what is in order."""

        def checked(request: Message, *args: Any, **kwargs: Any) -> Any:
            speaker = site_of(str(request.get_header(MessageHeaderKey.ORIGIN, "")))
            reason = self.refusal(speaker, request)
            if reason:
                self._refusals.note(speaker, reason)
                return make_reply(ReturnCode.UNAUTHENTICATED, error=reason)
            reply = handle(request, *args, **kwargs)
            self._note_task(speaker, request, reply)
            return reply

        return checked

    def refusal(self, speaker: str, request: Message) -> str:
        """Say why a site's message is refused; an empty text if it is in order.

        Args:
            speaker: the participant whose cell sent it.
            request: the message, decoded.
        """
        if speaker == FQCN.ROOT_SERVER:
            return ""
        topic = str(request.get_header(MessageHeaderKey.TOPIC, ""))
        content = request.payload
        what = f"'{topic}' from site '{speaker}'"
        if speaker not in self._sites:
            return f"{what}, which is no site of this job"
        if not isinstance(content, Shareable):
            return f"{what} has no content that can be read"
        strange = sorted({name for name in _names(content) if name != speaker})
        if strange:
            return f"{what} speaks in the name of '{strange[0]}'"
        if topic == ServerCommandNames.SUBMIT_UPDATE:
            task = str(content.get_cookie(FLContextKey.TASK_ID, ""))
            if self._given.get(task) != speaker:
                return f"{what} answers a task that was never given to it"
        if topic == FED_EVENT_TOPIC:
            event = content.get_header(FedEventHeader.EVENT_TYPE)
            if event != EXPECTED_EVENT:
                return f"{what} raises the event '{event}'"
        if topic == ReservedTopic.DO_TASK:
            asked = content.get_header(ReservedHeaderKey.TASK_NAME)
            if asked not in SWARM_TASKS:
                return f"{what} asks for the task '{asked}'"
        return ""

    def _note_task(self, speaker: str, request: Message, reply: Any) -> None:
        if request.get_header(MessageHeaderKey.TOPIC) != ServerCommandNames.GET_TASK:
            return
        task = reply.payload if isinstance(reply, Message) else None
        if isinstance(task, Shareable) and task.get_header(FLContextKey.TASK_ID):
            self._given[str(task.get_header(FLContextKey.TASK_ID))] = speaker


def _names(content: Shareable) -> list[str]:
    """Collect the names that a message gives for its sender."""
    names: list[Any] = []
    context = content.get_peer_context()
    if isinstance(context, FLContext):
        names.append(context.get_identity_name(""))
    if content.get_peer_props() is not None:
        names.append(content.get_peer_prop(ReservedKey.IDENTITY_NAME, ""))
    names.append(content.get_header(FedEventHeader.ORIGIN))
    return [str(name) for name in names if name is not None]


class _Refusals:
    """Writes refusals into the log and the audit trail; nobody can fill the disk with them."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._since = 0.0
        self._said: dict[str, set[str]] = {}

    def note(self, user: str, sentence: str) -> None:
        now = time.monotonic()
        if now - self._since > _SAY_AGAIN_SECONDS:
            self._since, self._said = now, {}
        said = self._said.setdefault(user, set())
        sentence = one_line(sentence, _SENTENCE_LENGTH)
        if sentence in said or len(said) > _SENTENCES:
            return
        if len(said) == _SENTENCES:
            sentence = "more is refused than is written down in this minute"
        said.add(sentence)
        self._logger.warning(f"refused a message of {one_line(user)}: {sentence}")
        audit(user, REFUSED, sentence)


class _Sites:
    """Knows at the server which sites a running job has; a site need not know."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def of_job(self, job: str) -> set[str] | None:
        process = (getattr(self._engine, "run_processes", None) or {}).get(job)
        if process is None:
            return None
        return {client.name for client in process[RunProcessKey.PARTICIPANTS].values()}


class _Swarms:
    """Knows from the deployed configurations which jobs are swarms."""

    def __init__(self, engine: Any, fl_ctx: FLContext) -> None:
        if hasattr(engine, "get_workspace"):
            self._workspace = engine.get_workspace()
        else:  # a site's own process
            root = fl_ctx.get_prop(FLContextKey.WORKSPACE_ROOT)
            self._workspace = Workspace(root, fl_ctx.get_identity_name())
        self._known: dict[str, bool] = {}

    def include(self, job: str) -> bool:
        if job not in self._known:
            folder = Path(self._workspace.get_app_config_dir(job))
            if not folder.is_dir():
                return False
            self._known[job] = not named_classes(folder).isdisjoint(_SWARM)
        return self._known[job]
