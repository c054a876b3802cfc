from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nvflare.apis.dxo import DataKind, from_shareable
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import FLContextKey, ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.app_common.abstract.model import make_model_learnable
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.app_event_type import AppEventType
from nvflare.app_common.decomposers.numpy_decomposers import NumpyArrayDecomposer
from nvflare.app_common.shareablegenerators.full_model_shareable_generator import (
    FullModelShareableGenerator,
)
from nvflare.fuel.sec.audit import AuditService
from nvflare.fuel.utils import fobs
from nvflare_fakes import Engine, answering, train_answer, weights_of, with_peer

from app_custom.aggregation.aggregator import Aggregator

SITES = ("east", "north", "south")
ROUND = 3


class Server:
    """One round at a server whose global model is ``weights_of(0)``."""

    def __init__(self, min_sites: int = 2) -> None:
        self.engine = Engine(sites=SITES)
        self.aggregator = Aggregator({"name": "fedavg"}, min_sites)
        self.start(ROUND, weights_of(0))

    def start(self, round_number: int, weights: dict[str, np.ndarray]) -> None:
        ctx = self.context()
        ctx.set_prop(AppConstants.CURRENT_ROUND, round_number, private=True, sticky=True)
        model = make_model_learnable(weights, {})
        ctx.set_prop(AppConstants.GLOBAL_MODEL, model, private=True, sticky=True)
        self.aggregator.handle_event(AppEventType.ROUND_STARTED, ctx)

    def context(self) -> FLContext:
        return self.engine.new_context()

    def accept(self, site: str, answer: Shareable) -> bool:
        return self.aggregator.accept(answer, with_peer(self.context(), site))

    def accept_as(self, site: str, calls_itself: str, answer: Shareable) -> bool:
        ctx = answering(self.context(), answer, site, calls_itself)
        return self.aggregator.accept(answer, ctx)

    def aggregate(self) -> Shareable:
        return self.aggregator.aggregate(self.context())


def good(seed: int, samples: float = 4) -> Shareable:
    return train_answer(weights_of(seed), samples, ROUND)


def changed(key: str, value: Any) -> Shareable:
    return train_answer({**weights_of(1), key: value}, 4, ROUND)


def without(key: str) -> Shareable:
    weights = weights_of(1)
    del weights[key]
    return train_answer(weights, 4, ROUND)


def with_one(value: float) -> Shareable:
    array = weights_of(1)["generator.w"]
    array[1, 2] = value
    return changed("generator.w", array)


def no_model() -> Shareable:
    answer = Shareable({"hello": 1})
    answer.add_cookie(AppConstants.CONTRIBUTION_ROUND, ROUND)
    return answer


