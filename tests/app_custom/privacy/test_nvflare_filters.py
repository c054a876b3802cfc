"""NVFlare's PercentilePrivacy and SVTPrivacy on updates: they act, and fail closed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from nvflare.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from nvflare.apis.dxo_filter import DXOFilter
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.filters.exclude_vars import ExcludeVars
from nvflare.app_common.filters.percentile_privacy import PercentilePrivacy
from nvflare.app_common.filters.svt_privacy import SVTPrivacy
from privacy_messages import answer, received, set_task

from app_custom.aggregation.compression_filters import Compress
from app_custom.aggregation.model_message import pack
from app_custom.gates.allowed_update import AllowedUpdate, UpdateNotAllowedError
from app_custom.privacy.nvflare_filters import (
    FilteredUpdate,
    PercentileOnUpdates,
    RememberReceived,
    SVTOnUpdates,
    resemblance,
)
from app_custom.privacy.received_model import PrivacyRefusalError
from app_custom.privacy.update_filters import AddNoise, SpendBudget
from fedi2i.errors import ConfigError

START = np.linspace(-3.0, 3.0, 100, dtype=np.float32).reshape(10, 10)
CHANGE = np.random.default_rng(5).permutation(np.linspace(-0.02, 0.02, 100)).reshape(10, 10)


def weights(change: np.ndarray | float = 0.0) -> dict[str, np.ndarray]:
    return {
        "generator.w": (START + change).astype(np.float32),
        "generator.count": np.asarray(7, np.int64),
    }


def sent(
    fl_ctx: FLContext, which: FilteredUpdate, trained: dict[str, np.ndarray], task: str = "t"
) -> DXO:
    """One training task through the pair of filters."""
    set_task(fl_ctx, task)
    RememberReceived().process(DXO(DataKind.WEIGHTS, data=weights()).to_shareable(), fl_ctx)
    meta = {MetaKey.NUM_STEPS_CURRENT_ROUND: 565, MetaKey.INITIAL_METRICS: {"val/psnr": 20.0}}
    reply = DXO(DataKind.WEIGHTS, data=trained, meta=meta).to_shareable()
    return from_shareable(which.process(reply, fl_ctx))


def test_percentile_zeroes_the_smallest_changes_and_cuts_the_largest(fl_ctx: FLContext) -> None:
    """Worked out from the definition: half of the changes are below 0.0101 in size."""
    found = sent(fl_ctx, PercentileOnUpdates(50.0, 0.015), weights(CHANGE))
    small = np.abs(CHANGE) < np.percentile(np.abs(CHANGE), 50)
    expected = START + np.where(small, 0.0, np.clip(CHANGE, -0.015, 0.015))
    np.testing.assert_allclose(found.data["generator.w"], expected, atol=1e-6)
    assert found.data["generator.w"].dtype == np.float32
    assert found.data["generator.count"] == 7
    assert small.sum() == 50


def test_the_number_of_steps_scales_the_bound_and_is_not_the_number_of_samples(
    fl_ctx: FLContext,
) -> None:
    found = sent(fl_ctx, PercentileOnUpdates(0.0, 0.001, steps=10), weights(CHANGE))
    np.testing.assert_allclose(
        found.data["generator.w"], START + np.clip(CHANGE, -0.01, 0.01), atol=1e-6
    )
    assert found.meta[MetaKey.NUM_STEPS_CURRENT_ROUND] == 565


def test_svt_sends_its_part_of_the_values_cut_and_with_noise(fl_ctx: FLContext) -> None:
    which = SVTOnUpdates(fraction=0.3, noise_var=1e6, gamma=0.005)
    change = sent(fl_ctx, which, weights(CHANGE)).data["generator.w"] - START
    moved = np.abs(change) > 1e-6
    assert moved.sum() == 30
    expected = np.clip(CHANGE, -0.005, 0.005)[moved]
    np.testing.assert_allclose(change[moved], expected, atol=1e-6)


def test_svt_s_noise_does_not_follow_from_the_experiment_s_seed(fl_ctx: FLContext) -> None:
    found = []
    for _ in range(2):
        np.random.seed(1)
        found.append(sent(fl_ctx, SVTOnUpdates(), weights(CHANGE)).data["generator.w"])
        assert np.random.randint(2**31) == np.random.RandomState(1).randint(2**31)
    assert not np.array_equal(found[0], found[1])


def test_an_audit_sees_what_would_leave_and_can_repeat_it(fl_ctx: FLContext) -> None:
    def noise(count: int) -> np.ndarray:
        return np.random.default_rng(3).normal(size=count)

    which = PercentileOnUpdates(50.0, 0.015)
    seen = which.released(weights(), weights(CHANGE), noise)
    np.testing.assert_array_equal(
        seen["generator.w"], sent(fl_ctx, which, weights(CHANGE)).data["generator.w"]
    )
    drawn = [SVTOnUpdates().released(weights(), weights(CHANGE), noise) for _ in range(2)]
    np.testing.assert_array_equal(drawn[0]["generator.w"], drawn[1]["generator.w"])


def test_nothing_that_nvflare_s_filters_add_leaves_and_the_gate_lets_the_answer_pass(
    fl_ctx: FLContext,
) -> None:
    for which in (PercentileOnUpdates(), SVTOnUpdates()):
        found = sent(fl_ctx, which, weights(CHANGE))
        assert set(found.meta) == {MetaKey.NUM_STEPS_CURRENT_ROUND, MetaKey.INITIAL_METRICS}
        AllowedUpdate(["generator"]).process(found.to_shareable(), fl_ctx)


def test_the_site_s_log_says_how_much_of_the_update_is_left(
    fl_ctx: FLContext, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        sent(fl_ctx, PercentileOnUpdates(0.0, 1.0), weights(CHANGE))
    assert "not differential privacy: what leaves has cosine 1.000 to the update and 1.000" in (
        caplog.text
    )


def test_resemblance_is_cosine_and_ratio_of_lengths() -> None:
    one = {"a": np.array([3.0]), "b": np.array([4.0])}
    assert resemblance(one, {"a": np.array([0.0]), "b": np.array([10.0])}) == (0.8, 2.0)
    assert resemblance({"a": np.zeros(2)}, {"a": np.ones(2)}) == (0.0, 0.0)


def test_an_update_that_is_nan_does_not_leave_and_does_not_keep_svt_busy_for_ever(
    fl_ctx: FLContext,
) -> None:
    for which in (PercentileOnUpdates(), SVTOnUpdates()):
        with pytest.raises(PrivacyRefusalError, match="is not finite"):
            sent(fl_ctx, which, weights(np.nan))


def test_svt_ends_on_an_update_that_is_zero(fl_ctx: FLContext) -> None:
    """The largest threshold that is allowed, which no value of the update reaches by itself."""
    which = SVTOnUpdates(fraction=1.0, epsilon=2.0, gamma=0.01, tau=0.01)
    assert np.isfinite(sent(fl_ctx, which, weights()).data["generator.w"]).all()


def test_an_answer_whose_received_model_is_not_remembered_does_not_leave(
    fl_ctx: FLContext,
) -> None:
    set_task(fl_ctx, "one")
    with pytest.raises(PrivacyRefusalError, match="put RememberReceived into the way"):
        PercentileOnUpdates().process(answer(), fl_ctx)
    RememberReceived().process(received(), fl_ctx)
    set_task(fl_ctx, "two")
    with pytest.raises(PrivacyRefusalError, match="put RememberReceived into the way"):
        PercentileOnUpdates().process(answer(), fl_ctx)


def test_a_task_that_is_given_out_again_is_measured_from_its_own_model(fl_ctx: FLContext) -> None:
    for start in (1.0, 5.0):
        set_task(fl_ctx, "one")
        RememberReceived().process(received(start), fl_ctx)
        reply = PercentileOnUpdates(0.0, 1.0).process(answer(start + 0.5), fl_ctx)
        np.testing.assert_allclose(from_shareable(reply).data["generator.w"], start + 0.5)


def test_the_update_is_measured_from_a_compressed_model_too(fl_ctx: FLContext) -> None:
    set_task(fl_ctx, "one")
    RememberReceived().process(Compress("fp16").process(received(), fl_ctx), fl_ctx)
    reply = PercentileOnUpdates(0.0, 1.0).process(answer(1.05), fl_ctx)
    np.testing.assert_allclose(from_shareable(reply).data["generator.w"], 1.05, atol=1e-3)


def test_errors_and_metrics_pass_and_other_answers_do_not(fl_ctx: FLContext) -> None:
    set_task(fl_ctx, "one", AppConstants.TASK_VALIDATION)
    RememberReceived().process(received(), fl_ctx)
    which = PercentileOnUpdates()
    metrics = DXO(DataKind.METRICS, data={"val/psnr": 20.0}).to_shareable()
    assert from_shareable(which.process(metrics, fl_ctx)).data == {"val/psnr": 20.0}
    error = make_reply(ReturnCode.EXECUTION_EXCEPTION)
    assert which.process(error, fl_ctx) is error
    with pytest.raises(PrivacyRefusalError):
        which.process(answer(), fl_ctx)
    set_task(fl_ctx, "two")
    RememberReceived().process(received(), fl_ctx)
    difference = DXO(DataKind.WEIGHT_DIFF, data=weights()).to_shareable()
    with pytest.raises(PrivacyRefusalError, match="WEIGHT_DIFF"):
        which.process(difference, fl_ctx)


@pytest.mark.parametrize(
    ("trained", "words"),
    [
        (pack(weights(), {"control/generator.w": START}), "also sends control"),
        ({"generator.other": START}, "'generator.other' was trained but not received"),
        ({"generator.w": START[:3]}, r"was received as \(10, 10\), not \(3, 10\)"),
    ],
)
def test_arrays_that_are_no_update_do_not_leave(
    fl_ctx: FLContext, trained: dict[str, np.ndarray], words: str
) -> None:
    with pytest.raises(PrivacyRefusalError, match=words):
        sent(fl_ctx, PercentileOnUpdates(), trained)


class Broken(FilteredUpdate):
    """A filter of NVFlare's making that does not do its work."""

    def __init__(self, makes: dict[str, np.ndarray] | None) -> None:
        super().__init__(1)
        self._makes = makes

    def _filter(self) -> DXOFilter:
        return _Breaks(self._makes)


