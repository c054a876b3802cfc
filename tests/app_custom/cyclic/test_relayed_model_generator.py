from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from nvflare.apis.dxo import DataKind, from_shareable
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.app_common.abstract.model import ModelLearnable, make_model_learnable
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.app_event_type import AppEventType
from nvflare.app_common.shareablegenerators.full_model_shareable_generator import (
    FullModelShareableGenerator,
)
from nvflare.app_common.workflows.cyclic_ctl import CyclicController
from nvflare_fakes import Engine, answering, train_answer, weights_of, with_peer

from app_custom.cyclic import RelayedModelGenerator
from lightning_modules.combining.updates import UpdateRefusedError

ROUND = 2
METRICS = {"val/psnr": 21.0}


class Server:
    """A server that relays ``weights_of(0)``, and a generator that takes updates of site east."""

    def __init__(self, partial: bool = False) -> None:
        self.engine = Engine(sites=("east", "north"))
        self.generator = RelayedModelGenerator(partial)
        ctx = self.engine.new_context()
        model = make_model_learnable(weights_of(0), {})
        ctx.set_prop(AppConstants.GLOBAL_MODEL, model, private=True, sticky=True)
        ctx.set_prop(AppConstants.CURRENT_ROUND, ROUND, private=True, sticky=True)

    def context(self) -> FLContext:
        return with_peer(self.engine.new_context(), "east")

    def take(self, update: Shareable) -> ModelLearnable:
        return self.generator.shareable_to_learnable(update, self.context())

    def model(self) -> dict[str, np.ndarray]:
        return dict(self.context().get_prop(AppConstants.GLOBAL_MODEL)["weights"])


def changed(key: str, value: Any) -> Shareable:
    return train_answer({**weights_of(1), key: value}, 4, ROUND)


def without(key: str) -> Shareable:
    return train_answer({k: v for k, v in weights_of(1).items() if k != key}, 4, ROUND)


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[k], other[k]) for k in one)


REFUSED = {
    "NaN": (changed("generator.w", np.full((2, 3), np.nan, np.float32)), "NaN or infinity"),
    "another shape": (changed("generator.w", np.zeros((3, 2), np.float32)), "(3, 2)"),
    "another type": (changed("generator.w", np.zeros((2, 3))), "float32"),
    "a missing key": (without("generator.b"), "'generator.b'"),
    "an extra key": (changed("generator.z", np.zeros(1)), "'generator.z'"),
    "no samples": (train_answer(weights_of(1), 0, ROUND), "0 training samples"),
    "differences": (
        train_answer(weights_of(1), 4, ROUND, kind=DataKind.WEIGHT_DIFF),
        "differences",
    ),
    "no model": (Shareable({"hello": 1}), "cannot be read"),
    "an array of a strategy": (changed("strategy/control/generator.w", np.zeros(1)), "control"),
}


def test_a_site_s_update_is_what_its_successor_receives() -> None:
    server = Server()
    learnable = server.take(train_answer(weights_of(1), 4, ROUND, METRICS))
    sent = server.generator.learnable_to_shareable(learnable, server.context())
    assert same(from_shareable(sent).data, weights_of(1))
    assert same(server.model(), weights_of(1))


def test_a_site_s_metrics_and_samples_do_not_travel_on_as_they_would_with_nvflare_s_own() -> None:
    server, update = Server(), train_answer(weights_of(1), 4, ROUND, METRICS)
    sent = server.generator.learnable_to_shareable(server.take(update), server.context())
    assert from_shareable(sent).meta == {}
    plain = FullModelShareableGenerator()
    leaking = plain.shareable_to_learnable(update, server.context())
    sent = plain.learnable_to_shareable(leaking, server.context())
    assert METRICS in from_shareable(sent).meta.values()


