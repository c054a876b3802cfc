from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from nvflare.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from nvflare.apis.fl_constant import FLContextKey, ReturnCode
from nvflare.apis.shareable import ReservedHeaderKey, Shareable
from nvflare.apis.signal import Signal
from nvflare.app_common.app_constant import AppConstants
from nvflare_fakes import Engine

from app_custom.executor import session_opening
from app_custom.executor.site_session import RunEndedError
from app_custom.executor.translation_executor import TranslationExecutor
from app_custom.gates.allowed_update import AllowedUpdate
from app_custom.gates.shared_metrics import SharedCurves
from fedi2i.errors import ConfigError, DataError
from lightning_modules.training.learner import RoundResult

SETTINGS = {"training": {"rounds": 7}}
RUN = "fedavg-0123456789ab"
LEAK = "scan /data/hospital/Doe_Jane_1950/t1.nii.gz of patient Doe_Jane"


class Session:
    """A site's session whose numbers are known."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []
        self.accepted: list[int | None] = []
        self.failure: Exception | None = None
        self.kept: list[tuple[int, bool]] = []

    def train(
        self,
        state: dict[str, np.ndarray],
        arrays: dict[str, np.ndarray],
        round_number: int,
        accepted_round: int | None,
    ) -> RoundResult:
        self.calls.append(("train", round_number))
        self.accepted.append(accepted_round)
        self.arrays = arrays
        if self.failure is not None:
            raise self.failure
        moved = {key: torch.as_tensor(value) + 1 for key, value in state.items()}
        metrics = {"train/l1": 0.25, "train/oldest_patient": 91.0}
        sent = {name: torch.as_tensor(value) * 2 for name, value in arrays.items()}
        return RoundResult(moved, samples=42, metrics=metrics, steps=5, seconds=1.5, extras=sent)

    def validate(
        self,
        state: dict[str, np.ndarray],
        round_number: int,
        accepted_round: int | None = None,
    ) -> dict[str, float]:
        self.calls.append(("validate", round_number))
        self.accepted.append(accepted_round)
        return {"val/psnr": float(state["generator.w"].sum()), "val/oldest_patient": 91.0}

    def keep_personal_model(
        self,
        state: dict[str, np.ndarray],
        round_number: int,
        accepted_round: int | None,
    ) -> None:
        self.calls.append(("keep", round_number))
        self.accepted.append(accepted_round)

    def keep_models(
        self,
        state: dict[str, np.ndarray],
        round_number: int,
        metrics: dict[str, float],
        accepted_round: int | None,
        final: bool = False,
    ) -> None:
        assert metrics["val/psnr"] == float(state["generator.w"].sum())
        self.kept.append((round_number, final))


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Session:
    fake = Session()
    monkeypatch.setattr(session_opening, "open_session", lambda *_: fake)
    return fake


def task(round_number: Any = 3) -> Shareable:
    weights = {"generator.w": np.arange(4, dtype=np.float32)}
    sent = DXO(DataKind.WEIGHTS, data=weights).to_shareable()
    sent.set_header(AppConstants.CURRENT_ROUND, round_number)
    return sent


def execute(name: str, sent: Shareable | None = None) -> Shareable:
    executor = TranslationExecutor(SETTINGS, RUN)
    ctx = Engine(name="east").new_context()
    return executor.execute(name, sent or task(), ctx, Signal())


def test_a_training_answer_holds_numpy_weights_their_samples_and_both_metrics(
    session: Session,
) -> None:
    answer = from_shareable(execute("train"))
    assert answer.data_kind == DataKind.WEIGHTS
    (weights,) = answer.data.values()
    assert type(weights) is np.ndarray
    assert weights.dtype == np.float32
    np.testing.assert_array_equal(weights, [1, 2, 3, 4])
    assert answer.meta == {
        MetaKey.NUM_STEPS_CURRENT_ROUND: 42,
        MetaKey.INITIAL_METRICS: {"val/psnr": 6.0},
        "train_metrics": {"train/l1": 0.25, "time/train_seconds": 1.5},
    }


def test_the_received_model_is_validated_before_it_is_trained_in_the_server_s_round(
    session: Session,
) -> None:
    execute("train")
    assert session.calls == [("validate", 3), ("train", 3)]
    assert session.kept == [(3, False)]


def test_a_validation_answer_holds_listed_metrics_only_of_the_model_after_all_rounds(
    session: Session,
) -> None:
    answer = from_shareable(execute("validate"))
    assert (answer.data_kind, answer.data) == (DataKind.METRICS, {"val/psnr": 6.0})
    assert session.calls == [("validate", 7), ("keep", 7)]
    assert session.kept == [(7, True)]


def test_a_job_that_only_evaluates_keeps_no_model(session: Session) -> None:
    executor = TranslationExecutor(SETTINGS, RUN, only_evaluates=True)
    answer = executor.execute("validate", task(), Engine(name="east").new_context(), Signal())
    assert from_shareable(answer).data == {"val/psnr": 6.0}
    assert session.kept == []


def test_the_strategy_s_arrays_travel_beside_the_model_and_back(session: Session) -> None:
    sent = task()
    sent["DXO"]["data"]["strategy/control/generator.w"] = np.ones(4, np.float32)
    answer = from_shareable(execute("train", sent))
    assert list(session.arrays) == ["control/generator.w"]
    assert set(answer.data) == {"generator.w", "strategy/control/generator.w"}
    np.testing.assert_array_equal(answer.data["strategy/control/generator.w"], [2, 2, 2, 2])


def test_a_site_that_encrypts_its_updates_is_refused_before_it_trains(
    session: Session, caplog: pytest.LogCaptureFixture
) -> None:
    executor = TranslationExecutor({**SETTINGS, "strategy": {"name": "fedma"}}, RUN)
    ctx = Engine(name="east").new_context()
    encrypting = type("HEModelEncryptor", (), {"__module__": "nvflare.app_opt.he.model_encryptor"})
    runner = SimpleNamespace(task_result_filters={"train": [encrypting()]})
    ctx.set_prop(FLContextKey.RUNNER, runner, private=True, sticky=True)
    answer = executor.execute("train", task(), ctx, Signal())
    assert answer.get_return_code() == ReturnCode.EXECUTION_EXCEPTION
    assert session.calls == []
    assert "strategy 'FedMA' must see plain weights, but HEModelEncryptor" in caplog.text


@pytest.mark.parametrize("name", ["train", "validate"])
def test_the_job_s_own_filter_lets_the_answers_pass(session: Session, name: str) -> None:
    answer = execute(name)
    checked = AllowedUpdate(["generator"]).process(answer, Engine().new_context())
    assert checked is answer


@pytest.mark.parametrize("error", [DataError, ValueError, RuntimeError, MemoryError])
def test_a_failure_is_explained_in_the_site_s_log_and_not_in_its_answer(
    session: Session,
    error: Callable[[str], Exception],
    caplog: pytest.LogCaptureFixture,
) -> None:
    session.failure = error(LEAK)
    answer = execute("train")
    assert dict(answer) == {
        ReservedHeaderKey.HEADERS: {ReservedHeaderKey.RC: ReturnCode.EXECUTION_EXCEPTION}
    }
    assert LEAK in caplog.text
    assert "site 'east'" in caplog.text


def test_a_failing_site_tells_the_server_nothing_by_events_either(session: Session) -> None:
    """NVFlare's widget can send a site's log events to the server; ours must not."""
    session.failure = DataError(LEAK)
    engine = Engine(name="east")
    TranslationExecutor(SETTINGS, RUN).execute("train", task(), engine.new_context(), Signal())
    leaking = {kind for kind, data in engine.events if LEAK in repr(data)}
    assert leaking
    assert leaking.isdisjoint(SharedCurves().events_to_convert)


def test_a_configuration_error_at_the_site_is_answered_like_any_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: Any) -> None:
        raise ConfigError(LEAK)

    monkeypatch.setattr(session_opening, "open_session", refuse)
    assert execute("validate").get_return_code() == ReturnCode.EXECUTION_EXCEPTION


@pytest.mark.parametrize("sent", [Shareable({"note": 1}), task(None)])
def test_a_task_that_holds_no_model_or_no_round_is_answered_and_not_raised(
    session: Session, sent: Shareable
) -> None:
    assert execute("train", sent).get_return_code() == ReturnCode.EXECUTION_EXCEPTION
    assert session.calls == []


def test_a_task_of_a_run_that_has_ended_is_broken_off_without_an_error(
    session: Session, caplog: pytest.LogCaptureFixture
) -> None:
    session.failure, ended = RunEndedError("the run has ended"), Signal()
    ended.trigger(True)
    executor = TranslationExecutor(SETTINGS, RUN)
    answer = executor.execute("train", task(), Engine(name="east").new_context(), ended)
    assert answer.get_return_code() == ReturnCode.TASK_ABORTED
    assert "ERROR" not in caplog.text


def test_an_unknown_task_is_answered_as_unknown(session: Session) -> None:
    answer = execute("submit_model")
    assert answer.get_return_code() == ReturnCode.TASK_UNKNOWN
    assert session.calls == []


@pytest.mark.parametrize(
    ("meta", "expected"),
    [({}, None), ({"accepted_rounds": {"east": 1}}, 1), ({"accepted_rounds": {"west": 2}}, -1)],
)
def test_all_tasks_go_on_from_the_round_that_the_server_took_last(
    session: Session, meta: dict[str, Any], expected: int | None
) -> None:
    sent = task()
    sent["DXO"]["meta"].update(meta)
    for name in ("train", "validate"):
        execute(name, sent)
    assert session.accepted == [expected] * 4


def test_a_run_s_name_that_is_a_path_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"run_name '\.\./other'"):
        TranslationExecutor(SETTINGS, "../other")


def test_a_session_is_opened_once_for_all_tasks_of_a_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[Session] = []

    def open_session(*_: Any) -> Session:
        opened.append(Session())
        return opened[-1]

    monkeypatch.setattr(session_opening, "open_session", open_session)
    executor = TranslationExecutor(SETTINGS, RUN)
    for name in ("train", "train", "validate"):
        executor.execute(name, task(), Engine(name="east").new_context(), Signal())
    assert len(opened) == 1


def test_an_unknown_setting_is_refused_when_the_job_is_read_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'training.round'; did you mean 'rounds'"):
        TranslationExecutor({"training": {"round": 3}}, RUN)


def test_an_impossible_setting_is_refused_when_the_job_is_read() -> None:
    with pytest.raises(ConfigError, match=r"training\.rounds is 0"):
        TranslationExecutor({"training": {"rounds": 0}}, RUN)


def test_reading_the_job_imports_no_training_code() -> None:
    """The server and NVFlare's parent processes read configurations; that must stay quick."""
    code = (
        "import sys, app_custom.executor.translation_executor;"
        "print([name for name in ('torch', 'pytorch_lightning', 'monai') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = done.stdout.strip().splitlines()[-1]
    assert "pytorch_lightning" not in heavy
    assert "monai" not in heavy


def test_a_session_that_only_validates_does_without_lightning() -> None:
    """In the simulator a process may live for one task: what it imports is part of its time."""
    code = (
        "import sys, app_custom.executor.session_opening;"
        "print('torch' in sys.modules, 'pytorch_lightning' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-2:] == ["True", "False"]