REFUSED = {
    "an earlier round": (train_answer(weights_of(1), 4, ROUND - 1), "round 2, not 3"),
    "a later round": (train_answer(weights_of(1), 4, ROUND + 1), "round 4, not 3"),
    "no round": (train_answer(weights_of(1), 4, None), "round None, not 3"),
    "a missing key": (without("generator.b"), "'generator.b'"),
    "an extra key": (changed("generator.z", np.zeros(1)), "'generator.z'"),
    "a key that is no text": (changed(7, np.zeros(1)), "'7'"),  # type: ignore[arg-type]
    "another shape": (changed("generator.w", np.zeros((3, 2), np.float32)), "(3, 2)"),
    "another type": (changed("generator.w", np.zeros((2, 3))), "'generator.w'"),
    "no array": (changed("generator.w", [[0.0] * 3] * 2), "'generator.w'"),
    "an array of objects": (changed("generator.w", np.full((2, 3), None)), "'generator.w'"),
    "NaN": (with_one(np.nan), "NaN or infinity"),
    "infinity": (with_one(np.inf), "NaN or infinity"),
    "minus infinity": (with_one(-np.inf), "NaN or infinity"),
    "no samples": (train_answer(weights_of(1), 0, ROUND), "0 training samples"),
    "negative samples": (train_answer(weights_of(1), -3, ROUND), "-3 training samples"),
    "half a sample": (train_answer(weights_of(1), 4.5, ROUND), "4.5 training samples, which is no"),
    "more than any hospital's": (train_answer(weights_of(1), 1e300, ROUND), "from 1 to 10000000"),
    "samples as a truth": (train_answer(weights_of(1), True, ROUND), "no number"),
    "NaN samples": (train_answer(weights_of(1), np.nan, ROUND), "nan training samples"),
    "infinite samples": (train_answer(weights_of(1), np.inf, ROUND), "inf training samples"),
    "samples beyond any number": (train_answer(weights_of(1), 10**5000, ROUND), "endlessly many"),
    "samples in words": (train_answer(weights_of(1), "many", ROUND), "no number"),
    "no sample count": (train_answer(weights_of(1), None, ROUND), "no number"),
    "differences": (
        train_answer(weights_of(1), 4, ROUND, kind=DataKind.WEIGHT_DIFF),
        "differences",
    ),
    "metrics only": (
        train_answer({"val/psnr": 30.0}, 4, ROUND, kind=DataKind.METRICS),
        "'generator.b'",
    ),
    "no model": (no_model(), "cannot be read"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_an_update_is_refused_with_its_site_named_and_the_round_goes_on(
    what: str, caplog: pytest.LogCaptureFixture
) -> None:
    answer, reason = REFUSED[what]
    server = Server()
    assert server.accept("east", good(1, samples=1))
    assert server.accept("north", answer) is False
    assert server.accept("south", good(2, samples=3))

    refusals = [record.getMessage() for record in caplog.records if "refused" in record.message]
    assert len(refusals) == 1
    assert "'north'" in refusals[0]
    assert reason in refusals[0]
    expected = 0.25 * weights_of(1)["generator.w"] + 0.75 * weights_of(2)["generator.w"]
    result = from_shareable(server.aggregate()).data
    np.testing.assert_allclose(result["generator.w"], expected, rtol=1e-6)
    assert "no usable update from north" in caplog.text
    assert server.engine.panics() == []


def test_a_second_answer_of_a_site_is_refused_and_the_first_one_counts(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = Server(min_sites=1)
    assert server.accept("east", good(1))
    assert server.accept("east", good(2)) is False
    assert "'east' refused: the site has already answered" in caplog.text
    result = from_shareable(server.aggregate()).data
    np.testing.assert_array_equal(result["generator.w"], weights_of(1)["generator.w"])


def test_a_refused_site_may_answer_again_in_the_same_round() -> None:
    server = Server()
    assert server.accept("east", with_one(np.nan)) is False
    assert server.accept("east", good(1))


def test_an_answer_that_comes_while_the_round_is_combined_is_refused_until_the_next(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = Server(min_sites=1)
    server.accept("east", good(1))
    result = from_shareable(server.aggregate()).data
    assert server.accept("north", good(2)) is False
    assert "'north' refused: it came when round 3 was over" in caplog.text
    server.aggregator.reset(server.context())
    assert server.accept("north", good(2)) is False
    np.testing.assert_array_equal(result["generator.w"], weights_of(1)["generator.w"])


def test_after_a_reset_the_next_round_takes_new_answers_of_the_same_sites() -> None:
    server = Server(min_sites=1)
    server.accept("east", good(1))
    server.aggregate()
    server.aggregator.reset(server.context())
    server.start(ROUND + 1, weights_of(1))
    assert server.accept("east", train_answer(weights_of(2), 4, ROUND + 1))
    result = from_shareable(server.aggregate()).data
    np.testing.assert_array_equal(result["generator.w"], weights_of(2)["generator.w"])


def test_a_site_that_claims_other_samples_than_before_is_refused_within_the_job(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = Server(min_sites=1)
    server.accept("east", good(1, samples=4))
    server.accept("north", good(2, samples=4))
    server.aggregate()
    server.aggregator.reset(server.context())
    server.start(ROUND + 1, weights_of(1))
    assert server.accept("east", train_answer(weights_of(2), 4_000, ROUND + 1)) is False
    assert "'east' refused: it states 4000 training samples, and 4 in an earlier" in caplog.text
    assert server.accept("north", train_answer(weights_of(2), 4, ROUND + 1))


@pytest.mark.parametrize(("samples", "warned"), [(24, False), (25, True)])
def test_a_site_with_nearly_all_samples_is_named_once_in_the_server_s_log(
    samples: int, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    server = Server(min_sites=1)
    for number in (0, 1):
        server.start(ROUND + number, weights_of(0))
        server.accept("east", train_answer(weights_of(1), samples, ROUND + number))
        server.accept("north", train_answer(weights_of(2), 8, ROUND + number))
        server.aggregate()
        server.aggregator.reset(server.context())
    said = f"site 'east' states {samples} of {samples + 8} training samples"
    assert caplog.text.count(said) == int(warned)


def test_a_refused_update_stands_in_the_audit_trail_under_the_site_s_name(tmp_path: Path) -> None:
    AuditService.initialize(str(tmp_path / "audit.log"))
    try:
        Server().accept("east", good(1, samples=1e300))
    finally:
        AuditService.close()
        AuditService.the_auditor = None
    assert (
        "[U:east][A:update.refused]it states 1e+300 training"
        in (tmp_path / "audit.log").read_text()
    )


def test_rounds_of_fewer_sites_than_the_sites_were_told_end_the_job() -> None:
    server = Server(min_sites=1)
    ctx = server.context()
    ctx.set_prop(FLContextKey.JOB_META, {"min_clients": 3}, private=True, sticky=True)
    server.aggregator.handle_event(EventType.START_RUN, ctx)
    (reason,) = server.engine.panics()
    assert "rounds of 1 site(s) are not what the sites were told" in reason


def test_fewer_answers_than_needed_end_the_job_and_name_the_missing_sites() -> None:
    server = Server(min_sites=2)
    server.accept("north", good(1))
    answer = server.aggregate()
    assert "DXO" not in answer
    (reason,) = server.engine.panics()
    assert "round 3: 1 site(s) answered, at least 2 are needed" in reason
    assert reason.endswith("missing: east, south")


def test_with_exactly_the_needed_sites_the_round_is_made() -> None:
    server = Server(min_sites=2)
    server.accept("north", good(1))
    server.accept("south", good(2))
    assert from_shareable(server.aggregate()).data_kind == DataKind.WEIGHTS
    assert server.engine.panics() == []


def test_the_result_is_the_same_to_the_last_bit_for_every_order_of_arrival() -> None:
    rng = np.random.default_rng(1)
    answers = {
        site: (rng.normal(size=1000), samples)
        for site, samples in zip(SITES, (3, 7, 11), strict=True)
    }
    total = sum(samples for _, samples in answers.values())
    results, plain_sums = set(), set()
    for order in itertools.permutations(answers):
        server = Server()
        server.start(ROUND, {"generator.w": np.zeros(1000)})
        for site in order:
            weights, samples = answers[site]
            assert server.accept(site, train_answer({"generator.w": weights}, samples, ROUND))
        results.add(from_shareable(server.aggregate()).data["generator.w"].tobytes())
        plain_sums.add(sum(answers[site][1] / total * answers[site][0] for site in order).tobytes())
    assert len(plain_sums) > 1  # summed as they arrive, these numbers do differ
    assert len(results) == 1


def test_the_model_goes_round_through_nvflare_s_wire_format_and_shareable_generator() -> None:
    """Out to the sites, back, averaged, made the global model, and out again in a second round."""
    fobs.register(NumpyArrayDecomposer)
    generator = FullModelShareableGenerator()
    server = Server()
    model = make_model_learnable(weights_of(0), {})
    for round_number in (0, 1):
        ctx = server.context()
        server.start(round_number, model["weights"])
        sent = Shareable.from_bytes(generator.learnable_to_shareable(model, ctx).to_bytes())
        received = from_shareable(sent).data
        for site, step in (("east", 1), ("north", 2), ("south", 6)):
            moved = {k: np.asarray(v + step, v.dtype) for k, v in received.items()}
            answer = train_answer(moved, 4, round_number)
            assert server.accept(site, Shareable.from_bytes(answer.to_bytes()))
        model = generator.shareable_to_learnable(server.aggregate(), server.context())
        server.aggregator.reset(server.context())
    start = weights_of(0)
    # Steps 1, 2 and 6 have the mean 3 and the maximum 6; twice.
    np.testing.assert_allclose(model["weights"]["generator.w"], start["generator.w"] + 6, rtol=1e-6)
    assert model["weights"]["generator.w"].dtype == np.float32
    assert int(model["weights"]["generator.n"]) == int(start["generator.n"]) + 12


def test_an_error_answer_is_no_model() -> None:
    server = Server()
    reply = make_reply(ReturnCode.EXECUTION_EXCEPTION)
    reply.add_cookie(AppConstants.CONTRIBUTION_ROUND, ROUND)
    assert server.accept("east", reply) is False


def test_one_site_answers_once_whatever_it_calls_itself_and_the_others_answers_count(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = Server(min_sites=3)
    zeros = {key: np.zeros_like(value) for key, value in weights_of(0).items()}
    taken = [
        server.accept_as("north", named, train_answer(zeros, 4, ROUND))
        for named in ("east", "south", "west", "north", "north")
    ]
    assert taken == [False, False, False, True, False]
    assert "update of site 'north' refused: the site calls itself 'east'" in caplog.text
    assert all(server.accept_as(site, site, good(2)) for site in ("east", "south"))


def test_a_site_that_is_not_in_the_job_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    assert not Server().accept("west", good(1))
    assert "update of site 'west' refused: it is no site of this job" in caplog.text
