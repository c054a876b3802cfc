"""What leaves a site of a swarm, through NVFlare's own client-side controller."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from nvflare.apis.client import Client
from nvflare.apis.dxo import DXO, DataKind, MetaKey
from nvflare.apis.executor import Executor
from nvflare.apis.filter import Filter
from nvflare.apis.fl_constant import FLContextKey, ReservedTopic, ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.apis.signal import Signal
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.ccwf.common import Constant
from nvflare.app_common.ccwf.swarm_client_ctl import SwarmClientController
from nvflare.app_common.decomposers.numpy_decomposers import NumpyArrayDecomposer
from nvflare.app_common.shareablegenerators.full_model_shareable_generator import (
    FullModelShareableGenerator,
)
from nvflare.fuel.utils import fobs
from nvflare_fakes import Engine, train_answer, weights_of

from app_custom.gates.allowed_peer_message import AllowedPeerMessage
from app_custom.gates.allowed_update import AllowedUpdate

SITES = ("east", "north")
SECRET = b"Doe_Jane_1950"
REPORT = "swarm_report_learn_result"
GATE = AllowedPeerMessage(["generator"])


class SiteEngine(Engine):
    """A site's engine that keeps what would have gone to another participant."""

    def __init__(self) -> None:
        super().__init__(name="east", sites=SITES)
        fobs.register(NumpyArrayDecomposer)
        self.sent: list[bytes] = []
        self.all_clients = self.get_clients()

    def validate_targets(self, names: list[str]) -> tuple[list[str], list[str]]:
        return names, []

    def get_client_from_name(self, name: str) -> Client:
        return next(client for client in self.all_clients if client.name == name)

    def get_cell(self) -> None:
        return None

    def send_aux_request(self, targets: list[str], topic: str, request: Shareable, **_: Any) -> Any:
        if topic == ReservedTopic.DO_TASK:
            self.sent.append(request.to_bytes())
        return {target: make_reply(ReturnCode.OK) for target in targets}

    def leaked(self) -> bool:
        return any(SECRET in message for message in self.sent)


class Learner(Executor):
    """Answers what the test wants."""

    def __init__(self, answer: Shareable) -> None:
        super().__init__()
        self._answer = answer

    def execute(self, *_: Any) -> Shareable:
        return self._answer


class Site:
    """Site east, whose round is aggregated at site north."""

    def __init__(self, answer: Shareable, **filters: dict[str, list[Filter]]) -> None:
        self.engine = SiteEngine()
        self.controller = SwarmClientController()
        self.controller.engine, self.controller.me = self.engine, "east"
        self.controller.learn_executor = Learner(answer)
        self.controller.shareable_generator = FullModelShareableGenerator()
        self.controller.is_trainer, self.controller.config = True, {}
        self.controller.trainers = self.controller.aggrs = list(SITES)
        ctx = self.engine.new_context()
        none: dict[str, list[Filter]] = {}
        runner = SimpleNamespace(
            task_data_filters=filters.get("data", none),
            task_result_filters=filters.get("result", none),
        )
        ctx.set_prop(FLContextKey.RUNNER, runner, private=True, sticky=True)
        self.controller.start_controller(ctx)

    def learn(self) -> None:
        """Train a round and hand the answer in, as NVFlare does it."""
        task = DXO(DataKind.WEIGHTS, data=weights_of(0)).to_shareable()
        task.set_header(AppConstants.CURRENT_ROUND, 3)
        task.set_header(Constant.AGGREGATOR, "north")
        self.controller.do_learn_task("train", task, self.engine.new_context(), Signal())

    @property
    def error(self) -> Any:
        """What the site tells the server of its failure."""
        return self.controller.current_status.error


def answer(**changes: Any) -> Shareable:
    return train_answer(weights_of(1), metrics={"val/psnr": 21.0}, **changes)


def with_part() -> Shareable:
    planted = answer()
    planted["patient"] = SECRET
    return planted


def with_header() -> Shareable:
    planted = answer()
    planted.set_header("patient", SECRET)
    return planted


def with_parameter() -> Shareable:
    pixels = np.frombuffer(SECRET, np.uint8)
    return train_answer({**weights_of(1), "patient.pixels": pixels})


def with_meta() -> Shareable:
    meta = {MetaKey.NUM_STEPS_CURRENT_ROUND: 4, "patient": SECRET}
    return DXO(DataKind.WEIGHTS, data=weights_of(1), meta=meta).to_shareable()


PLANTED: dict[str, Callable[[], Shareable]] = {
    "beside the model": with_part,
    "in a header": with_header,
    "as a parameter": with_parameter,
    "in the meta data": with_meta,
}


@pytest.mark.parametrize("where", PLANTED)
def test_a_planted_secret_does_not_leave_and_the_server_learns_that_the_site_failed(
    where: str,
) -> None:
    site = Site(PLANTED[where](), data={f"{REPORT}/out": [GATE]})
    site.learn()
    assert site.engine.sent == []
    assert site.error == ReturnCode.EXECUTION_EXCEPTION


@pytest.mark.parametrize("where", PLANTED)
def test_nvflare_applies_no_result_filter_on_this_path_which_is_why_the_gate_stands_elsewhere(
    where: str,
) -> None:
    gate = AllowedUpdate(["generator"])
    filters: dict[str, list[Filter]] = {"train/out": [gate], f"{REPORT}/out": [gate]}
    site = Site(PLANTED[where](), result=filters)
    site.learn()
    assert site.engine.leaked()


def test_nvflare_sends_what_was_there_before_a_filter_so_that_a_gate_can_only_refuse() -> None:
    class Without(Filter):  # type: ignore[misc]
        """Answers with a clean copy, as filters do."""

        def process(self, shareable: Shareable, fl_ctx: FLContext) -> Shareable:
            return answer()

    site = Site(with_part(), data={f"{REPORT}/out": [Without()]})
    site.learn()
    assert site.engine.leaked()


def test_a_clean_answer_goes_to_the_aggregating_site_as_it_is() -> None:
    site = Site(answer(), data={f"{REPORT}/out": [GATE]})
    site.learn()
    (message,) = site.engine.sent
    weights = Shareable.from_bytes(message)["DXO"]["data"]
    for key, value in weights_of(1).items():
        np.testing.assert_array_equal(weights[key], value)
    assert not site.error


def test_a_site_that_aggregates_its_own_round_sends_its_answer_to_nobody() -> None:
    site = Site(answer(), data={f"{REPORT}/out": [GATE]})
    site.controller.me = "north"
    site.controller._process_learn_result = lambda *_: make_reply(ReturnCode.OK)
    site.controller.gatherer = None
    site.learn()
    assert site.engine.sent == []
