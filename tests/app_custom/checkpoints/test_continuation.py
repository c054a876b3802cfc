from __future__ import annotations

import errno
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import FLContextKey
from nvflare.apis.fl_context import FLContext
from nvflare.app_common.abstract.model import make_model_learnable
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.app_event_type import AppEventType
from nvflare.app_common.workflows.scatter_and_gather import ScatterAndGather
from nvflare.app_opt.pt.file_model_persistor import PTFileModelPersistor
from nvflare_fakes import JOB, Engine, server_runner, weights_of

from app_custom.aggregation.aggregator import Aggregator
from app_custom.checkpoints.continuation import Continuation
from app_custom.ended_jobs import REASON_FILE
from app_custom.participant.site_configuration import FILE_NAME
from app_custom.server.best_model import BestModel
from app_custom.server.global_metrics import GlobalMetrics
from fedi2i.errors import ConfigError

ROUNDS = 4
FINAL = "final_evaluation"
RUN = "fedavg-0123456789ab"


class TinyModel(torch.nn.Module):
    """Keys and shapes of ``weights_of``."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.nn.Module()
        for name, value in weights_of(0).items():
            tensor = torch.from_numpy(np.array(value))
            self.generator.register_buffer(name.removeprefix("generator."), tensor)


class Server:
    """A server process: real persistor, selector, metrics and controller around the widget."""

    def __init__(self, root: Path, aborted: bool = False, submitter: str = "lead") -> None:
        self.app = root / "app"
        self.app.mkdir(parents=True, exist_ok=True)
        self.metrics = GlobalMetrics()
        self.selector = BestModel("val/psnr", "metrics", FINAL)
        self.persistor = PTFileModelPersistor(model=TinyModel())
        self.aggregator = Aggregator({"name": "fedavg"}, 1)
        self.engine = Engine(
            root,
            components={
                "persistor": self.persistor,
                "selector": self.selector,
                "metrics": self.metrics,
                "aggregator": self.aggregator,
            },
        )
        self.controller = ScatterAndGather(num_rounds=ROUNDS)
        self.runner = server_runner(self.controller, aborted)
        self.widget = Continuation(
            RUN, ROUNDS, FINAL, "persistor", "selector", "metrics", "aggregator"
        )
        ctx = self.engine.new_context()
        ctx.set_prop(FLContextKey.APP_ROOT, str(self.app), private=True, sticky=True)
        ctx.set_prop(FLContextKey.RUNNER, self.runner, private=True, sticky=True)
        meta = {"submitter_name": submitter, "deploy_map": {"app_site": ["north", "east"]}}
        ctx.set_prop(FLContextKey.JOB_META, meta, private=True, sticky=True)
        for part in (self.metrics, self.selector, self.persistor, self.widget):
            part.handle_event(EventType.START_RUN, ctx)

    def die(self) -> None:
        """The process ends, and the system lets go of what it held."""
        assert self.widget._lock is not None
        self.widget._lock.release()

    def context(self) -> FLContext:
        return self.engine.new_context()

    def event(self, event_type: str, **props: Any) -> FLContext:
        ctx = self.context()
        for name, value in props.items():
            ctx.set_prop(getattr(AppConstants, name), value, private=True, sticky=True)
        self.widget.handle_event(event_type, ctx)
        return ctx

    def load(self) -> FLContext:
        return self.event(AppEventType.INITIAL_MODEL_LOADED)

    def round_done(self, number: int, weights: dict[str, np.ndarray]) -> None:
        model = make_model_learnable(weights, {})
        self.event(AppEventType.ROUND_DONE, CURRENT_ROUND=number, GLOBAL_MODEL=model)

    def best(self, weights: dict[str, np.ndarray], rounds: int) -> None:
        self.selector.best_round = rounds
        model = make_model_learnable(weights, {})
        self.event(AppEventType.GLOBAL_BEST_MODEL_AVAILABLE, GLOBAL_MODEL=model)

    def end(self, workflow: str = FINAL) -> None:
        ctx = self.context()
        ctx.set_prop(FLContextKey.WORKFLOW, workflow, private=True, sticky=True)
        self.widget.handle_event(EventType.END_WORKFLOW, ctx)

    def close(self) -> None:
        self.widget.handle_event(EventType.ABOUT_TO_END_RUN, self.context())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "local").mkdir()
    (tmp_path / "local" / FILE_NAME).write_text(f"state: {tmp_path}/kept\n", encoding="utf-8")
    return tmp_path


def folder(root: Path) -> Path:
    """Where a run's finished rounds are, if there are any."""
    found = [path for path in (root / "kept" / "server").glob(f"{RUN}-*") if path.is_dir()]
    assert len(found) < 2
    return found[0] if found else root / "kept" / "server" / RUN


