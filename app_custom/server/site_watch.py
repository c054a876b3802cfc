"""Notice at once when a site fails, disappears in the middle of a task, or has started anew."""

from __future__ import annotations

import threading
import time
from typing import Any

from nvflare.apis.event_type import EventType
from nvflare.apis.fl_component import FLComponent
from nvflare.apis.fl_constant import FLContextKey, ReturnCode, RunProcessKey
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.app_common.app_event_type import AppEventType
from nvflare.fuel.f3.cellnet.fqcn import FQCN
from nvflare.widgets.widget import Widget

from app_custom.audit_trail import one_line
from app_custom.ended_jobs import add_reason
from app_custom.gates.job_limits import REASONS, REFUSED_BY
from app_custom.nvflare_context import app_folder, peer_name
from app_custom.server.simulator import NOBODY_LEFT, end_with_command, in_simulator, nobody_left

_LOOK_EVERY_SECONDS = 1.0
_TASK_SENT = (AppEventType.BEFORE_TRAIN_TASK, AppEventType.SEND_MODEL_FOR_VALIDATION)
STAYS_CONNECTED = "fedi2i.stays_connected"
"""Event: the peer must keep its connection until the workflow has ended, whether it owes or not."""
MISSES_ROUND = "fedi2i.misses_round"
"""Event, and the property with its data: sites that are asked for nothing in this round."""


class SiteWatch(Widget):
    """Reports sites that disappear while they owe an answer.

    On provisioned sites NVFlare reports a training process that died, and the server's process of
    the job sees no connection of any site, so no connection is watched there. The simulator reports
    nothing: the server would wait for ever. This widget watches the connections of sites that owe
    an answer and tells NVFlare's own controller, which then decides by ``min_clients`` whether the
    round can be completed. Every workflow of a job starts with an empty list of lost sites: the
    widget tells it of those that the one before had lost, in the simulator and on provisioned
    sites. When the job ends for a fault, the sites that failed last and those that are lost stand
    with the fault in the reason that the submitter reads.

    A site at work is lost when its connection is. A site that has not fetched its task yet may
    simply wait for its turn (the simulator runs as many sites at a time as it has threads); it is
    lost when it has no connection and no site at all has worked for a while. In a swarm the sites
    work for each other: after ``STAYS_CONNECTED`` a site is at work until the workflow has ended.

    Args:
        grace_seconds: how long a site at work may be without connection.
        idle_seconds: how long nobody may work while a site without connection owes an answer.
    """

    def __init__(self, grace_seconds: float = 5.0, idle_seconds: float = 60.0) -> None:
        super().__init__()
        self._grace = grace_seconds
        self._idle = idle_seconds
        self._last_work = time.monotonic()
        self._owing: set[str] = set()
        self._lock = threading.Lock()
        self._busy: set[str] = set()
        self._staying: set[str] = set()
        self._lost_since: dict[str, float] = {}
        self._gone: set[str] = set()
        self._failed: dict[str, str] = {}
        self._untold: set[str] = set()
        self._vain_turns = 0
        self._stop = threading.Event()
        self._sees_connections = True

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Follow tasks from their start to their answer."""
        if event_type == EventType.START_RUN:
            self._start_watching(fl_ctx)
        elif event_type in (EventType.CLIENT_DISCONNECTED, EventType.CLIENT_RECONNECTED):
            self._note_report(event_type, fl_ctx)
        elif event_type in _TASK_SENT:
            with self._lock:
                self._busy.add(peer_name(fl_ctx))
        elif event_type == STAYS_CONNECTED:
            with self._lock:
                self._staying.add(peer_name(fl_ctx))
        elif event_type == MISSES_ROUND:
            self._excuse(set(fl_ctx.get_prop(MISSES_ROUND)))
        elif event_type == EventType.BEFORE_PROCESS_SUBMISSION:
            self._note_answer(fl_ctx)
        elif event_type in (AppEventType.ROUND_DONE, EventType.END_WORKFLOW):
            self._note_end(event_type)
        elif event_type in (EventType.START_WORKFLOW, AppEventType.ROUND_STARTED):
            self._note_start(event_type, fl_ctx)
        elif event_type == EventType.ABOUT_TO_END_RUN and nobody_left(fl_ctx):
            self.system_panic(NOBODY_LEFT, fl_ctx)
        elif event_type == EventType.FATAL_SYSTEM_ERROR:
            self._note_fault(fl_ctx)
        elif event_type == EventType.END_RUN:
            self._stop.set()

    def _start_watching(self, fl_ctx: FLContext) -> None:
        # On provisioned sites connections end at the parent process, not at this one.
        self._sees_connections = not fl_ctx.get_prop(FLContextKey.SECURE_MODE)
        engine = fl_ctx.get_engine()
        threading.Thread(target=self._watch, args=(engine,), daemon=True).start()
        if in_simulator(fl_ctx):
            end_with_command(app_folder(fl_ctx) / "config")

    def _note_start(self, event_type: str, fl_ctx: FLContext) -> None:
        with self._lock:
            self._owing = {client.name for client in fl_ctx.get_engine().get_clients()}
            self._owing -= self._gone
            self._vain_turns = 0
            self._last_work = time.monotonic()
            if event_type == EventType.START_WORKFLOW:
                # Every workflow keeps its own list of dead sites and starts with an empty one.
                self._untold = set(self._gone)

    def _excuse(self, sites: set[str]) -> None:
        """Sites that are asked for nothing owe nothing.

        In a simulator with few threads their processes take their turns all the same, in vain, and
        nobody works meanwhile.
        """
        with self._lock:
            self._owing -= sites
            self._vain_turns = len(sites)

    def _note_end(self, event_type: str) -> None:
        with self._lock:
            self._busy.clear()
            self._owing.clear()
            if event_type == EventType.END_WORKFLOW:
                self._staying.clear()
            self._lost_since.clear()

    def _note_report(self, event_type: str, fl_ctx: FLContext) -> None:
        """Note what NVFlare reports to the current workflow about a site's connection."""
        disconnected = event_type == EventType.CLIENT_DISCONNECTED
        with self._lock:
            if disconnected:
                self._gone.add(fl_ctx.get_prop(FLContextKey.DISCONNECTED_CLIENT_NAME))
            else:
                site = fl_ctx.get_prop(FLContextKey.RECONNECTED_CLIENT_NAME)
                self._gone.discard(site)
                self._untold.discard(site)

    def _note_answer(self, fl_ctx: FLContext) -> None:
        site = peer_name(fl_ctx)
        with self._lock:
            # Also of a task that nobody announced, such as the exchange of keys.
            self._last_work = time.monotonic()
            self._busy.discard(site)
            self._owing.discard(site)
            self._gone.discard(site)
            self._untold.discard(site)
            self._lost_since.pop(site, None)
            self._failed.pop(site, None)
        answer: Shareable = fl_ctx.get_prop(FLContextKey.TASK_RESULT)
        code = answer.get_return_code()
        if code != ReturnCode.OK:
            task = fl_ctx.get_prop(FLContextKey.TASK_NAME)
            failure = f"site '{site}' could not do its task '{task}' ({code}); {_reason(answer)}"
            failure = one_line(failure)  # the code is the site's own word
            self.log_error(fl_ctx, failure)
            with self._lock:
                self._failed[site] = failure

    def _note_fault(self, fl_ctx: FLContext) -> None:
        with self._lock:
            failed = [self._failed[site] for site in sorted(self._failed)]
            lost = [f"site '{site}' is lost" for site in sorted(self._gone)]
        for sentence in (*failed, *lost, str(fl_ctx.get_prop(FLContextKey.EVENT_DATA) or "")):
            if sentence:
                add_reason(sentence, fl_ctx)

    def _watch(self, engine: Any) -> None:
        while not self._stop.wait(_LOOK_EVERY_SECONDS):
            self._look_once(engine)

    def _look_once(self, engine: Any) -> None:
        with engine.new_context() as fl_ctx:
            for site in self._newly_lost(fl_ctx) if self._sees_connections else ():
                self.log_error(
                    fl_ctx, f"site '{site}' is lost: it owes an answer and has no connection"
                )
            self._tell_workflow(fl_ctx)

    def _newly_lost(self, fl_ctx: FLContext) -> list[str]:
        """Return the sites whose time is over, each once."""
        cell = fl_ctx.get_engine().get_cell()
        job = fl_ctx.get_job_id()
        now = time.monotonic()
        lost = []
        with self._lock:
            if self._busy:
                self._last_work = now
            nobody_works = now - self._last_work > self._idle * (1 + self._vain_turns)
            at_work = self._busy | self._staying
            for site in sorted(at_work | (self._owing if nobody_works else set())):
                if cell.is_cell_connected(FQCN.join([site, job])):
                    self._lost_since.pop(site, None)
                elif now - self._lost_since.setdefault(site, now) > self._grace:
                    lost.append(site)
                    del self._lost_since[site]
            self._busy.difference_update(lost)
            self._staying.difference_update(lost)
            self._owing.difference_update(lost)
            self._gone.update(lost)
            self._untold.update(lost)
        return lost

    def _tell_workflow(self, fl_ctx: FLContext) -> None:
        """Report lost sites to the current workflow, each once per workflow."""
        runner = fl_ctx.get_prop(FLContextKey.RUNNER)
        if runner is None or runner.current_wf is None:
            return
        with self._lock:
            sites, self._untold = sorted(self._untold), set()
        for site in sites:
            runner.handle_dead_job(site, fl_ctx)


