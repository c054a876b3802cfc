from __future__ import annotations

from types import SimpleNamespace

from nvflare.apis.client import Client
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import RunProcessKey
from nvflare.apis.fl_context import FLContext

from app_custom.server.site_watch import ReturnedSites


class ServerEngine:
    """A server with one running job of north and east."""

    def __init__(self) -> None:
        north, east = Client("north", "n1"), Client("east", "e1")
        self.client_manager = SimpleNamespace(clients={"n1": north, "e1": east})
        participants = {RunProcessKey.PARTICIPANTS: {"n1": north, "e1": east}}
        self.run_processes = {"job-1": participants}
        self.told: list[tuple[str, str]] = []

    def notify_dead_job(self, job_id: str, client_name: str, reason: str) -> None:
        self.told.append((job_id, client_name))

    def register(self, widget: ReturnedSites, name: str, token: str) -> None:
        clients = self.client_manager.clients
        for old in [key for key, client in clients.items() if client.name == name]:
            del clients[old]
        clients[token] = Client(name, token)
        ctx = FLContext()
        ctx.get_engine = lambda: self  # type: ignore[method-assign, assignment, return-value]
        widget.handle_event(EventType.CLIENT_REGISTER_PROCESSED, ctx)


def test_a_site_that_registers_anew_is_reported_to_its_running_job_once() -> None:
    engine, widget = ServerEngine(), ReturnedSites()
    engine.register(widget, "east", "e2")
    assert engine.told == [("job-1", "east")]
    engine.register(widget, "south", "s1")
    assert engine.told == [("job-1", "east")]


def test_a_site_that_joins_late_disturbs_no_job() -> None:
    engine, widget = ServerEngine(), ReturnedSites()
    engine.register(widget, "south", "s1")
    assert engine.told == []


def test_a_later_job_with_the_new_registration_is_left_alone() -> None:
    engine, widget = ServerEngine(), ReturnedSites()
    engine.register(widget, "east", "e2")
    engine.run_processes["job-2"] = {
        RunProcessKey.PARTICIPANTS: dict(engine.client_manager.clients)
    }
    engine.register(widget, "south", "s1")
    assert ("job-2", "east") not in engine.told