def interrupted_after_two_rounds(root: Path) -> Server:
    server = Server(root)
    server.load()
    server.round_done(0, weights_of(1))
    server.best(weights_of(1), 1)
    server.metrics.rows = [("all", 0, "val/psnr", 20.0), ("all", 1, "val/psnr", 21.5)]
    server.round_done(1, weights_of(2))
    server.die()
    return server


def test_the_first_start_changes_nothing(root: Path) -> None:
    server = Server(root)
    server.load()
    assert server.controller._current_round is None
    assert not folder(root).exists()


def test_each_finished_round_is_saved_in_the_server_s_own_state_folder(root: Path) -> None:
    server = Server(root)
    server.round_done(0, weights_of(1))
    assert len(list(folder(root).iterdir())) == 1


def test_without_a_state_folder_the_workspace_holds_the_rounds(root: Path) -> None:
    (root / "local" / FILE_NAME).write_text("shared_machine: true\n", encoding="utf-8")
    Server(root).round_done(0, weights_of(1))
    assert (
        len([path for path in (root / "state" / "server").glob(f"{RUN}-*") if path.is_dir()]) == 1
    )


def test_a_restarted_server_goes_on_with_the_next_round_of_the_same_model(root: Path) -> None:
    interrupted_after_two_rounds(root)
    again = Server(root)
    ctx = again.load()

    state = again.controller.get_persist_state(ctx)
    assert (state["current_round"], state["start_round"], state["num_rounds"]) == (2, 0, ROUNDS)
    for key, value in weights_of(2).items():
        np.testing.assert_array_equal(state["global_weights"]["weights"][key], value)
        np.testing.assert_array_equal(
            ctx.get_prop(AppConstants.GLOBAL_MODEL)["weights"][key], value
        )
    assert again.context().get_prop(AppConstants.CURRENT_ROUND) == 1


def test_a_restarted_server_knows_the_best_model_and_the_metrics(root: Path) -> None:
    interrupted_after_two_rounds(root)
    again = Server(root)
    again.load()
    assert again.selector.best_round == 1
    assert again.metrics.mean("val/psnr", 1) == 21.5
    # The next round's file must still hold the best model, although it was found before.
    again.round_done(2, weights_of(3))
    again.die()
    shutil.rmtree(again.app)  # as the simulator does
    third = Server(root)
    third.load()
    best = torch.load(third.app / "best_FL_global_model.pt", weights_only=True)["model"]
    np.testing.assert_array_equal(best["generator.w"], weights_of(1)["generator.w"])


def test_a_restarted_server_s_strategy_remembers_what_it_knew(root: Path) -> None:
    server = Server(root)
    server.load()
    server.aggregator.memory = {"velocity/generator.w": np.full((2, 3), 0.5)}
    server.round_done(0, weights_of(1))
    server.die()
    again = Server(root)
    again.load()
    assert list(again.aggregator.memory) == ["velocity/generator.w"]
    np.testing.assert_array_equal(again.aggregator.memory["velocity/generator.w"], 0.5)
    assert again.aggregator.memory["velocity/generator.w"].dtype == np.float64


def test_a_restarted_server_writes_both_model_files_again(root: Path) -> None:
    interrupted_after_two_rounds(root)
    again = Server(root)
    again.load()
    for name, seed in (("FL_global_model.pt", 2), ("best_FL_global_model.pt", 1)):
        model = torch.load(again.app / name, weights_only=True)["model"]
        for key, value in weights_of(seed).items():
            assert model[key].shape == value.shape
            np.testing.assert_array_equal(model[key], value)


