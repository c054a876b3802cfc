"""The pair of filters: one clip, one noise, one line in the ledger, and nothing where one lacks."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from nvflare.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from nvflare.apis.filter import Filter
from nvflare.apis.fl_constant import FilterKey, FLContextKey, ReservedKey, ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import make_reply
from nvflare.apis.utils.task_utils import apply_filters
from nvflare.app_common.app_constant import AppConstants
from nvflare.private.fed.simulator.simulator_const import SimulatorConstants
from nvflare.private.privacy_manager import Scope
from privacy_messages import answer as _answer
from privacy_messages import model as _model
from privacy_messages import received as _received
from privacy_messages import set_task as _task

from app_custom.aggregation.compression_filters import Compress
from app_custom.gates.allowed_update import AllowedUpdate
from app_custom.gates.job_limits import BudgetRefusedError
from app_custom.gates.shared_metrics import TRAIN_METRICS
from app_custom.privacy import update_filters
from app_custom.privacy.update_filters import (
    LEDGER,
    AddNoise,
    PrivacyRefusalError,
    SpendBudget,
    keeps_to_the_ledger,
    refuse_round_without_ledger,
    site_ledger,
)
from fedi2i.epsilon import EPSILON_ROUND, EPSILON_TOTAL
from fedi2i.errors import ConfigError, DataError
from lightning_modules.privacy.accountant import Release, epsilon

CLIPPING = {"generator": 1.0, "discriminator": 0.25}
POLICY: dict[str, Any] = {
    "clipping": CLIPPING,
    "noise_multiplier": 5.0,
    "epsilon": 9.0,
    "delta": 1e-5,
}


def _round(
    fl_ctx: FLContext, number: int, pairs: list[tuple[SpendBudget, AddNoise]], value: float = 2.0
) -> DXO:
    """One training task through the pairs of a site and a job, in NVFlare's order."""
    _task(fl_ctx, f"task-{number}")
    message = _received(round_number=number)
    for incoming, _ in pairs:
        message = incoming.process(message, fl_ctx)
    answer = _answer(value)
    for _, outgoing in pairs:
        answer = outgoing.process(answer, fl_ctx)
    return from_shareable(answer)


def _pair(**changed: Any) -> tuple[SpendBudget, AddNoise]:
    return SpendBudget(**{**POLICY, **changed}), AddNoise()


def test_what_leaves_is_the_received_model_with_a_clipped_update_and_noise(
    fl_ctx: FLContext,
) -> None:
    sent = _round(fl_ctx, 0, [_pair(noise_multiplier=1e-3, epsilon=1e7)]).data
    for key, bound in (("generator.w", 1.0), ("discriminator.w", 0.25)):
        length = np.linalg.norm(sent[key] - 1.0)
        assert length == pytest.approx(bound, rel=0.02)
        assert sent[key].dtype == np.float32


def test_no_true_number_of_the_site_leaves_beside_the_model(fl_ctx: FLContext) -> None:
    meta = _round(fl_ctx, 0, [_pair()]).meta
    spent = epsilon([Release(5.0, 2.0)] * 2, 1e-5)
    assert meta[MetaKey.NUM_STEPS_CURRENT_ROUND] == 1
    assert TRAIN_METRICS not in meta
    assert meta[MetaKey.INITIAL_METRICS] == {
        EPSILON_ROUND: pytest.approx(spent),
        EPSILON_TOTAL: pytest.approx(spent),
    }


def test_the_gate_behind_it_lets_the_noised_answer_pass(fl_ctx: FLContext) -> None:
    dxo = _round(fl_ctx, 0, [_pair(share_metrics=True)])
    assert dxo.meta[MetaKey.INITIAL_METRICS]["val/psnr"] == 20.0
    AllowedUpdate(list(CLIPPING)).process(dxo.to_shareable(), fl_ctx)


def test_where_the_site_has_the_pair_the_job_s_pair_does_nothing(fl_ctx: FLContext) -> None:
    job = _pair(clipping={"generator": 50.0, "discriminator": 50.0}, noise_multiplier=0.01)
    site = _pair(noise_multiplier=1.0, epsilon=60.0)
    sent = _round(fl_ctx, 0, [site, job], value=101.0)
    lines = site_ledger(fl_ctx, "run").events()
    assert [line["state"] for line in lines] == ["begun", "released"]
    assert lines[0]["releases"][0]["noise_multiplier"] == 1.0
    assert np.linalg.norm(sent.data["generator.w"] - 1.0) < 12  # C = 50 would move it by 50
    assert sent.meta[MetaKey.NUM_STEPS_CURRENT_ROUND] == 1


