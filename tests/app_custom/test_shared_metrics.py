from __future__ import annotations

import dataclasses
import importlib

import numpy as np
import pytest

import app_custom.gates.shared_metrics as shared_metrics_module
from app_custom.gates.shared_metrics import SHARED_METRICS, shared_metrics
from lightning_modules.metrics import metrics
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
        "time",
    }


def test_a_metric_of_images_may_leave_where_its_own_file_says_so() -> None:
    for name, metric in metrics().items():
        for prefix in ("val", "personal"):
            assert (f"{prefix}/{name}" in SHARED_METRICS) == metric.shared
    assert {"val/psnr", "val/ssim", "personal/lesion_mae"} <= SHARED_METRICS


def test_the_losses_of_every_model_may_leave() -> None:
    for model in MODELS.values():
        assert set(model.losses) <= SHARED_METRICS


@pytest.mark.parametrize("shared", [True, False])
def test_a_metric_that_is_kept_stays_at_the_site_at_both_gates(
    shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    decided = dataclasses.replace(metrics()["ssim"], name="ms_ssim", shared=shared)
    monkeypatch.setattr("lightning_modules.metrics.metrics", lambda: {"ms_ssim": decided})
    try:
        gate = importlib.reload(shared_metrics_module)
        assert gate.shared_metrics({"val/ms_ssim": 0.5}) == ({"val/ms_ssim": 0.5} if shared else {})
        assert gate.shared_metrics({"val/ssim": 0.5}) == {}
    finally:
        monkeypatch.undo()
        importlib.reload(shared_metrics_module)