def test_continuing_is_said_with_the_number_of_rounds_and_the_way_to_start_anew(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    interrupted_after_two_rounds(root)
    again = Server(root)
    again.load()
    assert "continuing an interrupted run after 2 of 4 finished rounds" in caplog.text
    assert f"delete {folder(root)} to start it anew" in caplog.text


def test_a_run_of_another_name_does_not_continue_this_one(root: Path) -> None:
    interrupted_after_two_rounds(root)
    other = Server(root)
    other.widget._run_name = "fedavg-ffffffffffff"
    other.widget.handle_event(EventType.START_RUN, other.context())
    other.load()
    assert other.controller._current_round is None


def test_a_complete_run_forgets_its_rounds(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    server = Server(root)
    for number in range(ROUNDS):
        server.round_done(number, weights_of(number))
    server.end("scatter_and_gather")
    server.end(FINAL)
    server.close()
    assert not folder(root).exists()
    assert "run complete; models are in" in caplog.text


def test_a_run_that_ends_without_the_final_evaluation_keeps_its_rounds(root: Path) -> None:
    server = Server(root)
    for number in range(ROUNDS):
        server.round_done(number, weights_of(number))
    server.end("scatter_and_gather")
    server.close()
    assert folder(root).is_dir()
    again = Server(root)
    again.load()
    assert again.controller._current_round == ROUNDS  # no round left, only the evaluation


@pytest.mark.parametrize("finished", [2, ROUNDS])
def test_an_aborted_run_keeps_its_rounds_and_says_how_to_continue(
    root: Path, finished: int, caplog: pytest.LogCaptureFixture
) -> None:
    server = Server(root, aborted=True)
    for number in range(finished):
        server.round_done(number, weights_of(number))
    server.end(FINAL)
    server.close()
    assert folder(root).is_dir()
    assert f"the run ended after {finished} of 4 rounds" in caplog.text
    assert "start the same job again" in caplog.text
    (told,) = (Path(server.engine.get_workspace().get_run_dir(JOB)) / REASON_FILE).open()
    assert told.startswith(f"the run ended after {finished} of 4 rounds; start the same job again")


def test_a_damaged_file_stops_the_run_and_is_left_for_a_person_to_judge(root: Path) -> None:
    interrupted_after_two_rounds(root)
    (path,) = folder(root).iterdir()
    path.write_bytes(b"damaged")
    again = Server(root)
    again.load()
    (reason,) = again.engine.panics()
    assert reason.startswith("server: ")
    assert str(path) in reason
    assert again.controller._current_round is None
    assert path.read_bytes() == b"damaged"


def test_a_server_without_configuration_stops_with_the_file_s_name(root: Path) -> None:
    (root / "local" / FILE_NAME).unlink()
    server = Server(root)
    (reason,) = server.engine.panics()
    assert reason.startswith("server: ")
    assert FILE_NAME in reason
    server.load()
    server.round_done(0, weights_of(1))
    server.close()  # events that still arrive do not raise


def test_while_a_run_goes_on_the_same_job_again_is_refused(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = Server(root)
    first.load()
    second = Server(root)
    assert second.engine.panics() == [
        "server: a job with the same name, sites and settings is running; wait for its end or "
        "abort it, or give this one another name or seed"
    ]
    first.round_done(0, weights_of(1))
    assert len(list(folder(root).iterdir())) == 1
    first.die()
    third = Server(root)
    third.load()
    assert third.controller._current_round == 1


def test_a_server_that_cannot_save_a_round_ends_the_job_with_the_reason(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = interrupted_after_two_rounds(root)

    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    server.round_done(2, weights_of(3))
    (reason,) = server.engine.panics()
    assert reason.startswith(f"server: {folder(root)}: no space left on device")
    monkeypatch.undo()
    again = Server(root)
    again.load()
    assert again.controller._current_round == 2


@pytest.mark.parametrize("name", ["/var/lib/jobs", "../other", "a/b", "", "."])
def test_a_run_s_name_is_no_path(name: str) -> None:
    with pytest.raises(ConfigError, match="use letters, digits"):
        Continuation(name, ROUNDS, FINAL, "persistor")


def test_another_person_s_job_with_the_run_s_name_starts_anew_and_disturbs_nothing(
    root: Path,
) -> None:
    interrupted_after_two_rounds(root)
    other = Server(root, submitter="somebody else")
    other.load()
    assert other.controller._current_round is None
    assert other.metrics.rows == [] and not (other.app / "FL_global_model.pt").exists()
    other.round_done(0, weights_of(9))
    other.die()
    again = Server(root)
    ctx = again.load()
    assert again.controller.get_persist_state(ctx)["current_round"] == 2
