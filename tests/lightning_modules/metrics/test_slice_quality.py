"""Metrics that are measured slice by slice: recorded values, torchmetrics, and what they ignore."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure,
    visual_information_fidelity,
)

from lightning_modules.metrics import gmsd, haarpsi, ms_ssim_3_scales, ssim, ssim_inner, vif
from lightning_modules.metrics.interface import ImagePair, Metric, image_pair

Image = NDArray[np.float64]
SLICE_WISE = (gmsd.METRIC, haarpsi.METRIC, ms_ssim_3_scales.METRIC, vif.METRIC)


def _pattern(rows: int, columns: int, shift: float = 0.0) -> Image:
    i, j = np.ogrid[:rows, :columns]
    pattern: Image = 0.5 + 0.5 * np.sin(i / 3 + shift) * np.cos(j / 5)
    return pattern


def _pair(prediction: Image, target: Image, mask: NDArray[np.bool_] | None = None) -> ImagePair:
    """One slice each, or volumes; the whole of them is the mask unless one is given."""
    images = [torch.from_numpy(np.atleast_3d(image.T).T) for image in (prediction, target)]
    inside = torch.ones_like(images[0]) if mask is None else torch.from_numpy(mask)
    return image_pair(images[0], images[1], inside.reshape(images[0].shape))


def _small_pairs() -> dict[str, ImagePair]:
    i, j = np.ogrid[:32, :32]
    a = ((3 * i + 5 * j) % 11) / 10
    c = np.clip(a + 0.2 * np.sin(i * j / 7), 0, 1)
    return {
        "A, A": _pair(a, a),
        "A, B": _pair(0.8 * a + 0.1, a),
        "A, C": _pair(c, a),
        "E, F": _pair(_pattern(32, 32, 0.3), _pattern(32, 32)),
    }


def _large_pair() -> ImagePair:
    i, j = np.ogrid[:96, :80]
    target = _pattern(96, 80)
    return _pair(0.9 * target + 0.05 + 0.02 * np.sin(i * j / 3), target)


# Computed with piq 0.8.0, which is not installed here.
@pytest.mark.parametrize(
    ("pair", "deviation", "similarity"),
    [
        ("A, A", 0.0, 1.0),
        ("A, B", 0.0089039893, 0.9766497898),
        ("A, C", 0.1272233583, 0.7176627634),
        ("E, F", 0.0519332933, 0.6779085306),
    ],
)
def test_gmsd_and_haarpsi_have_the_values_of_piq(
    pair: str, deviation: float, similarity: float
) -> None:
    images = _small_pairs()[pair]
    assert gmsd.METRIC.measure(images) == pytest.approx(deviation, abs=1e-10)
    assert haarpsi.METRIC.measure(images) == pytest.approx(similarity, abs=1e-10)


def test_ms_ssim_and_vif_have_the_recorded_values() -> None:
    images = _large_pair()
    assert ms_ssim_3_scales.METRIC.measure(images) == pytest.approx(0.993696, abs=1e-6)
    assert vif.METRIC.measure(images) == pytest.approx(0.747088, abs=1e-6)


@pytest.mark.parametrize("shape", [(44, 47), (97, 80)])
def test_without_a_mask_ms_ssim_and_vif_are_those_of_torchmetrics(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(8)
    target = rng.random(shape)
    target[5:30, 5:30] = 0.4  # flat, so that there is nothing to be seen
    prediction = np.clip(target + rng.normal(0, 0.2, shape), 0, 1)
    prediction[20:40, 20:40] = 0.7
    images = _pair(prediction, target)
    ours, truth = (torch.from_numpy(image)[None, None] for image in (prediction, target))
    theirs = multiscale_structural_similarity_index_measure(
        ours, truth, data_range=1.0, betas=ms_ssim_3_scales.WEIGHTS
    )
    assert ms_ssim_3_scales.METRIC.measure(images) == pytest.approx(float(theirs), abs=1e-8)
    fidelity = visual_information_fidelity(ours, truth, sigma_n_sq=2 / 255**2)
    assert vif.METRIC.measure(images) == pytest.approx(float(fidelity), rel=1e-9)


def test_a_reversed_contrast_has_no_multi_scale_similarity_and_no_fidelity() -> None:
    target = _pattern(96, 80)
    images = _pair(1 - target, target)
    assert ms_ssim_3_scales.METRIC.measure(images) == 0.0
    assert vif.METRIC.measure(images) == 0.0


def test_a_prediction_with_more_contrast_than_the_target_may_have_more_than_all_information() -> (
    None
):
    target = 0.25 + 0.5 * _pattern(96, 80)
    assert vif.METRIC.measure(_pair(2 * target - 0.5, target)) > 1.0


def test_a_constant_target_has_no_fidelity_and_its_slice_is_left_out() -> None:
    images, flat = _large_pair(), torch.full((1, 96, 80), 0.5)
    assert math.isnan(vif.METRIC.measure(image_pair(images.prediction, flat, images.mask)))
    predictions = torch.cat([images.prediction, images.prediction])
    both = image_pair(predictions, torch.cat([images.target, flat]), torch.ones(2, 96, 80))
    assert vif.METRIC.measure(both) == vif.METRIC.measure(images)


@pytest.mark.parametrize("metric", SLICE_WISE, ids=lambda metric: metric.name)
def test_the_value_of_a_patient_is_the_mean_over_the_slices_that_the_mask_touches(
    metric: Metric,
) -> None:
    rng = np.random.default_rng(2)
    target, mask = rng.random((3, 48, 50)), np.zeros((3, 48, 50), dtype=bool)
    prediction = np.clip(target + rng.normal(0, 0.1, target.shape), 0, 1)
    mask[0, :, :] = mask[2, 10:40, 5:45] = True
    slices = [metric.measure(_pair(prediction[k], target[k], mask[k])) for k in (0, 2)]
    found = metric.measure(_pair(prediction, target, mask))
    assert found == pytest.approx(sum(slices) / 2, rel=1e-12)


def test_an_empty_background_does_not_count_as_well_predicted() -> None:
    rng = np.random.default_rng(4)
    target, inside = rng.random((48, 48)), np.zeros((96, 96), dtype=bool)
    prediction = np.clip(target + rng.normal(0, 0.3, (48, 48)), 0, 1)
    inside[24:72, 24:72] = True
    wide, truth = (np.pad(image, 24) for image in (prediction, target))
    for metric in (gmsd.METRIC, ms_ssim_3_scales.METRIC):
        masked, whole = (
            metric.measure(_pair(wide, truth, inside)),
            metric.measure(_pair(wide, truth)),
        )
        alone = metric.measure(_pair(prediction, target))
        assert (masked < whole - 0.003) == (metric.better == "higher"), metric.name
        assert abs(masked - alone) < 0.8 * abs(whole - alone), metric.name


@pytest.mark.parametrize(
    ("metric", "least"),
    [(vif.METRIC, 41), (ms_ssim_3_scales.METRIC, 44), (ssim.METRIC, 11)],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_slice_that_is_too_small_for_the_windows_has_no_value(metric: Metric, least: int) -> None:
    random = np.random.default_rng(3).random
    for side, defined in ((least, True), (least - 1, False)):
        for shape in ((side, 60), (60, side)):
            value = metric.measure(_pair(random(shape), random(shape)))
            assert math.isfinite(value) == defined, shape


@pytest.mark.parametrize("metric", [*SLICE_WISE, ssim_inner.METRIC], ids=lambda metric: metric.name)
def test_a_prediction_that_holds_no_numbers_has_no_value(metric: Metric) -> None:
    images = _large_pair()
    nothing = image_pair(images.target * math.nan, images.target, images.mask)
    assert math.isnan(metric.measure(nothing))


def test_without_the_rim_of_the_mask_ssim_sees_no_window_that_reaches_over_it() -> None:
    rng = np.random.default_rng(6)
    target, mask = rng.random((60, 50)), np.zeros((60, 50), dtype=bool)
    prediction = rng.random((60, 50))
    mask[10:45, :30] = True
    # At the left the slice ends, and windows see it mirrored.
    inner = ssim.ssim_map(*(torch.from_numpy(image)[None] for image in (prediction, target)))
    expected = float(inner[0, 15:40, :25].mean())
    images = _pair(prediction, target, mask)
    assert ssim_inner.METRIC.measure(images) == pytest.approx(expected, abs=1e-12)
    assert ssim.METRIC.measure(images) > expected + 0.02  # the rim flatters


def test_a_mask_without_room_for_a_window_has_no_ssim_without_its_rim() -> None:
    mask = np.zeros((60, 50), dtype=bool)
    mask[10:20, 10:40] = True
    images = _pair(_pattern(60, 50), _pattern(60, 50, 0.3), mask)
    assert math.isnan(ssim_inner.METRIC.measure(images))
    assert math.isfinite(ssim.METRIC.measure(images))
