from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from nvflare.apis.dxo import DXO, DataKind, MetaKey
from nvflare.apis.shareable import ReservedHeaderKey, Shareable
from nvflare.app_common.abstract.model import make_model_learnable
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.ccwf.common import Constant, ResultType
from nvflare_fakes import Engine, train_answer, weights_of

from app_custom.gates.allowed_peer_message import AllowedPeerMessage
from app_custom.gates.allowed_update import UpdateNotAllowedError

SECRET = "Doe_Jane_1950"


def check(message: Shareable, **scope: Any) -> Shareable:
    gate = AllowedPeerMessage(**({"networks": ["generator"]} | scope))
    engine = Engine(name="east", sites=("east", "north"))
    return gate.process(message, engine.new_context())


def with_header(message: Shareable, name: str, value: Any) -> Shareable:
    message.set_header(name, value)
    return message


def update() -> Shareable:
    """A site's update on its way to the aggregating site, as NVFlare 2.9.0 sends it."""
    message = train_answer(weights_of(1), 4, 3, {"val/psnr": 21.0}, {"train/l1": 0.5})
    message.set_header(AppConstants.CURRENT_ROUND, 3)
    message.set_header(ReservedHeaderKey.TASK_NAME, "swarm_report_learn_result")
    return with_header(message, ReservedHeaderKey.PASS_THROUGH, True)


def next_round() -> Shareable:
    """The mean on its way to all sites."""
    message = DXO(DataKind.WEIGHTS, data=weights_of(1)).to_shareable()
    message.add_cookie(AppConstants.CONTRIBUTION_ROUND, 4)
    for name, value in {
        AppConstants.CURRENT_ROUND: 4,
        AppConstants.NUM_ROUNDS: 6,
        Constant.AGGREGATOR: "north",
        Constant.CLIENT: "east",
        Constant.METRIC: 21.5,
        Constant.ROUND: 3,
        ReservedHeaderKey.MSG_ROOT_TTL: 600.0,
        ReservedHeaderKey.TASK_NAME: "swarm_learn",
    }.items():
        message.set_header(name, value)
    return message


def final(model: Any = None, result_type: str = ResultType.LAST) -> Shareable:
    """The final model on its way to all sites."""
    message = Shareable()
    message[Constant.RESULT] = make_model_learnable(weights_of(1), {}) if model is None else model
    message.set_header(Constant.RESULT_TYPE, result_type)
    message.set_header(Constant.ROUND, 5)
    message.set_header(Constant.METRIC, None)
    return with_header(message, ReservedHeaderKey.TASK_NAME, "swarm_report_final_result")


MESSAGES = {"an update": update, "a mean": next_round, "a final model": final}


@pytest.mark.parametrize("what", MESSAGES)
def test_a_message_of_the_swarm_passes_unchanged(what: str) -> None:
    message = MESSAGES[what]()
    before = repr(message)
    assert check(message) is message
    assert repr(message) == before


@pytest.mark.parametrize("what", MESSAGES)
def test_a_parameter_outside_the_sharing_scope_stays_whatever_the_message(what: str) -> None:
    with pytest.raises(UpdateNotAllowedError, match=r"'generator\.\w' is outside"):
        check(MESSAGES[what](), networks=["discriminator"])
    with pytest.raises(UpdateNotAllowedError, match=r"'generator\.\w' is outside"):
        check(MESSAGES[what](), local=["generator"])


@pytest.mark.parametrize("what", MESSAGES)
@pytest.mark.parametrize(
    "header",
    [
        "patient",
        AppConstants.CURRENT_ROUND,
        AppConstants.NUM_ROUNDS,
        Constant.AGGREGATOR,
        Constant.CLIENT,
        Constant.METRIC,
        Constant.ROUND,
        Constant.RESULT_TYPE,
        ReservedHeaderKey.TASK_NAME,
        ReservedHeaderKey.PASS_THROUGH,
        ReservedHeaderKey.MSG_ROOT_TTL,
        ReservedHeaderKey.CONTENT_TYPE,
        ReservedHeaderKey.COOKIE_JAR,
        ReservedHeaderKey.RC,
    ],
)
def test_a_secret_in_any_header_is_refused(what: str, header: str) -> None:
    with pytest.raises(UpdateNotAllowedError, match=r"header|part of an error"):
        check(with_header(MESSAGES[what](), header, SECRET))


@pytest.mark.parametrize("what", MESSAGES)
@pytest.mark.parametrize("jar", [{"patient": 1}, {AppConstants.CONTRIBUTION_ROUND: SECRET}])
def test_a_secret_in_the_cookies_is_refused(what: str, jar: dict[str, Any]) -> None:
    with pytest.raises(UpdateNotAllowedError, match="cookie_jar"):
        check(with_header(MESSAGES[what](), ReservedHeaderKey.COOKIE_JAR, jar))


@pytest.mark.parametrize("what", MESSAGES)
def test_a_secret_beside_the_model_is_refused(what: str) -> None:
    message = MESSAGES[what]()
    message["patient"] = SECRET
    with pytest.raises(UpdateNotAllowedError, match="part 'patient'"):
        check(message)


@pytest.mark.parametrize(
    "model",
    [
        make_model_learnable({**weights_of(1), "patients": np.ones(1)}, {}),
        make_model_learnable({**weights_of(1), "generator.w": SECRET}, {}),
        make_model_learnable(weights_of(1), {"patient": SECRET}),
        make_model_learnable(weights_of(1), {MetaKey.INITIAL_METRICS: {"age": 91.0}}),
        SECRET,
        {"weights": weights_of(1), "patient": SECRET},
    ],
)
def test_a_final_model_holds_shared_parameters_and_nothing_else(model: Any) -> None:
    with pytest.raises(UpdateNotAllowedError):
        check(final(model))


def test_a_final_model_with_something_in_the_place_of_its_extra_parts_is_refused() -> None:
    model = make_model_learnable(weights_of(1), {})
    model["patient"] = SECRET
    with pytest.raises(UpdateNotAllowedError, match="not a model"):
        check(final(model))
