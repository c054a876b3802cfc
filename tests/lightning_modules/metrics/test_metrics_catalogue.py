"""Every metric keeps what its own file says of it; no test here knows one by name."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

import lightning_modules.metrics as package
from fedi2i.catalogue import INFRASTRUCTURE
from lightning_modules.metrics.catalogue import METRICS
from lightning_modules.metrics.interface import Metric, image_pair
from lightning_modules.metrics.presets.catalogue import PRESETS

measure = PRESETS["mr"].measure
NAMES = tuple(METRICS)
SHAPE = (2, 48, 44)


def _measured(noise: float, seed: int = 3) -> dict[str, float]:
    random = torch.Generator().manual_seed(seed)

    def draw() -> Tensor:
        return torch.rand(SHAPE, generator=random, dtype=torch.float64)

    target, error, lesion = draw(), draw() - 0.5, draw() > 0.9
    mask = torch.ones(SHAPE, dtype=torch.bool)
    mask[:, :9, :7] = False
    return measure(image_pair(target + noise * error, target, mask, lesion))


def test_every_file_of_the_folder_is_one_metric_that_is_called_like_its_file() -> None:
    (folder,) = package.__path__
    files = {path.stem for path in Path(folder).glob("*.py")} - {"__init__", *INFRASTRUCTURE}
    assert {metric.name for metric in METRICS.values()} == set(NAMES) == files
    assert {"psnr", "ssim", "mae", "nrmse", "mse", "lesion_mae"} <= files


def test_in_rounds_nothing_is_measured_that_says_it_is_for_finished_models() -> None:
    followed = PRESETS["mr"].in_rounds.metrics
    assert set(followed) == {name for name, metric in METRICS.items() if metric.in_rounds}
    assert {"gmsd", "haarpsi", "vif"}.isdisjoint(followed) and "psnr" in followed
    assert PRESETS["ldct"].in_rounds.metrics == PRESETS["ldct"].metrics


def test_a_metric_that_does_not_say_whether_it_is_shared_does_not_exist() -> None:
    with pytest.raises(TypeError, match="shared"):
        Metric(  # type: ignore[call-arg]
            name="x",
            label="X",
            unit="",
            better="lower",
            range=(0.0, 1.0),
            decimals=None,
            region="mask",
            in_rounds=True,
            measure=lambda images: 0.0,
        )


@pytest.mark.parametrize("name", NAMES)
def test_values_lie_in_the_range(name: str) -> None:
    low, high = METRICS[name].range
    for noise in (0.0, 0.01, 0.5, 50.0):
        value = _measured(noise)[name]
        assert isinstance(value, float)
        assert low - 1e-12 <= value <= high + 1e-12


@pytest.mark.parametrize("name", NAMES)
def test_less_error_is_better_in_the_direction_that_it_says(name: str) -> None:
    values = [_measured(noise)[name] for noise in (0.02, 0.1, 0.4)]
    assert values == sorted(values, reverse=METRICS[name].better == "higher")
    assert len(set(values)) == len(values)


@pytest.mark.parametrize("name", NAMES)
def test_a_perfect_prediction_gets_the_best_value_of_the_range(name: str) -> None:
    low, high = METRICS[name].range
    best = high if METRICS[name].better == "higher" else low
    value = _measured(0.0)[name]
    if math.isinf(best) and math.isfinite(value):
        # What has more contrast than the target may be above it, and the target itself has 1.
        assert value == pytest.approx(1.0, abs=1e-6)
    else:
        assert value == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_measured_without_a_lesion_unless_it_needs_one(name: str) -> None:
    image = torch.rand(SHAPE)
    measured = measure(image_pair(image, 1 - image, torch.ones(SHAPE)))
    assert (name in measured) == (METRICS[name].region == "mask")


@pytest.mark.parametrize("name", NAMES)
def test_its_description_is_json_without_infinities(name: str) -> None:
    described = json.loads(json.dumps(METRICS[name].description(), allow_nan=False))
    assert described["name"] == name
    assert described["shared"] is METRICS[name].shared
    assert described["in_rounds"] is METRICS[name].in_rounds
    for bound, written in zip(METRICS[name].range, described["range"], strict=True):
        assert written == (bound if math.isfinite(bound) else None)


def test_listing_the_metrics_imports_neither_torch_nor_scikit_image() -> None:
    code = (
        "import sys\n"
        "from lightning_modules.metrics.presets.catalogue import SENDABLE\n"
        "assert SENDABLE\n"
        "print(sorted({'torch', 'skimage', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_shared_metric_without_an_end_says_up_to_where_a_server_believes_it() -> None:
    endless = dataclasses.replace(METRICS["psnr"], shared=False, sent_up_to=math.inf)
    with pytest.raises(ValueError, match="metric 'psnr' is shared, so it needs sent_up_to"):
        dataclasses.replace(endless, shared=True)
    assert dataclasses.replace(endless, shared=True, sent_up_to=99.0).sendable == (0.0, 99.0)
