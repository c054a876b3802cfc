"""Which messages may pass between server, sites and people: a table, and how it is applied.

NVFlare connects *cells*: one of the server (``server``), one of each site (``north``), one of every
process of a job (``server.<job>``, ``north.<job>``) and one of each person's console. All messages
between them pass through the server's cell. Each carries a channel and a topic; what is larger
travels as a stream, whose header holds the true ones. ``allowed_messages.csv`` beside this module
lists what our jobs and consoles were seen to send. Everything else is refused.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from nvflare.fuel.f3.cellnet.defs import CellChannel, MessageHeaderKey, MessageType
from nvflare.fuel.f3.cellnet.fqcn import FQCN
from nvflare.fuel.f3.streaming.stream_const import (
    STREAM_CHANNEL,
    STREAM_DATA_TOPIC,
    StreamHeaderKey,
)
from nvflare.fuel.utils.admin_name_utils import is_valid_admin_client_name

TABLE_FILE = "allowed_messages.csv"
SERVER, SERVER_JOB, SITE, SITE_JOB, PERSON = "server", "server job", "site", "site job", "person"
KINDS = (SERVER, SERVER_JOB, SITE, SITE_JOB, PERSON)
ANY_JOB, SWARM_ONLY = "any", "swarm"
ANY_TOPIC = "*"


@dataclass(frozen=True)
class AllowedMessage:
    """One row of the table: a request that may be made; its answer may go back.

    Attributes:
        channel, topic: NVFlare's; the topic ``*`` stands for all topics of the channel.
        sender, receiver: kinds of cells, of ``KINDS``.
        jobs: ``any``, or ``swarm`` where only jobs of that topology may.
        purpose: what it is for, for the reader.
    """

    channel: str
    topic: str
    sender: str
    receiver: str
    jobs: str
    purpose: str


@dataclass(frozen=True)
class Envelope:
    """What a message's headers say of its way; replies are described by the request they answer.

    Attributes:
        sender, receiver: names of cells, of the message itself.
        channel, topic: the true ones, also of a stream; empty for what names no more than a
            stream or a request: receipts, and word that something cannot be delivered or goes
            on no further.
        is_reply: whether it answers a request.
    """

    sender: str
    receiver: str
    channel: str
    topic: str
    is_reply: bool

    def __str__(self) -> str:
        """Say in words what it is, from whom and to whom."""
        what = f"'{self.channel}/{self.topic}'" if self.channel else "a receipt"
        kind = "the answer to " if self.is_reply and self.channel else ""
        return f"{kind}{what} from {self.sender} to {self.receiver}"


def envelope_of(headers: Mapping[str, Any]) -> Envelope:
    """Read a message's headers, those of a stream where it is part of one."""
    channel = _text(headers, MessageHeaderKey.CHANNEL)
    topic = _text(headers, MessageHeaderKey.TOPIC)
    is_reply = headers.get(MessageHeaderKey.MSG_TYPE) != MessageType.REQ
    if channel == STREAM_CHANNEL:
        # A sender that gives up says so with the data's topic, and names no channel; whoever
        # receives an error stops the sender's own stream and reads no more of the message.
        broken_off = bool(_text(headers, StreamHeaderKey.ERROR_MSG))
        is_receipt = topic != STREAM_DATA_TOPIC or broken_off
        channel = "" if is_receipt else _text(headers, StreamHeaderKey.CHANNEL)
        topic = "" if is_receipt else _text(headers, StreamHeaderKey.TOPIC)
        is_reply = is_reply or is_receipt
    if channel == CellChannel.RETURN_ONLY:  # NVFlare streams the answer to 'channel:topic'
        channel, _, topic = topic.partition(":")
        is_reply = True
    return Envelope(
        _text(headers, MessageHeaderKey.ORIGIN),
        _text(headers, MessageHeaderKey.DESTINATION),
        channel,
        topic,
        is_reply,
    )


