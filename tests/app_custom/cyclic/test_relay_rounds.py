from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import FLContextKey, ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.apis.signal import Signal
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.app_event_type import AppEventType
from nvflare_fakes import Engine, with_peer

from app_custom.cyclic import RelayRounds

SITES = ("east", "north", "south")
ROUNDS = 3


class Server:
    """A server in the middle of a relay."""

    def __init__(self, workflow: str = "cyclic", round_number: int = 0) -> None:
        self.engine = Engine(sites=SITES)
        self.widget = RelayRounds("cyclic", ROUNDS)
        self.abort = Signal()
        ctx = self.engine.new_context()
        runner = SimpleNamespace(abort_signal=self.abort)
        for name, value in (
            (FLContextKey.WORKFLOW, workflow),
            (FLContextKey.RUNNER, runner),
            (AppConstants.CURRENT_ROUND, round_number),
        ):
            ctx.set_prop(name, value, private=True, sticky=True)

    def context(self, site: str = "east", task: str = "train") -> FLContext:
        ctx = with_peer(self.engine.new_context(), site)
        ctx.set_prop(FLContextKey.TASK_NAME, task, private=True, sticky=False)
        return ctx

    def send(self, task: str = "train") -> Shareable:
        ctx, data = self.context(task=task), Shareable({"model": 1})
        ctx.set_prop(FLContextKey.TASK_DATA, data, private=True, sticky=False)
        self.widget.handle_event(EventType.AFTER_TASK_DATA_FILTER, ctx)
        return data

    def answer(self, code: str, task: str = "train") -> None:
        ctx = self.context(task=task)
        ctx.set_prop(FLContextKey.TASK_RESULT, make_reply(code), private=True, sticky=False)
        self.widget.handle_event(EventType.BEFORE_PROCESS_SUBMISSION, ctx)

    def accept(self, *sites: str) -> None:
        for site in sites:
            self.widget.handle_event(AppEventType.AFTER_CONTRIBUTION_ACCEPT, self.context(site))

    def persist(self) -> None:
        self.widget.handle_event(AppEventType.AFTER_LEARNABLE_PERSIST, self.engine.new_context())

    def events(self) -> list[str]:
        return [kind for kind, _ in self.engine.events]


def test_a_task_that_is_sent_is_announced_with_its_data() -> None:
    server = Server()
    heard: list[Any] = []

    def listen(event_type: str, fl_ctx: FLContext) -> None:
        heard.append((event_type, fl_ctx.get_prop(AppConstants.TRAIN_SHAREABLE)))

    server.engine.fire_event = listen  # type: ignore[method-assign]
    data = server.send()
    assert heard == [(AppEventType.BEFORE_TRAIN_TASK, data)]


def test_a_round_is_done_when_every_site_has_trained_and_the_next_one_starts() -> None:
    server = Server()
    server.accept(*SITES)
    server.persist()
    assert server.events() == [AppEventType.ROUND_DONE, AppEventType.ROUND_STARTED]


def test_after_the_last_round_no_other_starts() -> None:
    server = Server(round_number=ROUNDS - 1)
    server.accept(*SITES)
    server.persist()
    assert server.events() == [AppEventType.ROUND_DONE]


def test_a_round_that_nvflare_ends_without_a_site_ends_the_job_with_its_name() -> None:
    server = Server(round_number=1)
    server.accept("east", "south")
    server.persist()
    (reason,) = server.engine.panics()
    assert reason.startswith("round 1: no model from north;")
    assert AppEventType.ROUND_DONE not in server.events()


def test_a_round_that_was_aborted_is_not_done_and_blames_nobody() -> None:
    server = Server()
    server.accept("east")
    server.abort.trigger(True)
    server.persist()
    assert server.events() == []


def test_every_round_needs_every_site_anew() -> None:
    server = Server()
    server.accept(*SITES)
    server.persist()
    server.accept("north", "south")
    server.persist()
    (reason,) = server.engine.panics()
    assert "no model from east" in reason


@pytest.mark.parametrize("code", [ReturnCode.EXECUTION_EXCEPTION, ReturnCode.EARLY_TERMINATION])
def test_a_site_that_cannot_train_ends_the_job_with_its_name_and_code(code: str) -> None:
    """NVFlare's controller would end the round and go on with the next workflow."""
    server = Server(round_number=2)
    server.answer(code)
    (reason,) = server.engine.panics()
    assert reason.startswith(f"round 2: site 'east' could not train ({code})")


def test_a_good_answer_is_left_to_nvflare() -> None:
    server = Server()
    server.answer(ReturnCode.OK)
    assert server.events() == []


def test_tasks_of_other_names_and_workflows_are_not_the_relay_s() -> None:
    server = Server()
    server.send("validate")
    server.answer(ReturnCode.EXECUTION_EXCEPTION, "validate")
    other = Server(workflow="final_evaluation")
    other.send()
    other.answer(ReturnCode.EXECUTION_EXCEPTION)
    other.persist()
    assert server.events() == other.events() == []