def test_an_accepted_update_is_announced_with_its_site_while_its_message_is_handled() -> None:
    server, update = Server(), train_answer(weights_of(1), 4, ROUND, METRICS)
    heard: list[tuple[str, Any, Any]] = []

    def listen(event_type: str, fl_ctx: FLContext) -> None:
        props = (AppConstants.AGGREGATION_ACCEPTED, AppConstants.TRAINING_RESULT)
        heard.append((event_type, *(fl_ctx.get_prop(prop) for prop in props)))

    server.engine.fire_event = listen  # type: ignore[method-assign]
    server.take(update)
    assert heard == [(AppEventType.AFTER_CONTRIBUTION_ACCEPT, True, update)]


@pytest.mark.parametrize("what", REFUSED)
def test_an_unusable_update_ends_the_job_with_site_and_reason_and_the_model_stays(
    what: str,
) -> None:
    update, reason = REFUSED[what]
    server = Server()
    with pytest.raises(UpdateRefusedError):
        server.take(update)
    (panic,) = server.engine.panics()
    assert panic.startswith("round 2: the model from site 'east' is refused: ")
    assert reason in panic
    assert same(server.model(), weights_of(0))
    assert server.engine.fired(AppEventType.AFTER_CONTRIBUTION_ACCEPT) == []


def test_an_unusable_update_stands_in_the_audit_trail_as_one_line_under_the_site_s_name(
    trail: Path,
) -> None:
    with pytest.raises(UpdateRefusedError):
        Server().take(changed("!\n[U:north][A:update.refused]", np.zeros(1)))
    (line,) = trail.read_text().splitlines()
    assert "[U:east][A:update.refused]its keys differ from the global model's" in line


@pytest.mark.parametrize("what", REFUSED)
def test_nvflare_s_controller_stops_at_an_unusable_update_and_keeps_the_model_before(
    what: str,
) -> None:
    server, controller = Server(), CyclicController(order=["east", "north"])
    cancelled: list[Any] = []
    controller.shareable_generator = server.generator
    controller.cancel_task = cancelled.append
    controller._last_learnable = before = server.context().get_prop(AppConstants.GLOBAL_MODEL)
    task = SimpleNamespace(data=None)
    client_task = SimpleNamespace(
        task=task, result=REFUSED[what][0], client=SimpleNamespace(name="east")
    )
    controller._process_result(client_task, server.context())
    assert cancelled == [task]
    assert task.data is None
    assert controller._last_learnable is before
    assert same(dict(before["weights"]), weights_of(0))


def two_networks(seed: int) -> dict[str, np.ndarray]:
    return {"generator_ab.w": np.full(2, seed, np.float32), "generator_ba.w": np.ones(2)}


def test_networks_that_a_site_could_not_train_go_on_as_it_received_them() -> None:
    server = Server(partial=True)
    model = make_model_learnable(two_networks(1), {})
    server.context().set_prop(AppConstants.GLOBAL_MODEL, model, private=True, sticky=True)
    trained = {"generator_ab.w": np.full(2, 7, np.float32)}
    relayed = server.take(train_answer(trained, 4, ROUND))
    assert list(relayed["weights"]) == ["generator_ab.w", "generator_ba.w"]
    assert same(dict(relayed["weights"]), two_networks(7))


def test_where_every_site_trains_all_networks_an_update_without_one_is_refused() -> None:
    server = Server()
    model = make_model_learnable(two_networks(1), {})
    server.context().set_prop(AppConstants.GLOBAL_MODEL, model, private=True, sticky=True)
    with pytest.raises(UpdateRefusedError, match="generator_ba"):
        server.take(train_answer({"generator_ab.w": np.full(2, 7, np.float32)}, 4, ROUND))


def test_a_model_in_another_site_s_name_ends_the_job_and_names_its_sender() -> None:
    server = Server()
    update = train_answer(weights_of(1), 4, ROUND)
    ctx = answering(server.engine.new_context(), update, "east", "north")
    with pytest.raises(UpdateRefusedError):
        server.generator.shareable_to_learnable(update, ctx)
    (reason,) = server.engine.panics()
    assert "the model from site 'east' is refused: the site calls itself 'north'" in reason
    assert same(server.model(), weights_of(0))
