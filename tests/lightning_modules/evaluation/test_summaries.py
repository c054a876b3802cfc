"""Number, mean and spread over the test patients of one arm."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lightning_modules.evaluation.summaries import Summary, summaries

Row = tuple[str, str, str, str, str, str, float]


def rows(metric: str, *values: float, arm: str = "fedavg", split: str = "test") -> list[Row]:
    return [
        (arm, "north", split, f"patient-{n}", "mr", metric, value) for n, value in enumerate(values)
    ]


def test_a_metric_is_told_by_number_mean_and_standard_deviation() -> None:
    values = (20.0, 23.5, 21.0, 26.25)
    found = summaries(rows("psnr", *values), "fedavg", 3)
    told = found["psnr"]
    assert told.patients == 4
    assert told.mean == pytest.approx(np.mean(values))
    assert told.sd == pytest.approx(np.std(values, ddof=1))


def test_other_arms_and_other_splits_do_not_count() -> None:
    others = [*rows("psnr", 1, 1, 1, arm="source"), *rows("psnr", 2, 2, 2, split="val")]
    assert summaries([*others, *rows("psnr", 4, 4, 7)], "fedavg", 3)["psnr"].mean == 5
    assert summaries(others, "fedavg", 2) == {}


def test_below_the_least_number_of_patients_a_metric_is_not_told() -> None:
    measured = [*rows("psnr", 20, 21, 22, 23), *rows("lesion_mae", 0.1, 0.2, 0.3)]
    assert summaries(measured, "fedavg", 4).keys() == {"psnr"}
    assert summaries(measured, "fedavg", 5) == {}


def test_of_fewer_than_two_patients_there_is_no_spread() -> None:
    with pytest.raises(ValueError, match="at least 2 patients"):
        summaries(rows("psnr", 20), "fedavg", 1)


def test_a_patient_without_a_value_is_not_counted_and_a_model_without_numbers_is_not_told() -> None:
    undefined = [*rows("psnr", 20, 21, 22), *rows("ms_ssim", 0.5, math.nan, 0.75)]
    assert summaries(undefined, "fedavg", 2)["ms_ssim"] == Summary(2, 0.625, math.sqrt(1 / 32))
    diverged = [*rows("psnr", 20, 21, math.nan), *rows("ssim", 0.5, 0.5, math.nan)]
    assert summaries(diverged, "fedavg", 2) == {}
    assert summaries(rows("psnr", 20, 21, math.inf), "fedavg", 2) == {}
