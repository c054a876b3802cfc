from __future__ import annotations

import copy
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from nvflare.apis.dxo import DXO, DataKind, MetaKey
from nvflare.apis.fl_constant import FilterKey, FLContextKey, ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import ReservedHeaderKey, Shareable, make_reply
from nvflare.apis.utils.task_utils import apply_filters
from nvflare.private.fed.client.client_runner import (
    ClientRunner,
    ClientRunnerConfig,
    TaskAssignment,
    TaskRouter,
)
from nvflare.private.privacy_manager import Scope
from nvflare_fakes import JOB, Engine, with_peer

from app_custom.gates.allowed_update import AllowedUpdate, UpdateNotAllowedError
from app_custom.gates.shared_metrics import BOUNDS, TRAIN_METRICS
from fedi2i.errors import ConfigError

SECRET = "Jane Doe"
BOTH = ("generator", "discriminator")


def train_answer() -> Shareable:
    """What the executor answers to ``train``."""
    weights = {
        "generator.unet.weight": np.ones((2, 2), np.float32),
        "generator.norm.count": np.array(3, np.int64),
        "discriminator.last.bias": np.zeros(1, np.float32),
    }
    meta = {
        MetaKey.NUM_STEPS_CURRENT_ROUND: 12,
        MetaKey.INITIAL_METRICS: {"val/psnr": 21.5},
        TRAIN_METRICS: {"train/l1": 0.25, "time/train_seconds": np.float64(3.0)},
    }
    return DXO(DataKind.WEIGHTS, data=weights, meta=meta).to_shareable()


def validation_answer() -> Shareable:
    largest = {name: high for name, (_, high) in BOUNDS.items()}
    return DXO(DataKind.METRICS, data=largest).to_shareable()


def checked(answer: Shareable, networks: Sequence[str] = BOTH, **options: Any) -> Shareable:
    return AllowedUpdate(networks, **options).process(answer, FLContext())


def plant(*path: str, value: Any = SECRET) -> Callable[[], Shareable]:
    """A training answer with ``value`` written at a path of keys."""

    def make() -> Shareable:
        answer = train_answer()
        *parents, last = path
        place: Any = answer
        for key in parents:
            place = place[key]
        place[last] = value
        return answer

    return make


def error_answer(**parts: Any) -> Callable[[], Shareable]:
    def make() -> Shareable:
        answer = make_reply(ReturnCode.EXECUTION_EXCEPTION, parts.get("headers"))
        answer.update(parts.get("content", {}))
        return answer

    return make


def of_kind(kind: str) -> Callable[[], Shareable]:
    return lambda: DXO(kind, data={"generator.unet.weight": np.ones(2)}).to_shareable()


