"""Presets in HU against hand-made cases and implementations that share no code with them."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.ndimage import convolve, correlate1d

from fedi2i.errors import ConfigError
from lightning_modules.configuration import experiment_from
from lightning_modules.metrics.interface import ImagePair
from lightning_modules.metrics.presets.catalogue import PRESETS, on_prepared_slices
from lightning_modules.metrics.presets.synthrad2025 import WEIGHTS, ms_ssim

Volume = NDArray[np.float64]
SIDE = 16


def _full(value: float) -> Volume:
    return np.full((SIDE,) * 3, float(value))


def _planes(values: NDArray[Any]) -> Volume:
    """One value per plane of the first axis."""
    return np.broadcast_to(values[:, None, None], (SIDE,) * 3).astype(float).copy()


def _corner() -> Volume:
    volume = _full(0)
    volume[0, 0, 0] = 4096
    return volume


RAMP = _planes(100.0 * np.arange(SIDE) - 800)
STEP = _planes(np.where(np.arange(SIDE) < 8, 500.0, 0.0))
BACK_HALF = _planes(1.0 * (np.arange(SIDE) >= 8)) > 0
WHOLE = np.ones((SIDE,) * 3, dtype=bool)
STRIPES = _planes(np.where(np.arange(SIDE) % 2 == 0, 100.0, -100.0))

# Target, prediction, mask; MAE, PSNR 2023 and 2025, SSIM 2023, MS-SSIM 2025, as computed by the
# organisers' own code (SynthRAD2023/metrics; SynthRAD2025/evaluation at 17cac47).
CASES = [
    (_full(0), _full(40.24), WHOLE, 40.24, 40.0, 40.1519, 0.9992581748, 0.9990596112),
    (_full(0), _full(40.95), WHOLE, 40.95, 39.8481, 40.0, None, 0.9990268031),
    (_full(0), STEP, BACK_HALF, 0, math.inf, math.inf, 1, 1),
    (_full(3000), _full(5000), WHOLE, 2000, math.inf, 35.2199, 1, 0.9998036403),
    (_full(0), STRIPES, WHOLE, 100, 32.0932, 32.2451, 0.5972609624, 0.9240403891),
    (_full(0), _corner(), WHOLE, 1, 38.6743, 38.6231, 0.9993570679, 0.5555146903),
    (_full(-1024), _full(-1000), WHOLE, 24, 44.4889, 44.6409, 0.7376162142, 0.7662997755),
    (RAMP, -RAMP, WHOLE, 800, 12.7482, 12.9001, -0.5945999414, 0),
    (RAMP, RAMP + 50, WHOLE, 50, 38.1138, 38.2657, 0.9983413644, 0.9937540310),
]


def _pair(
    target: Volume, prediction: Volume, mask: NDArray[np.bool_], anatomy: str = ""
) -> ImagePair:
    first, second, inside = (
        torch.from_numpy(np.ascontiguousarray(array)) for array in (prediction, target, mask)
    )
    return ImagePair(first, second, inside, anatomy=anatomy)


@pytest.mark.parametrize("case", range(len(CASES)))
def test_the_hand_made_cases_of_synthrad(case: int) -> None:
    target, prediction, mask, mae, psnr_2023, psnr_2025, ssim, multi_scale = CASES[case]
    pair = _pair(target, prediction, mask)
    older, newer = (PRESETS[name].measure(pair) for name in ("synthrad2023", "synthrad2025"))
    assert older["mae_hu"] == newer["mae_hu"] == pytest.approx(mae, rel=1e-12)
    assert older["psnr"] == pytest.approx(psnr_2023, abs=5e-5)
    assert newer["psnr"] == pytest.approx(psnr_2025, abs=5e-5)
    if ssim is not None:
        assert older["ssim"] == pytest.approx(ssim, abs=1e-9)
    assert newer["ms_ssim"] == pytest.approx(multi_scale, abs=1e-9)


@pytest.mark.parametrize("preset", ["synthrad2023", "synthrad2025-prepared"])
def test_errors_in_air_soft_tissue_and_bone_are_those_where_the_target_shows_them(
    preset: str,
) -> None:
    target, prediction, mask = _random((12, 11, 13), 4)
    target[3, 4, 5:8] = (-200.0, 199.9, 200.0)  # a border belongs to the upper tissue
    mask[3, 4, 5:8] = True
    measured = PRESETS[preset].measure(_pair(target, prediction, mask))
    error = np.abs(prediction - target)
    regions = {
        "air": mask & (target < -200),
        "soft": mask & (target >= -200) & (target < 200),
        "bone": mask & (target >= 200),
    }
    for tissue, region in regions.items():
        expected = error[region].sum() / region.sum()
        assert measured[f"mae_{tissue}_hu"] == pytest.approx(expected, rel=1e-12), tissue
    shares = [measured[f"mae_{tissue}_hu"] * region.sum() for tissue, region in regions.items()]
    assert sum(shares) / mask.sum() == pytest.approx(measured["mae_hu"], rel=1e-12)


def test_a_body_without_bone_has_no_error_in_bone() -> None:
    target, prediction, mask = _random((12, 11, 13), 5)
    measured = PRESETS["synthrad2025"].measure(_pair(target.clip(max=100.0), prediction, mask))
    assert np.isnan(measured["mae_bone_hu"]) and measured["mae_soft_hu"] > 0


def _random(shape: tuple[int, int, int], seed: int) -> tuple[Volume, Volume, NDArray[np.bool_]]:
    rng = np.random.default_rng(seed)
    target = rng.normal(0, 600, shape)
    prediction = target + rng.normal(0, 150, shape)
    mask = np.zeros(shape, dtype=bool)
    mask[2:-2, 1:-3, 3:-1] = rng.random(mask[2:-2, 1:-3, 3:-1].shape) > 0.2
    return target, prediction, mask


def _windows(image: Volume) -> Volume:
    """Every voxel's 7 x 7 x 7 neighbours, the border mirrored with its voxel repeated."""
    return sliding_window_view(np.pad(image, 3, mode="symmetric"), (7, 7, 7)).reshape(
        *image.shape, 343
    )