class _Breaks(DXOFilter):
    def __init__(self, makes: dict[str, np.ndarray] | None) -> None:
        super().__init__([DataKind.WEIGHT_DIFF], [DataKind.WEIGHT_DIFF])
        self._makes = makes

    def process_dxo(self, dxo: DXO, shareable: Shareable, fl_ctx: FLContext) -> DXO | None:
        if self._makes is None:
            return None
        dxo.data = self._makes
        return dxo


@pytest.mark.parametrize(
    ("makes", "words"),
    [
        (None, "did nothing"),
        ({}, "changed the names"),
        ({"generator.w": np.zeros(4)}, "made something else of 'generator.w'"),
        ({"generator.w": np.full((10, 10), np.inf)}, "made something else of 'generator.w'"),
    ],
)
def test_what_nvflare_s_filter_did_is_checked(
    fl_ctx: FLContext, makes: dict[str, np.ndarray] | None, words: str
) -> None:
    with pytest.raises(PrivacyRefusalError, match=words):
        sent(fl_ctx, Broken(makes), weights(CHANGE))


def test_a_job_s_filter_acts_on_what_the_site_s_own_noise_has_left(fl_ctx: FLContext) -> None:
    """It is no weakening: it sees the noised update and what was received, and nothing else."""
    spend = SpendBudget({"generator": 1.0, "discriminator": 1.0}, 5.0, 60.0, 1e-5)
    set_task(fl_ctx, "one")
    for arriving in (spend, RememberReceived()):
        arriving.process(received(), fl_ctx)
    noised = AddNoise().process(answer(), fl_ctx)
    before = from_shareable(noised).data["generator.w"] - 1.0
    after = from_shareable(PercentileOnUpdates(0.0, 2.0).process(noised, fl_ctx)).data
    np.testing.assert_allclose(after["generator.w"] - 1.0, np.clip(before, -2, 2), atol=1e-6)