HEADERS = ReservedHeaderKey.HEADERS
META = ("DXO", "meta")
DATA = ("DXO", "data")
REFUSED = {
    "a parameter of no shared module": plant(*DATA, "encoder.w", value=np.ones(2)),
    "a module whose name starts alike": plant(*DATA, "generator2.w", value=np.ones(2)),
    "a module of that name further down": plant(*DATA, "my.generator.w", value=np.ones(2)),
    "the bare module name": plant(*DATA, "generator", value=np.ones(2)),
    "an empty parameter name": plant(*DATA, "", value=np.ones(2)),
    "text as a parameter": plant(*DATA, "generator.w"),
    "a list as a parameter": plant(*DATA, "generator.w", value=[1.0, 2.0]),
    "an array of objects": plant(*DATA, "generator.w", value=np.array([SECRET], object)),
    "an array of text": plant(*DATA, "generator.w", value=np.array([SECRET])),
    "an array of bytes": plant(*DATA, "generator.w", value=np.array([SECRET.encode()])),
    "an array of records": plant(
        *DATA, "generator.w", value=np.array([(SECRET, 1)], dtype=[("name", "U8"), ("n", "i4")])
    ),
    "an array of dates": plant(*DATA, "generator.w", value=np.array(["1950-05-01"], "M8[D]")),
    "an unknown validation metric": plant(*META, MetaKey.INITIAL_METRICS, "val/ages", value=1.0),
    "another number of the source": plant(*META, MetaKey.INITIAL_METRICS, "source/p99", value=0.9),
    "a percentile above the range": plant(*META, MetaKey.INITIAL_METRICS, "source/p95", value=1.2),
    "percentiles of single patients": plant(
        *META, MetaKey.INITIAL_METRICS, "source/p05", value=[0.1, 0.2]
    ),
    "an unknown training metric": plant(*META, TRAIN_METRICS, "train/patients", value=1.0),
    "text in a metric": plant(*META, MetaKey.INITIAL_METRICS, "val/psnr"),
    "an array in a metric": plant(*META, TRAIN_METRICS, "train/l1", value=np.ones(9)),
    "text instead of metrics": plant(*META, TRAIN_METRICS),
    "text instead of the sample count": plant(*META, MetaKey.NUM_STEPS_CURRENT_ROUND),
    **{
        f"{value!r} as the sample count": plant(*META, MetaKey.NUM_STEPS_CURRENT_ROUND, value=value)
        for value in (float("nan"), float("inf"), 12.5, 12.0, True, -3, 0, 10_000_001, None, [12])
    },
    "another meta key": plant(*META, "site_note"),
    "something as the history of filters": plant(*META, MetaKey.FILTER_HISTORY),
    "a name as a filter": plant(*META, MetaKey.FILTER_HISTORY, value=[SECRET]),
    "keys of a filter": plant(*META, MetaKey.PROCESSED_KEYS),
    "an algorithm of a filter": plant(*META, MetaKey.PROCESSED_ALGORITHM),
    "another top-level part": plant("note"),
    "another part of the data": plant("DXO", "note"),
    "another header": plant(HEADERS, "note"),
    "a note in the error header": plant(HEADERS, ReservedHeaderKey.ERROR),
    "a note in the cookies": plant(HEADERS, ReservedHeaderKey.COOKIE_JAR, value={"c": SECRET}),
    "a note as the content type": plant(HEADERS, ReservedHeaderKey.CONTENT_TYPE),
    "a note as the return code": plant(HEADERS, ReservedHeaderKey.RC),
    "an error answer with the model in it": plant(
        HEADERS, ReservedHeaderKey.RC, value=ReturnCode.EXECUTION_EXCEPTION
    ),
    "an error answer with content": error_answer(content={"reason": SECRET}),
    "an error answer with another header": error_answer(headers={"reason": SECRET}),
    "an error answer with an error text": error_answer(headers={ReservedHeaderKey.ERROR: SECRET}),
    "no data exchange object": lambda: Shareable({"DXO": SECRET}),
    "an empty answer": Shareable,
    **{
        f"data of kind {kind}": of_kind(kind)
        for kind in DataKind
        if kind not in (DataKind.WEIGHTS, DataKind.WEIGHT_DIFF)
    },
    "data of no known kind": of_kind("PICTURES"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_an_answer_with_something_unlisted_is_refused(what: str) -> None:
    with pytest.raises((UpdateNotAllowedError, ValueError, AttributeError)):
        checked(REFUSED[what]())


@pytest.mark.parametrize("what", ["train", "validate"])
def test_an_ordinary_answer_passes_and_nothing_in_it_changes(what: str) -> None:
    answer = train_answer() if what == "train" else validation_answer()
    before = copy.deepcopy(answer)
    passed = checked(answer)
    assert passed is answer
    np.testing.assert_equal(dict(passed), dict(before))


def test_differences_of_weights_pass_like_weights() -> None:
    answer = train_answer()
    answer["DXO"]["kind"] = DataKind.WEIGHT_DIFF
    assert checked(answer) is answer


def test_with_the_generator_alone_shared_a_discriminator_is_refused() -> None:
    with pytest.raises(UpdateNotAllowedError, match=r"discriminator\.last\.bias"):
        checked(train_answer(), ["generator"])
    generator_only = train_answer()
    del generator_only["DXO"]["data"]["discriminator.last.bias"]
    assert checked(generator_only, ["generator"]) is generator_only


@pytest.mark.parametrize(
    "code", [value for name, value in vars(ReturnCode).items() if name.isupper() and value != "OK"]
)
def test_a_plain_error_answer_passes_so_that_the_server_hears_of_the_failure(code: str) -> None:
    answer = make_reply(code)
    assert checked(answer) is answer


@pytest.mark.parametrize("networks", [["generators"], "generators"])
def test_an_unknown_network_is_refused_when_the_job_is_read(networks: Any) -> None:
    with pytest.raises(ConfigError, match="did you mean 'generator'"):
        AllowedUpdate(networks)


@pytest.mark.parametrize(
    "arguments", [{"networks": "generator"}, {"local": "generator.norm"}, {"arrays": "control"}]
)
def test_a_text_in_place_of_a_list_is_refused(arguments: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="lists of names"):
        AllowedUpdate(**{"networks": BOTH, **arguments})


def test_a_local_part_of_a_shared_network_is_refused() -> None:
    with pytest.raises(UpdateNotAllowedError, match=r"generator\.norm\.count"):
        checked(train_answer(), local=["generator.norm"])
    without = train_answer()
    del without["DXO"]["data"]["generator.norm.count"]
    assert checked(without, local=["generator.norm"]) is without
    # whole dotted parts: "generator.nor" names another module
    assert checked(train_answer(), local=["generator.nor"])


CONTROL = "strategy/control/generator.unet.weight"


def test_a_listed_array_of_a_shared_parameter_passes() -> None:
    answer = plant(*DATA, CONTROL, value=np.ones(2, np.float32))()
    assert checked(answer, arrays=["control"]) is answer


@pytest.mark.parametrize(
    ("key", "options"),
    [
        (CONTROL, {}),
        ("strategy/secret/generator.unet.weight", {"arrays": ["control"]}),
        ("strategy/control/encoder.w", {"arrays": ["control"]}),
        (
            "strategy/control/generator.norm.count",
            {"arrays": ["control"], "local": ["generator.norm"]},
        ),
        ("strategy/control/", {"arrays": ["control"]}),
        ("strategy/generator.unet.weight", {"arrays": ["control"]}),
        ("strategy/control/generator.w/generator.w", {"arrays": []}),
    ],
)
def test_any_other_array_beside_the_parameters_is_refused(
    key: str, options: dict[str, list[str]]
) -> None:
    answer = plant(*DATA, key, value=np.ones(2, np.float32))()
    answer["DXO"]["data"].pop("generator.norm.count")
    with pytest.raises(UpdateNotAllowedError, match=re.escape(key)):
        checked(answer, **options)


def test_a_second_filter_after_a_refusal_is_not_reached_in_nvflare_s_chain() -> None:
    class Reached(AllowedUpdate):
        def process(self, shareable: Shareable, fl_ctx: FLContext) -> Shareable:
            raise AssertionError("the answer went on")

    chain = {f"train{FilterKey.DELIMITER}{FilterKey.OUT}": [AllowedUpdate(BOTH), Reached(BOTH)]}
    answer = plant(*META, "site_note")()
    ctx = Engine().new_context()
    with pytest.raises(UpdateNotAllowedError):
        apply_filters(Scope.TASK_RESULT_FILTERS_NAME, answer, ctx, chain, "train", FilterKey.OUT)


class ClientEngine(Engine):
    """Engine of a site, as far as NVFlare's client runner asks for it."""

    def register_aux_message_handler(self, **_: Any) -> None: ...


class Answers:
    """An executor that gives one answer."""

    def __init__(self, answer: Shareable) -> None:
        self._answer = answer

    def execute(self, *_: Any) -> Shareable:
        return self._answer


def sent_by_nvflare(answer: Shareable, monkeypatch: pytest.MonkeyPatch) -> Shareable:
    """What NVFlare's real client runner would send for an executor's answer."""
    monkeypatch.setattr("nvflare.private.fed.client.client_runner.add_job_audit_event", _no_audit)
    router = TaskRouter()
    router.add_executor(["train"], Answers(answer))
    filters = {f"train{FilterKey.DELIMITER}{FilterKey.OUT}": [AllowedUpdate(BOTH)]}
    engine = ClientEngine(name="north")
    config = ClientRunnerConfig(router, {}, filters, handlers=[], components={})
    runner = ClientRunner({"is_leaf": True}, config, JOB, engine)
    context = with_peer(engine.new_context(), "server")
    context.get_peer_context().put(FLContextKey.CURRENT_RUN, JOB, private=False, sticky=False)
    task = TaskAssignment("train", "task-1", Shareable())
    sent: Shareable = runner._process_task(task, context)
    return sent


def _no_audit(**_: Any) -> str:
    return ""


@pytest.mark.parametrize("what", REFUSED)
def test_nvflare_sends_a_filter_error_and_nothing_of_a_refused_answer(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = sent_by_nvflare(REFUSED[what](), monkeypatch)
    assert sent.get_return_code() == ReturnCode.TASK_RESULT_FILTER_ERROR
    assert set(sent) == {HEADERS}
    assert SECRET not in repr(sent)


def test_nvflare_sends_an_ordinary_answer_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = train_answer()
    sent = sent_by_nvflare(answer, monkeypatch)
    assert sent.get_return_code() == ReturnCode.OK
    np.testing.assert_equal(sent["DXO"], train_answer()["DXO"])


def test_a_network_of_a_lab_s_own_module_leaves_where_both_lists_name_it() -> None:
    """A site's own list names those of our models, until somebody there adds another."""
    weights = {"generator_coarse.layer.weight": np.ones(2, np.float32)}
    answer = DXO(DataKind.WEIGHTS, data=weights).to_shareable()
    assert checked(answer, ("generator", "generator_coarse")) is answer
    with pytest.raises(UpdateNotAllowedError, match="outside the sharing scope"):
        checked(answer, BOTH)
    with pytest.raises(ConfigError, match="unknown value 'critic'"):
        AllowedUpdate(["critic"])
