from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from app_custom.gates.shared_metrics import (
    SHARED_METRICS,
    names_that_may_leave,
    shared_metrics,
)
from lightning_modules.metrics.catalogue import METRICS
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
    for name, metric in METRICS.items():
        for prefix in ("val", "personal"):
            assert (f"{prefix}/{name}" in SHARED_METRICS) == metric.shared
    assert {"val/psnr", "val/ssim", "personal/lesion_mae"} <= SHARED_METRICS


def test_the_losses_of_every_model_may_leave() -> None:
    for model in MODELS.values():
        assert set(model.losses) <= SHARED_METRICS


@pytest.mark.parametrize("shared", [True, False])
def test_a_new_metric_leaves_if_it_is_shared_and_nothing_else_changes(shared: bool) -> None:
    new = dataclasses.replace(METRICS["ssim"], name="ms_ssim", shared=shared)
    names = names_that_may_leave({**METRICS, "ms_ssim": new})
    added = {"val/ms_ssim", "personal/ms_ssim"} if shared else set()
    assert names == SHARED_METRICS | added
