"""From the sites' files of a swarm to the server's."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from nvflare.apis.client import Client
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import FLContextKey, ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.apis.signal import Signal
from nvflare.app_common.abstract.model import make_model_learnable
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.app_event_type import AppEventType
from nvflare.app_opt.pt.file_model_persistor import PTFileModelPersistor
from nvflare_fakes import Engine, train_answer, weights_of

from app_custom.gates.allowed_update import AllowedUpdate
from app_custom.swarm.final_model import BEST_TASK, FINAL_TASK, CollectedModel, HeldModels


class TinyModel(torch.nn.Module):
    """Keys and shapes of ``weights_of``."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.nn.Module()
        for name, value in weights_of(0).items():
            self.generator.register_buffer(
                name.removeprefix("generator."), torch.from_numpy(np.array(value))
            )


def participant(root: Path, name: str) -> Engine:
    """A server or a site with NVFlare's own persistor."""
    root.mkdir(parents=True)
    persistor = PTFileModelPersistor(model=TinyModel())
    taken: list[Any] = []
    metrics = SimpleNamespace(add_rows=taken.extend, taken=taken)
    components = {"persistor": persistor, "global_metrics": metrics}
    engine = Engine(name=name, sites=("east", "north"), components=components)
    ctx = engine.new_context()
    ctx.set_prop(FLContextKey.APP_ROOT, str(root), private=True, sticky=True)
    persistor.handle_event(EventType.START_RUN, ctx)
    return engine


def site_with(root: Path, final: int | None = 1, best: int | None = 2) -> Engine:
    """A site that holds models by seed, saved as NVFlare's swarm saves them."""
    engine = participant(root, root.name)
    persistor, ctx = engine.components["persistor"], engine.new_context()
    if best is not None:
        model = make_model_learnable(weights_of(best), {})
        ctx.set_prop(AppConstants.GLOBAL_MODEL, model, private=True, sticky=True)
        persistor.handle_event(AppEventType.GLOBAL_BEST_MODEL_AVAILABLE, ctx)
    if final is not None:
        persistor.save(make_model_learnable(weights_of(final), {}), ctx)
    return engine


def ask(site: Engine, task: str) -> Shareable:
    answer = HeldModels().execute(task, Shareable(), site.new_context(), Signal())
    return AllowedUpdate(["generator"]).process(answer, site.new_context())


class Server:
    """A server that collects one model."""

    def __init__(self, root: Path, best: bool = False) -> None:
        self.engine = participant(root / "server", "server")
        self.folder = root / "server"
        self.task = BEST_TASK if best else FINAL_TASK
        self.collector = CollectedModel(best)
        ctx = self.context()
        ctx.set_prop(AppConstants.CURRENT_ROUND, 4, private=True, sticky=True)
        self.collector.create_task_data(self.task, ctx)

    def context(self) -> FLContext:
        return self.engine.new_context()

    def take(self, site: str, answer: Shareable) -> bool:
        return self.collector.process_client_response(
            Client(site, "token"), self.task, answer, self.context()
        )

    def finish(self) -> bool:
        return self.collector.final_process(self.context())

    def saved(self, name: str) -> dict[str, Any]:
        model: dict[str, Any] = torch.load(self.folder / name, weights_only=True)["model"]
        return model


def test_the_final_model_that_all_sites_hold_is_saved_and_becomes_the_global_one(
    tmp_path: Path,
) -> None:
    server = Server(tmp_path)
    for name in ("east", "north"):
        assert server.take(name, ask(site_with(tmp_path / name), FINAL_TASK))
    assert server.finish()
    held = server.context().get_prop(AppConstants.GLOBAL_MODEL)["weights"]
    for key, value in weights_of(1).items():
        np.testing.assert_array_equal(server.saved("FL_global_model.pt")[key], value)
        np.testing.assert_array_equal(held[key], value)
    assert server.engine.panics() == []


def test_the_best_model_is_announced_as_such_so_that_the_persistor_saves_it(
    tmp_path: Path,
) -> None:
    server = Server(tmp_path, best=True)
    for name in ("east", "north"):
        assert server.take(name, ask(site_with(tmp_path / name), BEST_TASK))
    assert server.finish()
    persistor, ctx = server.engine.components["persistor"], server.context()
    for event_type, _ in server.engine.events:
        persistor.handle_event(event_type, ctx)
    saved = server.saved("best_FL_global_model.pt")
    np.testing.assert_array_equal(saved["generator.w"], weights_of(2)["generator.w"])


def test_the_bytes_of_every_copy_count_after_the_last_round(tmp_path: Path) -> None:
    server = Server(tmp_path)
    server.take("east", ask(site_with(tmp_path / "east"), FINAL_TASK))
    size = float(sum(value.nbytes for value in weights_of(1).values()))
    rows = server.engine.components["global_metrics"].taken
    assert rows == [("east", 5, "traffic/bytes_received", size)]


def test_sites_that_hold_different_models_end_the_job_with_both_names(tmp_path: Path) -> None:
    server = Server(tmp_path)
    assert server.take("east", ask(site_with(tmp_path / "east", final=1), FINAL_TASK))
    north = site_with(tmp_path / "north", final=2)
    assert server.take("north", ask(north, FINAL_TASK)) is False
    (reason,) = server.engine.panics()
    assert "of site 'north'" in reason
    assert "differs from the copy of site 'east'" in reason


def test_without_a_best_model_at_any_site_there_is_none_at_the_server(tmp_path: Path) -> None:
    server = Server(tmp_path, best=True)
    answer = ask(site_with(tmp_path / "east", best=None), BEST_TASK)
    assert answer.get_return_code() == ReturnCode.EMPTY_RESULT
    assert server.take("east", answer)
    assert server.finish()
    assert server.engine.events == []


BROKEN = train_answer({**weights_of(1), "generator.b": np.full(3, np.nan, np.float32)})
REFUSED = {
    "no final model": (make_reply(ReturnCode.EMPTY_RESULT), "EMPTY_RESULT"),
    "an error": (make_reply(ReturnCode.EXECUTION_EXCEPTION), "EXECUTION_EXCEPTION"),
    "no model": (Shareable({"hello": 1}), "cannot be read"),
    "NaN": (BROKEN, "NaN or infinity"),
    "another model": (train_answer({"generator.w": np.zeros(1)}), "keys differ"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_the_final_model_ends_the_job_with_site_and_reason(
    what: str, tmp_path: Path, trail: Path
) -> None:
    answer, reason = REFUSED[what]
    server = Server(tmp_path)
    assert server.take("north", answer) is False
    (panic,) = server.engine.panics()
    assert "'submit_final_model' of site 'north'" in panic
    assert reason in panic
    assert server.finish() is False
    (line,) = trail.read_text().splitlines()
    assert "[U:north][A:update.refused]" in line and reason in line


def test_a_site_answers_no_other_question(tmp_path: Path) -> None:
    answer = HeldModels().execute("train", Shareable(), Engine().new_context(), Signal())
    assert answer.get_return_code() == ReturnCode.TASK_UNKNOWN