@pytest.mark.parametrize(
    ("which", "arguments", "words"),
    [
        (PercentileOnUpdates, {"percentile": 100.0}, "percentile is 100.0"),
        (PercentileOnUpdates, {"percentile": -1.0}, "percentile is -1.0"),
        (PercentileOnUpdates, {"gamma": 0.0}, "gamma is 0.0"),
        (PercentileOnUpdates, {"steps": 0}, "steps is 0"),
        (PercentileOnUpdates, {"steps": True}, "steps is True"),
        (SVTOnUpdates, {"fraction": 0.0}, "fraction is 0.0"),
        (SVTOnUpdates, {"fraction": 1.5}, "fraction is 1.5"),
        (SVTOnUpdates, {"epsilon": 0.0}, "epsilon is 0.0"),
        (SVTOnUpdates, {"noise_var": float("nan")}, "noise_var is nan"),
        (SVTOnUpdates, {"tau": 1.0}, "the choice might never end"),
    ],
)
def test_arguments_that_nvflare_takes_in_silence_are_refused(
    which: type[FilteredUpdate], arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        which(**arguments)


@pytest.mark.parametrize(
    ("theirs", "words"),
    [
        (ExcludeVars(["generator.w"]), "take 'sharing: generator'"),
        (PercentilePrivacy(), "take privacy.mechanism 'percentile'"),
        (SVTPrivacy(), "take privacy.mechanism 'svt'"),
    ],
)
def test_nvflare_s_filters_in_the_chain_itself_are_refused_with_what_to_take(
    fl_ctx: FLContext, theirs: DXOFilter, words: str
) -> None:
    filtered = theirs.process(answer(), fl_ctx)
    with pytest.raises(UpdateNotAllowedError, match="does not do here what it is for") as refused:
        AllowedUpdate(["generator", "discriminator"]).process(filtered, fl_ctx)
    assert words in str(refused.value)