class MessageTable:
    """Decides by the table what may pass.

    Args:
        rows: what is allowed.
        sites_of: the sites of a job by its id, or None where the job is not known.
        is_swarm: whether a job, by its id, is a swarm.
    """

    def __init__(
        self,
        rows: Iterable[AllowedMessage],
        sites_of: Callable[[str], Collection[str] | None],
        is_swarm: Callable[[str], bool],
    ) -> None:
        self._rows = {(row.channel, row.topic, row.sender, row.receiver): row.jobs for row in rows}
        self._pairs: dict[tuple[str, str], set[str]] = {}
        for (_, _, sender, receiver), jobs in self._rows.items():
            self._pairs.setdefault((sender, receiver), set()).add(jobs)
        self._sites_of = sites_of
        self._is_swarm = is_swarm

    def refusal(self, message: Envelope) -> str:
        """Say why a message may not pass; an empty text if it may."""
        asking, asked = message.sender, message.receiver
        if message.is_reply:
            asking, asked = asked, _answering(message)
        jobs = self._jobs(message, cell_kind(asking), cell_kind(asked))
        if not jobs:
            return "is not on the list of allowed messages"
        job_ids = {job for job in (job_of(asking), job_of(asked)) if job}
        if len(job_ids) > 1:
            return "goes from one job to another"
        for job in job_ids:
            for name in (asking, asked):
                if not self._takes_part(name, job):
                    return f"concerns a job that '{site_of(name)}' has no part in"
            if ANY_JOB not in jobs and not self._is_swarm(job):
                return "is allowed in a swarm only"
        return ""

    def _jobs(self, message: Envelope, asking: str, asked: str) -> Collection[str]:
        """Return in which jobs a request may be made between two kinds of cells; empty: never."""
        if not message.channel and message.is_reply:  # receipts go both ways
            return self._pairs.get((asking, asked), set()) | self._pairs.get((asked, asking), set())
        for topic in (message.topic, ANY_TOPIC):
            jobs = self._rows.get((message.channel, topic, asking, asked))
            if jobs:
                return (jobs,)
        return ()

    def _takes_part(self, name: str, job: str) -> bool:
        if cell_kind(name) not in (SITE, SITE_JOB):
            return True
        sites = self._sites_of(job)
        return sites is None or site_of(name) in sites


def read_table() -> tuple[AllowedMessage, ...]:
    """Read the table that is installed with this package."""
    text = files("app_custom.participant").joinpath(TABLE_FILE).read_text(encoding="utf-8")
    return tuple(AllowedMessage(**row) for row in csv.DictReader(text.splitlines()))


def cell_kind(name: str) -> str:
    """Return whose cell a name is, of ``KINDS``; empty for one that our jobs do not have."""
    parts = FQCN.split(name) if name else []
    if len(parts) == 1 and is_valid_admin_client_name(parts[0]):
        return PERSON
    if len(parts) not in (1, 2) or not all(parts):
        return ""
    if parts[0] == FQCN.ROOT_SERVER:
        return (SERVER, SERVER_JOB)[len(parts) - 1]
    return (SITE, SITE_JOB)[len(parts) - 1]


def site_of(name: str) -> str:
    """Return the participant that a cell belongs to: the first part of its name."""
    return FQCN.split(name)[0] if name else ""


def job_of(name: str) -> str:
    """Return the job that a cell belongs to; empty for a participant's own cell."""
    parts = FQCN.split(name) if name else []
    return parts[1] if len(parts) > 1 else ""


def _answering(reply: Envelope) -> str:
    """Return for which cell somebody answers: a site's own, where the one of its job is gone."""
    job = job_of(reply.receiver)
    for_job = not reply.channel and job and cell_kind(reply.sender) == SITE
    return f"{reply.sender}.{job}" if for_job else reply.sender


def _text(headers: Mapping[str, Any], key: str) -> str:
    value = headers.get(key)
    return value if isinstance(value, str) else ""
