"""What leaves a site under masks: one answer for one sum, and nothing beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from masked_federation import CODE, RUN, Weights
from masked_rounds import SAMPLES, MakeFederation, first_model, train, train_task
from nvflare.apis.dxo import DXO, DataKind, from_shareable
from nvflare.apis.fl_constant import FLContextKey, ReturnCode
from nvflare.apis.shareable import Shareable
from nvflare.app_common.ccwf.swarm_client_ctl import SwarmClientController
from nvflare_fakes import Engine, task_router

from app_custom.executor.translation_executor import TranslationExecutor
from app_custom.gates.allowed_update import AllowedUpdate, UpdateNotAllowedError
from app_custom.gates.site_policy import SitePolicy
from app_custom.privacy.secure_sum.filters import MaskUpdate, masks
from app_custom.privacy.secure_sum.key_exchange import ANNOUNCEMENT, KEYS, MASKED, OPEN, OPENING
from app_custom.privacy.secure_sum.mask_keys import MaskKeys
from app_custom.privacy.update_filters import AddNoise


def test_the_same_round_is_not_answered_with_other_values_and_the_same_ones_are_repeated(
    make: MakeFederation,
) -> None:
    federation = make()
    federation.run()
    site, everybody = federation.sites["east"], sorted(SAMPLES)
    first = site.do("train", "again", train_task(0, everybody))
    sent = from_shareable(federation.messages["train", "east"]).data
    for key, value in from_shareable(first).data.items():
        np.testing.assert_array_equal(value, sent[key])
    other = {key: value + np.float32(0.01) for key, value in first_model().items()}
    refused = site.do("train", "other", train_task(0, everybody, other))
    assert refused.get_return_code() == ReturnCode.TASK_RESULT_FILTER_ERROR


@pytest.mark.parametrize(
    ("number", "sites"),
    [
        (0, ["east", "north", "south"]),  # round 0 has been opened over four
        (1, ["east", "north"]),
        (1, ["north", "south", "west"]),
        (1, ["east", "north", "south", "zoo"]),
        (-1, sorted(SAMPLES)),
    ],
)
def test_no_other_sum_of_an_opened_round_or_of_too_few_sites_is_begun(
    make: MakeFederation, number: int, sites: list[str]
) -> None:
    federation = make()
    federation.run()
    site = federation.sites["east"]
    site.last = {}
    answer = site.do("train", "other", train_task(number, sites))
    assert answer.get_return_code() != ReturnCode.OK
    assert site.last == {}  # refused before anything was trained


def test_weights_that_no_sum_was_begun_for_do_not_leave(make: MakeFederation) -> None:
    federation = make()
    federation.run()
    site = federation.sites["east"]
    answer = DXO(DataKind.WEIGHTS, data=first_model(), meta={}).to_shareable()
    with site.engine.new_context() as ctx:
        ctx.set_prop(FLContextKey.TASK_ID, "unknown", private=True, sticky=False)
        with pytest.raises(RuntimeError, match="belongs to no sum"):
            site.mask.process(answer, ctx)


@pytest.mark.parametrize(
    "trained",
    [
        lambda w: {k: v for k, v in w.items() if k != "generator.b"},
        lambda w: {**w, "generator.b": w["generator.b"] * np.nan},
        lambda w: {**w, "generator.b": w["generator.b"][:2]},
        lambda w: {**w, "strategy/control/generator.b": w["generator.b"]},
    ],
)
def test_what_no_sum_can_hold_does_not_leave(
    make: MakeFederation, trained: Callable[[Weights], Weights]
) -> None:
    federation = make()
    site = federation.sites["south"]
    site.train = lambda name, number, received: trained(train(name, number, received))
    federation.run()
    assert federation.sent[-1] == (OPEN, ["east", "north", "west"])
    assert federation.engine.panics() == []


def test_values_beyond_the_bound_are_clipped_and_the_site_says_how_many(
    make: MakeFederation, caplog: pytest.LogCaptureFixture
) -> None:
    federation = make()
    federation.sites["south"].train = lambda name, number, received: {
        k: v + np.float32(3.0) for k, v in received.items()
    }
    found = federation.run()
    assert "63 of 65 values of discriminator changed by more than 1 and were clipped" in caplog.text
    assert np.abs(found["discriminator.w"] - first_model()["discriminator.w"]).max() < 1.0


def exchange(data: dict[str, Any], meta: dict[str, Any] | None = None) -> Shareable:
    return DXO(DataKind.APP_DEFINED, data=data, meta=meta or {}).to_shareable()


@pytest.mark.parametrize("gate", [AllowedUpdate, SitePolicy])
def test_the_exchange_and_masked_words_pass_the_gates_and_nothing_beside_them(
    make: MakeFederation, gate: type[AllowedUpdate]
) -> None:
    federation = make()
    federation.run()
    checked, ctx = gate(["generator"]), federation.engine.new_context()
    announced = from_shareable(federation.messages[KEYS, "east"]).data
    checked.process(exchange(announced), ctx)
    checked.process(exchange({OPENING: bytes(32)}), ctx)
    said = announced[ANNOUNCEMENT]
    key = (federation.sites["east"].engine.get_workspace().get_startup_kit_dir(), "client.key")
    secret = Path(*key).read_bytes()
    for data, meta in (
        ({OPENING: bytes(33)}, {}),
        ({OPENING: bytes(32), "kept": bytes(32)}, {}),
        ({"other": bytes(32)}, {}),
        ({OPENING: "x" * 32}, {}),
        ({OPENING: bytes(32)}, {"note": 1}),
        ({ANNOUNCEMENT: {**said, "note": b""}}, {}),
        ({ANNOUNCEMENT: {**said, "public_key": bytes(31)}}, {}),
        ({ANNOUNCEMENT: {**said, "certificate": secret}}, {}),
        ({ANNOUNCEMENT: {**said, "certificate": said["certificate"] + b"note"}}, {}),
        ({ANNOUNCEMENT: {**said, "signature": bytes(5000)}}, {}),
        ({ANNOUNCEMENT: {**said, "sites": ["a", 1]}}, {}),
    ):
        with pytest.raises(UpdateNotAllowedError):
            checked.process(exchange(data, meta), ctx)
    words = np.zeros(5, np.uint32)
    for key_, value in (
        (f"{MASKED}discriminator", words),
        (f"{MASKED}generator", words.astype(np.float32)),
        (f"{MASKED}generator", words.reshape(1, 5)),
        (f"{MASKED}generator", [1, 2]),
    ):
        with pytest.raises(UpdateNotAllowedError):
            checked.process(DXO(DataKind.WEIGHT_DIFF, data={key_: value}).to_shareable(), ctx)
    checked.process(
        DXO(DataKind.WEIGHT_DIFF, data={f"{MASKED}generator": words}).to_shareable(), ctx
    )


def test_what_counts_as_masked_is_that_gates_alone_stand_behind_the_masks() -> None:
    """A site with ``single_updates: false`` asks this; see ``test_job_admission.py``."""
    mask, gate = MaskUpdate(RUN, **CODE), AllowedUpdate(["generator"])
    router = task_router(TranslationExecutor({}, RUN), MaskKeys(RUN))
    for chain, expected in (
        ([], False),
        ([gate], False),
        ([mask], True),
        ([AddNoise(), mask, gate], True),
        ([mask, gate, AddNoise()], False),
    ):
        ctx = Engine(name="east").new_context()
        runner = SimpleNamespace(task_result_filters={"train/out": chain}, task_router=router)
        ctx.set_prop(FLContextKey.RUNNER, runner, private=True, sticky=False)
        assert masks(ctx) is expected


def test_beside_another_executor_nothing_counts_as_masked() -> None:
    """A job's other tasks pass other filters, and NVFlare's swarm sends models past them all."""
    ours = TranslationExecutor({}, RUN), MaskKeys(RUN)
    for executors, expected in ((ours, True), ((*ours, SwarmClientController()), False)):
        ctx = Engine(name="east").new_context()
        runner = SimpleNamespace(
            task_result_filters={"train/out": [MaskUpdate(RUN, **CODE)]},
            task_router=task_router(*executors),
        )
        ctx.set_prop(FLContextKey.RUNNER, runner, private=True, sticky=False)
        assert masks(ctx) is expected