def _parts(g: Volume, p: Volume, data_range: float) -> tuple[Volume, ...]:
    """Means, sample variances and covariance, from the windows themselves."""
    first, second = _windows(g), _windows(p)
    mean_g, mean_p = first.mean(-1), second.mean(-1)
    var_g, var_p = first.var(-1, ddof=1), second.var(-1, ddof=1)
    both = ((first - mean_g[..., None]) * (second - mean_p[..., None])).sum(-1) / 342
    return mean_g, mean_p, var_g, var_p, both


def test_ssim_of_2023_is_its_definition_on_a_random_volume_and_mask() -> None:
    target, prediction, mask = _random((14, 13, 15), 1)
    g, p = (
        np.where(mask, np.clip(image, -1024, 3000), -1024) + 1024 for image in (target, prediction)
    )
    mean_g, mean_p, var_g, var_p, both = _parts(g, p, 4024)
    first, second = 40.24**2, 120.72**2
    found = (2 * mean_g * mean_p + first) * (2 * both + second)
    found /= (mean_g**2 + mean_p**2 + first) * (var_g + var_p + second)
    inner = (slice(3, -3),) * 3
    measured = PRESETS["synthrad2023"].measure(_pair(target, prediction, mask))
    assert measured["ssim"] == pytest.approx(found[inner][mask[inner]].mean(), abs=1e-10)
    error = (target - prediction)[mask]
    assert measured["mae_hu"] == pytest.approx(np.abs(error).mean())
    clipped = np.clip(target, -1024, 3000)[mask] - np.clip(prediction, -1024, 3000)[mask]
    assert measured["psnr"] == pytest.approx(20 * np.log10(4024 / np.sqrt((clipped**2).mean())))


def _mean_of_seven(image: Volume) -> Volume:
    for axis in range(3):
        image = correlate1d(image, np.full(7, 1 / 7), axis, mode="reflect")
    return image