def _reason(answer: Shareable) -> str:
    """Say why a site could not do a task, as far as it tells."""
    rule = answer.get_header(REFUSED_BY)
    known = isinstance(rule, str) and rule in REASONS
    return REASONS[rule] if known else "the reason is in that site's log"


class ReturnedSites(FLComponent):
    """Tells a running job, once each, of its sites that have started anew.

    NVFlare 2.9 watches for sites that stay away and for jobs that a site no longer reports. A site
    that crashes and is back before its heartbeat is missed falls between the two: it registers
    under a new token, its process of the job is gone, the job still waits for the old token, and
    nothing ends the wait. The server's ``resources.json`` lists this component; it works in the
    server's own process.
    """

    def __init__(self) -> None:
        super().__init__()
        self._told: set[tuple[str, str]] = set()

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Look after every registration."""
        if event_type != EventType.CLIENT_REGISTER_PROCESSED:
            return
        engine = fl_ctx.get_engine()
        registered = set(engine.client_manager.clients)
        for job_id, process in list(engine.run_processes.items()):
            for site in self._gone(job_id, process, registered):
                engine.notify_dead_job(job_id, site, "the site has started anew")

    def _gone(self, job_id: str, process: dict[str, Any], registered: set[str]) -> list[str]:
        participants = process.get(RunProcessKey.PARTICIPANTS) or {}
        sites = []
        for token, client in participants.items():
            if token not in registered and (job_id, token) not in self._told:
                self._told.add((job_id, token))
                sites.append(client.name)
        return sites
