from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from nvflare.apis.analytix import ANALYTIC_EVENT_TYPE
from nvflare.apis.fl_constant import FLContextKey, ReservedKey
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal
from nvflare_fakes import Engine

from app_custom.gates.shared_metrics import (
    SHARED_METRICS,
    SharedCurves,
    bounds_of_what_may_leave,
    impossible_metrics,
    shared_metrics,
)
from app_custom.gates.study_numbers import MODELS as MODELS_TOLD
from app_custom.gates.study_numbers import NUMBERS
from lightning_modules.metrics.presets.catalogue import PRESETS, SENDABLE
from lightning_modules.model_networks import MODELS


def test_only_listed_metrics_are_shared() -> None:
    assert shared_metrics({"val/psnr": 20.0, "val/psnr ": 1.0, "patient/007": 3.0}) == {
        "val/psnr": 20.0
    }


def test_shared_values_are_plain_floats() -> None:
    shared = shared_metrics({"train/l1": np.float32(0.5), "val/ssim": 1})
    assert [type(value) for value in shared.values()] == [float, float]
    assert shared == {"train/l1": 0.5, "val/ssim": 1.0}


def test_no_listed_name_points_to_single_patients() -> None:
    assert {name.split("/")[0] for name in SHARED_METRICS} == {
        "train",
        "val",
        "personal",
        "strategy",
        "source",
        "time",
        "privacy",
        "test",
        "test_personal",
        "test_local",
    }


def test_a_metric_of_images_may_leave_where_its_own_file_says_so() -> None:
    for name, metric in SENDABLE.items():
        for prefix in ("val", "personal"):
            assert (f"{prefix}/{name}" in SHARED_METRICS) == metric.shared
    assert {"val/psnr", "val/ssim", "personal/lesion_mae"} <= SHARED_METRICS


def test_metrics_of_one_name_have_one_range_in_every_preset_and_those_in_hu_another_name() -> None:
    for preset in PRESETS.values():
        for name, metric in preset.metrics.items():
            assert metric.sendable == SENDABLE[name].sendable, (preset.name, name)
            assert metric.better == SENDABLE[name].better
            assert (metric.unit == "HU") == name.endswith("_hu")
    assert {"val/mae_hu", "val/ms_ssim", "val/rmse_hu", "val/vif"} <= SHARED_METRICS
    assert impossible_metrics({"val/mae": 70.0, "val/mae_hu": 70.0}) == [
        "val/mae = 70 (from 0 to 1)"
    ]
    assert impossible_metrics({"val/mae_hu": 1e5}) == ["val/mae_hu = 100000 (from 0 to 10000)"]


def test_the_losses_of_every_model_may_leave() -> None:
    for model in MODELS.values():
        assert set(model.losses) <= SHARED_METRICS


@pytest.mark.parametrize("shared", [True, False])
def test_a_new_metric_leaves_if_it_is_shared_and_nothing_else_changes(shared: bool) -> None:
    new = dataclasses.replace(SENDABLE["ssim"], name="lpips", shared=shared)
    names = set(bounds_of_what_may_leave({**SENDABLE, "lpips": new}))
    of_studies = {f"{model}/lpips/{number}" for model in MODELS_TOLD for number in NUMBERS}
    added = {"val/lpips", "personal/lpips", *of_studies} if shared else set()
    assert names == SHARED_METRICS | added


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("val/psnr", 9999.0, "val/psnr = 9999 (from 0 to 120)"),
        ("val/psnr", 1.7e308, "val/psnr = 1.7e+308 (from 0 to 120)"),
        ("val/psnr", float("nan"), "val/psnr = nan (from 0 to 120)"),
        ("val/psnr", float("inf"), "val/psnr = inf (from 0 to 120)"),
        ("val/psnr", 10**400, "val/psnr = endless (from 0 to 120)"),
        ("val/psnr", "20", "val/psnr = a str (from 0 to 120)"),
        ("val/psnr", True, "val/psnr = 1 (from 0 to 120)"),
        ("val/ssim", 7.0, "val/ssim = 7 (from -1 to 1)"),
        ("personal/mae", -0.5, "personal/mae = -0.5 (from 0 to 1)"),
        ("train/l1", 1e300, "train/l1 = 1e+300 (from -1e+09 to 1e+09)"),
        ("source/p95", 1.5, "source/p95 = 1.5 (from 0 to 1)"),
        ("time/train_seconds", -1.0, "time/train_seconds = -1 (from 0 to 1e+08)"),
    ],
)
def test_a_value_that_a_metric_cannot_have_is_not_shared_and_is_named(
    name: str, value: object, shown: str
) -> None:
    claimed = {name: value, "val/mse": 0.5}
    assert shared_metrics(claimed) == {"val/mse": 0.5}  # type: ignore[arg-type]
    assert impossible_metrics(claimed) == [shown]


def test_values_at_the_ends_of_a_range_are_shared_in_spite_of_rounding() -> None:
    assert shared_metrics({"val/ssim": 1.0 + 1e-9, "val/mae": -1e-12}).keys() == {
        "val/ssim",
        "val/mae",
    }


def test_no_point_of_a_curve_is_sent_once_the_run_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent: list[str] = []
    monkeypatch.setattr(SharedCurves, "fire_fed_event", lambda _, event, *__: sent.append(event))
    ctx, ended = Engine(name="east").new_context(), Signal()
    ctx.set_prop(ReservedKey.RUN_ABORT_SIGNAL, ended, private=True, sticky=True)
    ctx.set_prop(FLContextKey.EVENT_DATA, Shareable(), private=True, sticky=False)
    curves = SharedCurves()
    curves.handle_event(ANALYTIC_EVENT_TYPE, ctx)
    assert len(sent) == 1
    ended.trigger(True)
    curves.handle_event(ANALYTIC_EVENT_TYPE, ctx)
    assert len(sent) == 1
