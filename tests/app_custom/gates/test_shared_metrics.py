from __future__ import annotations

import numpy as np

from app_custom.gates.shared_metrics import SHARED_METRICS, shared_metrics
from lightning_modules.metrics.image_quality import image_quality


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


def test_every_image_metric_reaches_the_server() -> None:
    import torch

    picture = torch.rand(2, 32, 32, generator=torch.Generator().manual_seed(1))
    measured = image_quality(picture, 1 - picture, torch.ones_like(picture, dtype=torch.bool))
    assert {f"val/{name}" for name in measured} <= SHARED_METRICS
