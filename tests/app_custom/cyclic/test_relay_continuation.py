"""Cyclic training has neither a model selector nor an aggregator, and another controller."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import FLContextKey
from nvflare.apis.fl_context import FLContext
from nvflare.app_common.abstract.model import make_model_learnable
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.app_event_type import AppEventType
from nvflare.app_common.workflows.cyclic_ctl import CyclicController
from nvflare.app_opt.pt.file_model_persistor import PTFileModelPersistor
from nvflare_fakes import Engine, server_runner, weights_of

from app_custom.checkpoints.continuation import Continuation
from app_custom.participant.site_configuration import FILE_NAME
from app_custom.server.global_metrics import GlobalMetrics

ROUNDS = 4
ROWS = [("east", 0, "relay/psnr", 20.0), ("all", 0, "train/l1", 0.5)]


class TinyModel(torch.nn.Module):
    """Keys and shapes of ``weights_of``."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.nn.Module()
        for name, value in weights_of(0).items():
            self.generator.register_buffer(
                name.removeprefix("generator."), torch.from_numpy(np.array(value))
            )


class Server:
    """A server process with the components of a cyclic job."""

    def __init__(self, root: Path) -> None:
        self.app = root / "app"
        self.app.mkdir(parents=True, exist_ok=True)
        self.metrics = GlobalMetrics(relay=True)
        self.persistor = PTFileModelPersistor(model=TinyModel())
        components = {"persistor": self.persistor, "global_metrics": self.metrics}
        self.engine = Engine(root, components=components)
        self.controller = CyclicController(num_rounds=ROUNDS, order=["east", "north"])
        self.widget = Continuation("cyclic-1", ROUNDS, "final_evaluation", "persistor")
        ctx = self.engine.new_context()
        ctx.set_prop(FLContextKey.APP_ROOT, str(self.app), private=True, sticky=True)
        runner = server_runner(self.controller)
        ctx.set_prop(FLContextKey.RUNNER, runner, private=True, sticky=True)
        for part in (self.metrics, self.persistor, self.widget):
            part.handle_event(EventType.START_RUN, ctx)

    def die(self) -> None:
        """The process ends, and the system lets go of what it held."""
        assert self.widget._lock is not None
        self.widget._lock.release()

    def round_done(self, number: int, weights: dict[str, np.ndarray]) -> None:
        ctx = self.engine.new_context()
        model = make_model_learnable(weights, {})
        ctx.set_prop(AppConstants.CURRENT_ROUND, number, private=True, sticky=True)
        ctx.set_prop(AppConstants.GLOBAL_MODEL, model, private=True, sticky=True)
        self.widget.handle_event(AppEventType.ROUND_DONE, ctx)

    def load(self) -> FLContext:
        ctx = self.engine.new_context()
        self.widget.handle_event(AppEventType.INITIAL_MODEL_LOADED, ctx)
        return ctx


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "local").mkdir()
    (tmp_path / "local" / FILE_NAME).write_text(f"state: {tmp_path}/kept\n", encoding="utf-8")
    return tmp_path


def test_a_restarted_relay_goes_on_with_the_next_round_of_the_same_model(root: Path) -> None:
    before = Server(root)
    before.metrics.rows = list(ROWS)
    before.round_done(0, weights_of(1))
    before.round_done(1, weights_of(2))
    before.die()
    again = Server(root)
    ctx = again.load()

    controller = again.controller
    rounds = range(controller._start_round, controller._end_round)
    assert list(rounds) == [2, 3], "as CyclicController counts them"
    assert controller._last_learnable is ctx.get_prop(AppConstants.GLOBAL_MODEL)
    model = torch.load(again.app / "FL_global_model.pt", weights_only=True)["model"]
    for key, value in weights_of(2).items():
        np.testing.assert_array_equal(controller._last_learnable["weights"][key], value)
        np.testing.assert_array_equal(model[key], value)
    assert again.metrics.rows == ROWS
    assert not (again.app / "best_FL_global_model.pt").exists()


def test_a_relay_that_was_broken_off_after_its_last_round_trains_no_more(root: Path) -> None:
    Server(root).round_done(ROUNDS - 1, weights_of(1))
    again = Server(root)
    again.load()
    assert list(range(again.controller._start_round, again.controller._end_round)) == []
