"""Image quality against scikit-image, and SSIM against torchmetrics."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from skimage.metrics import (
    mean_squared_error,
    normalized_root_mse,
    peak_signal_noise_ratio,
)
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from lightning_modules.metrics import lesion_mae
from lightning_modules.metrics.interface import image_pair
from lightning_modules.metrics.presets.catalogue import PRESETS
from lightning_modules.metrics.ssim import ssim_map

measure = PRESETS["mr"].measure
SHAPE = (3, 48, 44)
BORDER = 5  # pixels the 11 x 11 window reaches over the edge


def _pair(noise: float = 0.1) -> tuple[Tensor, Tensor, Tensor]:
    """Prediction and target in [0, 1] and a mask that leaves a corner out."""
    rng = np.random.default_rng(5)
    target = rng.random(SHAPE)
    prediction = np.clip(target + rng.normal(0, noise, SHAPE), 0, 1)
    mask = np.ones(SHAPE, dtype=bool)
    mask[:, :12, :9] = False
    mask[0] = False
    return torch.from_numpy(prediction), torch.from_numpy(target), torch.from_numpy(mask)


def _measure(prediction: Tensor, target: Tensor, mask: Tensor) -> dict[str, float]:
    return measure(image_pair(prediction, target, mask))


def _reference_ssim(prediction: np.ndarray, target: np.ndarray) -> np.ndarray:
    """torchmetrics' map; it is exact away from the border, where it mirrors in another way."""
    _, full = structural_similarity_index_measure(
        torch.from_numpy(prediction)[None, None],
        torch.from_numpy(target)[None, None],
        gaussian_kernel=True,
        sigma=1.5,
        data_range=1.0,
        return_full_image=True,
    )
    return np.asarray(full[0, 0])