def test_a_spent_budget_refuses_the_round_before_it_is_trained(fl_ctx: FLContext) -> None:
    pair = _pair()
    most = next(n for n in range(1, 99) if epsilon([Release(5.0, 2.0)] * 2 * n, 1e-5) > 9.0) - 1
    for number in range(most):
        _round(fl_ctx, number, [pair])
    assert most > 1
    _with_filters(fl_ctx, [pair[0]], [pair[1]])
    # A later job, a fresh process, a job of its own with a larger budget behind the site's: closed.
    for number, pairs in ((98, [pair]), (99, [_pair(), _pair(epsilon=1e9)])):
        update_filters._MEMORY.begun.clear()
        with pytest.raises(PrivacyRefusalError, match="has no round in this site's privacy"):
            _round(fl_ctx, number, pairs)
        with pytest.raises(BudgetRefusedError, match="the budget is epsilon 9 at delta 1e-05"):
            refuse_round_without_ledger(fl_ctx)
    assert len(site_ledger(fl_ctx, "run").events()) == 2 * most


def test_the_site_s_log_has_a_line_a_round_with_what_is_spent_and_what_it_means(
    fl_ctx: FLContext, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    _round(fl_ctx, 0, [_pair()])
    _round(fl_ctx, 1, [_pair(noise_multiplier=0.05, epsilon=1e6)])
    first, second = (
        record.getMessage() for record in caplog.records if "privacy ledger" in record.getMessage()
    )
    spent = epsilon([Release(5.0, 2.0)] * 2, 1e-5)
    assert "site 'north' enters round 0 into its privacy ledger" in first
    assert first.endswith(
        f"epsilon 9 may be spent at delta 1e-05, and spent is epsilon {spent:.3g}"
    )
    assert second.endswith("it shows the mechanism and protects nobody")


def test_a_site_s_ledger_lasts_and_its_anchor_lies_elsewhere(
    fl_ctx: FLContext, tmp_path: Path
) -> None:
    _round(fl_ctx, 0, [_pair()])
    (ledger,) = tmp_path.rglob(LEDGER)
    ledger.unlink()
    with pytest.raises(PrivacyRefusalError, match="put the ledger back"):
        _round(fl_ctx, 1, [_pair()])


def _simulated(fl_ctx: FLContext, tmp_path: Path, shared_machine: str) -> None:
    fl_ctx.set_prop(ReservedKey.RUN_NUM, SimulatorConstants.JOB_NAME, private=False, sticky=True)
    (tmp_path / "local" / "fedi2i.yaml").write_text(f"shared_machine: {shared_machine}\n")


def test_a_simulated_ledger_ends_with_its_run(fl_ctx: FLContext, tmp_path: Path) -> None:
    _simulated(fl_ctx, tmp_path, "true")
    for _ in range(2):
        for number in range(2):
            _round(fl_ctx, number, [_pair(run="a")])
        update_filters._MEMORY.done.clear()
    assert len(site_ledger(fl_ctx, "a").events()) == 4
    assert site_ledger(fl_ctx, "b").events() == []


def test_no_server_makes_a_site_s_ledger_a_simulated_one(fl_ctx: FLContext, tmp_path: Path) -> None:
    _round(fl_ctx, 0, [_pair()])
    _simulated(fl_ctx, tmp_path, "false")
    _round(fl_ctx, 0, [_pair()])
    assert len(site_ledger(fl_ctx, "run").events()) == 4


def test_an_answer_whose_round_is_not_in_the_ledger_does_not_leave(fl_ctx: FLContext) -> None:
    _task(fl_ctx, "task-1")
    with pytest.raises(PrivacyRefusalError, match="has no round in this site's privacy ledger"):
        AddNoise().process(_answer(), fl_ctx)
    incoming, outgoing = _pair()
    incoming.process(_received(), fl_ctx)
    _task(fl_ctx, "task-2")
    with pytest.raises(PrivacyRefusalError, match="has no round"):
        outgoing.process(_answer(), fl_ctx)


def test_a_task_that_is_given_out_again_is_spent_and_noised_again(fl_ctx: FLContext) -> None:
    """A server may repeat a task under its old name: the raw weights must not pass as done."""
    incoming, outgoing = _pair(noise_multiplier=1e-3, epsilon=1e9)
    for _ in range(2):
        _task(fl_ctx, "task-1")
        incoming.process(_received(), fl_ctx)
        sent = from_shareable(outgoing.process(_answer(2.0), fl_ctx)).data
        assert np.linalg.norm(sent["generator.w"] - 1.0) == pytest.approx(1.0, rel=0.02)
    assert [line["state"] for line in site_ledger(fl_ctx, "run").events()] == [
        "begun",
        "released",
        "begun",
        "released",
    ]


def test_only_the_very_weights_that_have_their_noise_pass_a_second_filter(
    fl_ctx: FLContext,
) -> None:
    incoming, outgoing = _pair()
    _task(fl_ctx, "task-1")
    incoming.process(_received(), fl_ctx)
    noised = outgoing.process(_answer(), fl_ctx)
    assert outgoing.process(noised, fl_ctx) is noised
    with pytest.raises(PrivacyRefusalError, match="has no round"):
        outgoing.process(_answer(), fl_ctx)


def _with_filters(fl_ctx: FLContext, arriving: list[Filter], answers: list[Filter]) -> None:
    """A run whose job has these filters, as NVFlare's runner holds them."""
    config = SimpleNamespace(
        components={},
        task_data_filters={"train/in": arriving},
        task_result_filters={"train/out": answers},
    )
    runner = SimpleNamespace(config=config)
    fl_ctx.set_prop(FLContextKey.RUNNER, runner, private=True, sticky=False)


def test_a_site_with_the_pair_sends_nothing_past_its_filters(fl_ctx: FLContext) -> None:
    assert not keeps_to_the_ledger(fl_ctx)
    incoming, outgoing = _pair()
    _with_filters(fl_ctx, [incoming], [outgoing])
    assert keeps_to_the_ledger(fl_ctx)


@pytest.mark.parametrize("half", [0, 1])
def test_half_of_the_pair_trains_nothing(fl_ctx: FLContext, half: int) -> None:
    pair = _pair()
    _with_filters(fl_ctx, [pair[0]] if half == 0 else [], [pair[1]] if half == 1 else [])
    with pytest.raises(ConfigError, match="one of them is missing"):
        refuse_round_without_ledger(fl_ctx)


def test_a_model_that_came_past_the_filters_is_not_trained(fl_ctx: FLContext) -> None:
    """So a swarm's models do, whose answers leave past them as well."""
    incoming, outgoing = _pair()
    _with_filters(fl_ctx, [incoming], [outgoing])
    with pytest.raises(ConfigError, match="not in the site's privacy ledger"):
        refuse_round_without_ledger(fl_ctx)
    _task(fl_ctx, "task-1")
    incoming.process(_received(), fl_ctx)
    refuse_round_without_ledger(fl_ctx)


def test_nvflare_runs_the_site_s_pair_before_the_job_s(fl_ctx: FLContext) -> None:
    site, job = _pair(noise_multiplier=1e-3, epsilon=1e9), _pair(noise_multiplier=7.0, epsilon=60.0)
    scope = Scope()
    scope.add_task_data_filter(site[0], FilterKey.IN)
    scope.add_task_result_filter(site[1], FilterKey.OUT)
    fl_ctx.set_prop(FLContextKey.SCOPE_OBJECT, scope, private=True, sticky=False)
    _task(fl_ctx, "task-1")
    for name, message, chain, way in (
        (Scope.TASK_DATA_FILTERS_NAME, _received(), job[0], FilterKey.IN),
        (Scope.TASK_RESULT_FILTERS_NAME, _answer(), job[1], FilterKey.OUT),
    ):
        passed = apply_filters(name, message, fl_ctx, {f"train/{way}": [chain]}, "train", way)
    sent = from_shareable(passed).data
    assert np.linalg.norm(sent["generator.w"] - 1.0) == pytest.approx(1.0, rel=0.02)
    assert len(site_ledger(fl_ctx, "run").events()) == 2


def test_an_error_answer_passes_and_the_round_stays_spent(fl_ctx: FLContext) -> None:
    incoming, outgoing = _pair()
    _task(fl_ctx, "task-1")
    incoming.process(_received(), fl_ctx)
    reply = outgoing.process(make_reply(ReturnCode.EXECUTION_EXCEPTION), fl_ctx)
    assert reply.get_return_code() == ReturnCode.EXECUTION_EXCEPTION
    assert [line["state"] for line in site_ledger(fl_ctx, "run").events()] == ["begun"]
    with pytest.raises(PrivacyRefusalError, match="has no round"):
        outgoing.process(_answer(), fl_ctx)


def test_the_update_is_measured_from_a_compressed_model_too(fl_ctx: FLContext) -> None:
    incoming, outgoing = _pair(noise_multiplier=1e-4, epsilon=1e9)
    _task(fl_ctx, "task-1")
    incoming.process(Compress("fp16").process(_received(), fl_ctx), fl_ctx)
    sent = from_shareable(outgoing.process(_answer(1.05), fl_ctx)).data
    np.testing.assert_allclose(sent["generator.w"], 1.05, atol=1e-3)


def test_a_later_change_of_the_received_arrays_does_not_change_the_update(
    fl_ctx: FLContext,
) -> None:
    incoming, outgoing = _pair(noise_multiplier=1e-4, epsilon=1e9)
    _task(fl_ctx, "task-1")
    message = _received()
    incoming.process(message, fl_ctx)
    from_shareable(message).data["generator.w"] += 7.0
    sent = from_shareable(outgoing.process(_answer(1.05), fl_ctx)).data
    np.testing.assert_allclose(sent["generator.w"], 1.05, atol=1e-3)


def test_a_validation_spends_nothing_and_may_not_answer_with_weights(fl_ctx: FLContext) -> None:
    incoming, outgoing = _pair()
    _task(fl_ctx, "task-1", AppConstants.TASK_VALIDATION)
    incoming.process(_received(), fl_ctx)
    metrics = DXO(DataKind.METRICS, data={"val/psnr": 20.0}).to_shareable()
    assert from_shareable(outgoing.process(metrics, fl_ctx)).data == {}
    assert site_ledger(fl_ctx, "run").events() == []
    with pytest.raises(PrivacyRefusalError, match="has no round"):
        outgoing.process(_answer(), fl_ctx)


def test_a_task_that_sends_models_to_other_sites_is_refused(fl_ctx: FLContext) -> None:
    _task(fl_ctx, "task-1", "swarm_learn")
    with pytest.raises(PrivacyRefusalError, match="task 'swarm_learn'"):
        _pair()[0].process(_received(), fl_ctx)


def test_arrays_of_a_strategy_that_no_noise_covers_do_not_leave(fl_ctx: FLContext) -> None:
    incoming, outgoing = _pair()
    _task(fl_ctx, "task-1")
    incoming.process(_received(), fl_ctx)
    with pytest.raises(PrivacyRefusalError, match="also sends control"):
        outgoing.process(_answer(extras={"control/generator.w": np.zeros((3, 4))}), fl_ctx)


@pytest.mark.parametrize(
    ("received", "words"),
    [
        (DXO(DataKind.WEIGHT_DIFF, data=_model(0.0)), "holds no model's weights"),
        (
            DXO(DataKind.WEIGHTS, data=_model(0.0), meta={MetaKey.PROCESSED_ALGORITHM: "_HE_"}),
            "arrived as '_HE_'",
        ),
    ],
)
def test_a_model_that_no_update_can_be_measured_from_is_refused(
    fl_ctx: FLContext, received: DXO, words: str
) -> None:
    _task(fl_ctx, "task-1")
    with pytest.raises(PrivacyRefusalError, match=words):
        _pair()[0].process(received.to_shareable(), fl_ctx)
    assert site_ledger(fl_ctx, "run").events() == []


def test_an_update_that_is_not_finite_does_not_leave(fl_ctx: FLContext) -> None:
    incoming, outgoing = _pair()
    _task(fl_ctx, "task-1")
    incoming.process(_received(), fl_ctx)
    with pytest.raises(DataError, match="not finite"):
        outgoing.process(_answer(float("nan")), fl_ctx)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"noise_multiplier": 0.0}, "noise_multiplier is 0.0"),
        ({"epsilon": 0.0}, "epsilon is 0.0"),
        ({"delta": 0.0}, "delta is 0.0"),
        ({"clipping": {"generator": 0.0}}, "clipping of 'generator' is 0.0"),
        ({"clipping": {}}, "clipping is empty"),
        ({"samples": 0}, "samples is 0"),
    ],
)
def test_a_policy_that_promises_nothing_is_refused(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        SpendBudget(**{**POLICY, **changed})