def _reference_ms_ssim(target: Volume, prediction: Volume, mask: NDArray[np.bool_]) -> float:
    """By sums along each axis, and halving by a kernel with zeros beyond the border."""
    g, p = (
        np.where(mask, np.clip(image, -1024, 3071), -1024) + 1024 for image in (target, prediction)
    )
    pads = [((97 - n) // 2, 97 - n - (97 - n) // 2) if n < 97 else (0, 0) for n in g.shape]
    g, p, inside = (np.pad(image, pads, mode="edge") for image in (g, p, mask))
    halve = np.zeros((3, 3, 3))
    halve[1:, 1:, 1:] = 1 / 8  # a convolution flips its kernel: this voxel and the one before
    values = []
    for weight in WEIGHTS:
        mean_g, mean_p = _mean_of_seven(g), _mean_of_seven(p)
        var_g, var_p, both = (
            (_mean_of_seven(a * b) - m * n) * 343 / 342
            for a, b, m, n in (
                (g, g, mean_g, mean_g),
                (p, p, mean_p, mean_p),
                (g, p, mean_g, mean_p),
            )
        )
        c1, c2 = 40.95**2, 122.85**2
        product = np.sqrt(var_g.clip(0) * var_p.clip(0))
        light = (2 * mean_g * mean_p + c1) / (mean_g**2 + mean_p**2 + c1)
        contrast = (2 * product + c2) / (var_g + var_p + c2)
        structure = (both + c2 / 2) / (product + c2 / 2)
        found = light.clip(0) ** weight * contrast.clip(0) ** weight * structure.clip(0) ** weight
        inner = (slice(3, -3),) * 3
        values.append(found[inner][inside[inner]].mean().clip(0, 1))
        g, p = (convolve(image, halve, mode="constant")[::2, ::2, ::2] for image in (g, p))
        inside = inside[::2, ::2, ::2]
    return float(np.prod(values))


def test_ms_ssim_of_2025_is_its_definition_on_a_random_volume() -> None:
    target, prediction, mask = _random((40, 30, 35), 2)
    mask[:] |= np.indices(mask.shape).sum(0) > 40
    found = ms_ssim(target, prediction, mask)
    assert 0.2 < found < 0.999
    assert found == pytest.approx(_reference_ms_ssim(target, prediction, mask), abs=1e-9)


def test_what_a_mask_leaves_no_room_for_is_nan_and_not_a_number() -> None:
    target, prediction, mask = _random((SIDE,) * 3, 3)
    mask[:] = False
    mask[0, 0, 1] = True
    older, newer = (
        PRESETS[name].measure(_pair(target, prediction, mask))
        for name in ("synthrad2023", "synthrad2025")
    )
    assert math.isnan(older["ssim"])
    assert math.isnan(newer["ms_ssim"])
    assert not math.isnan(older["psnr"])
    flat = _pair(target[:5], prediction[:5], np.ones((5, SIDE, SIDE), dtype=bool))
    assert math.isnan(PRESETS["synthrad2023"].measure(flat)["ssim"])


def test_the_window_of_the_anatomy_decides_ldct_s_psnr() -> None:
    """A window of w steps sees an error of 4 HU as 4 / (w - 1), where nothing is clipped."""
    target = np.full((2, 48, 48), 40.0)
    ends = {"chest": (-1350, 149), "abdomen": (-150, 249), "head": (0, 79)}
    for anatomy, (low, high) in ends.items():
        images = _pair(target, target + 4, np.ones(target.shape, dtype=bool), anatomy)
        measured = PRESETS["ldct"].measure(images)
        assert measured["psnr"] == pytest.approx(20 * math.log10((high - low) / 4))
        assert measured["rmse_hu"] == pytest.approx(4)


def test_ldct_is_the_mean_over_the_slices_that_were_translated() -> None:
    rng = np.random.default_rng(4)
    target = rng.normal(50, 60, (4, 48, 44))
    prediction = target + rng.normal(0, 20, target.shape)
    prediction[1] = target[1]  # no error: its PSNR is infinite and is left out
    prediction[3] = -1024  # nothing was translated
    images = _pair(target, prediction, np.ones(target.shape, dtype=bool), "abdomen")
    covered = torch.tensor([True, True, True, False])
    measured = PRESETS["ldct"].measure(
        ImagePair(images.prediction, images.target, images.mask, None, covered, "abdomen")
    )
    error = prediction - target
    per_slice = np.sqrt((error**2).mean(axis=(1, 2)))
    assert measured["rmse_hu"] == pytest.approx(per_slice[:3].mean())
    scaled = [np.clip((image + 150) / 399, 0, 1) for image in (target, prediction)]
    mse = ((scaled[0] - scaled[1]) ** 2).mean(axis=(1, 2))
    assert measured["psnr"] == pytest.approx(-10 * np.log10(mse[[0, 2]]).mean())
    similar = [_ssim_2d(scaled[0][i], scaled[1][i]) for i in range(3)]
    assert measured["ssim"] == pytest.approx(np.mean(similar), abs=1e-9)
    assert 0.1 < measured["vif"] < 1


def _ssim_2d(g: NDArray[np.float64], p: NDArray[np.float64]) -> float:
    """Uniform windows of 7 x 7 that lie inside the slice, K 0.01 and 0.03, range 1."""
    first, second = (sliding_window_view(a, (7, 7)).reshape(-1, 49) for a in (g, p))
    mean_g, mean_p = first.mean(1), second.mean(1)
    both = ((first - mean_g[:, None]) * (second - mean_p[:, None])).sum(1) / 48
    var_g, var_p = first.var(1, ddof=1), second.var(1, ddof=1)
    found = (2 * mean_g * mean_p + 1e-4) * (2 * both + 9e-4)
    return float((found / ((mean_g**2 + mean_p**2 + 1e-4) * (var_g + var_p + 9e-4))).mean())


@pytest.mark.parametrize("name", ["ldct", "synthrad2023", "synthrad2025"])
def test_values_lie_in_the_range_and_fall_with_noise(name: str) -> None:
    rng = np.random.default_rng(5)
    target = rng.normal(0, 200, (8, 44, 42))
    noise = rng.normal(0, 1, target.shape)
    mask = np.ones(target.shape, dtype=bool)
    preset = PRESETS[name]
    rows = [preset.measure(_pair(target, target + s * noise, mask, "chest")) for s in (5, 500)]
    for metric in preset.metrics.values():
        values = [row[metric.name] for row in rows]
        assert values == sorted(values, reverse=metric.better == "higher")
        low, high = metric.sendable
        assert all(low <= value <= high for value in values)


def test_a_preset_describes_itself_in_json_and_its_prepared_form_under_another_name() -> None:
    for name, preset in PRESETS.items():
        described = json.loads(json.dumps(preset.description(), allow_nan=False))
        assert described["name"] == name
        assert described["data_range"] > 0
        assert "psnr" in preset.metrics
    assert on_prepared_slices("mr").name == "mr"
    assert on_prepared_slices("ldct").name == "ldct-prepared"
    assert on_prepared_slices("ldct-prepared").name == "ldct-prepared"


def test_the_preset_must_measure_the_unit_of_the_target() -> None:
    window = {"kind": "window", "low": -1024, "high": 3071, "unit": "HU"}
    ct = {"data": {"preparation": {"source": "mr", "target": "ct", "target_scaling": window}}}
    with pytest.raises(ConfigError, match="'synthrad2025' measures HU, but the target is scaled"):
        experiment_from({"preset": "synthrad2025"}, "x.yaml")
    with pytest.raises(ConfigError, match=r"target is in HU, .* name one of ldct, synthrad2023"):
        experiment_from(ct, "x.yaml")
    assert experiment_from({**ct, "preset": "synthrad2025-prepared"}, "x.yaml").preset
    with pytest.raises(ConfigError, match="preset: unknown value 'synthrad2024'; did you mean"):
        experiment_from({**ct, "preset": "synthrad2024"}, "x.yaml")