def _reference_ssim_to_the_border(prediction: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The map of slices that were mirrored beforehand, each edge pixel repeated, cut back."""
    wide = _reference_ssim(
        *(np.pad(image, 2 * BORDER, mode="symmetric") for image in (prediction, target))
    )
    return wide[2 * BORDER : -2 * BORDER, 2 * BORDER : -2 * BORDER]


def test_errors_over_masked_voxels_equal_scikit_image() -> None:
    prediction, target, mask = _pair()
    metrics = _measure(prediction, target, mask)
    predicted, acquired = prediction[mask].numpy(), target[mask].numpy()
    expected = {
        "psnr": peak_signal_noise_ratio(acquired, predicted, data_range=1.0),
        "mse": mean_squared_error(acquired, predicted),
        "nrmse": normalized_root_mse(acquired, predicted, normalization="euclidean"),
        "mae": np.abs(acquired - predicted).mean(),
    }
    for name, value in expected.items():
        assert metrics[name] == pytest.approx(value, rel=1e-9), name


def test_a_constant_error_of_a_tenth_is_twenty_decibel() -> None:
    target = torch.full(SHAPE, 0.5)
    metrics = _measure(target + 0.1, target, torch.ones(SHAPE))
    assert metrics["psnr"] == pytest.approx(20.0, abs=1e-5)
    assert metrics["mae"] == pytest.approx(0.1, abs=1e-6)
    assert metrics["nrmse"] == pytest.approx(0.2, abs=1e-6)


def test_the_ssim_map_away_from_the_border_equals_torchmetrics() -> None:
    prediction, target, _ = _pair()
    ours = ssim_map(prediction, target).numpy()
    inner = (slice(BORDER, -BORDER), slice(BORDER, -BORDER))
    for mine, predicted, acquired in zip(ours, prediction.numpy(), target.numpy(), strict=True):
        np.testing.assert_allclose(
            mine[inner], _reference_ssim(predicted, acquired)[inner], atol=1e-9
        )


def test_the_ssim_map_at_the_border_mirrors_the_slice_and_repeats_its_edge() -> None:
    prediction, target, _ = _pair()
    ours = ssim_map(prediction, target).numpy()
    for mine, predicted, acquired in zip(ours, prediction.numpy(), target.numpy(), strict=True):
        np.testing.assert_allclose(
            mine, _reference_ssim_to_the_border(predicted, acquired), atol=1e-9
        )


def test_ssim_is_the_mean_of_the_map_of_masked_images_inside_the_mask() -> None:
    prediction, target, mask = _pair()
    maps = [
        _reference_ssim_to_the_border(predicted, acquired)
        for predicted, acquired in zip(
            (prediction * mask).numpy(), (target * mask).numpy(), strict=True
        )
    ]
    expected = np.stack(maps)[mask.numpy()].mean()
    assert _measure(prediction, target, mask)["ssim"] == pytest.approx(expected, abs=1e-9)


def test_a_perfect_prediction_gives_infinite_psnr_ssim_one_and_no_error() -> None:
    _, target, mask = _pair()
    metrics = _measure(target, target, mask)
    assert metrics["psnr"] == math.inf
    assert metrics["ssim"] == pytest.approx(1.0, abs=1e-12)
    assert metrics["mae"] == metrics["mse"] == metrics["nrmse"] == 0.0


def test_more_noise_lowers_psnr_and_ssim_and_raises_errors() -> None:
    rows = [_measure(*_pair(noise)) for noise in (0.02, 0.05, 0.1, 0.2, 0.4)]
    for name, falls in {"psnr": True, "ssim": True, "mae": False, "nrmse": False}.items():
        values = [row[name] for row in rows]
        assert values == sorted(values, reverse=falls), name
        assert len(set(values)) == len(values), name


def test_what_lies_outside_the_mask_does_not_count() -> None:
    prediction, target, mask = _pair()
    altered = torch.where(mask, prediction, 1.0 - prediction)
    assert _measure(altered, target, mask) == _measure(prediction, target, mask)


def test_a_prediction_with_wrong_brightness_is_not_rescaled_to_look_right() -> None:
    _, target, mask = _pair()
    metrics = _measure(0.5 * target, target, mask)
    # The error is target / 2, so the normalised error is exactly one half.
    assert metrics["nrmse"] == pytest.approx(0.5, abs=1e-12)
    assert metrics["ssim"] < 0.9


def test_a_prediction_outside_the_range_is_clipped_to_it() -> None:
    _, target, mask = _pair()
    wild = torch.where(target > 0.5, 7.0, -3.0)
    clipped = (target > 0.5).double()
    assert _measure(wild, target, mask) == _measure(clipped, target, mask)


def test_float32_and_float64_predictions_are_measured_alike() -> None:
    prediction, target, mask = _pair()
    single = _measure(prediction.float(), target.float(), mask)
    for name, value in _measure(prediction, target, mask).items():
        assert single[name] == pytest.approx(value, rel=1e-5), name


def test_an_empty_mask_is_refused() -> None:
    prediction, target, mask = _pair()
    with pytest.raises(ValueError, match="mask is empty"):
        _measure(prediction, target, torch.zeros_like(mask))


@pytest.mark.parametrize("changed", [0, 1, 2])
def test_images_of_different_shapes_are_refused(changed: int) -> None:
    images = list(_pair())
    images[changed] = images[changed][:, 1:]
    with pytest.raises(ValueError, match="one shape"):
        _measure(*images)


def test_the_lesion_error_is_the_mean_over_lesion_voxels_only() -> None:
    target = torch.zeros(1, 4, 4)
    prediction = torch.full((1, 4, 4), 0.9)
    lesion = torch.zeros(1, 4, 4)
    lesion[0, 1, 1] = lesion[0, 2, 2] = 1
    prediction[0, 1, 1], prediction[0, 2, 2] = 0.25, 3.0  # the second is clipped to 1
    images = image_pair(prediction, target, torch.ones_like(lesion), lesion)
    assert lesion_mae.METRIC.measure(images) == pytest.approx((0.25 + 1.0) / 2)


def test_a_patient_whose_lesion_mask_is_empty_has_no_lesion_error() -> None:
    prediction, target, mask = _pair()
    for lesion in (None, torch.zeros_like(mask)):
        assert "lesion_mae" not in measure(image_pair(prediction, target, mask, lesion))


def test_a_lesion_counts_also_where_it_reaches_over_the_mask() -> None:
    target = torch.zeros(1, 4, 4)
    prediction = torch.full((1, 4, 4), 0.5)
    mask, lesion = torch.zeros(2, 1, 4, 4).unbind()
    mask[0, 0, 0] = lesion[0, 3, 3] = 1
    prediction[0, 3, 3] = 0.25
    assert lesion_mae.METRIC.measure(image_pair(prediction, target, mask, lesion)) == 0.25
