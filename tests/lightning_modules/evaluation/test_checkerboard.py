"""The checkerboard measure on images whose spectrum is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from lightning_modules.evaluation.checkerboard import checkerboard


def noise(number: int = 40, size: tuple[int, int] = (96, 80)) -> Tensor:
    return torch.randn(number, *size, generator=torch.Generator().manual_seed(1))


def alternating(length: int) -> Tensor:
    return 1.0 - 2.0 * (torch.arange(length) % 2)


def test_white_noise_has_a_ratio_of_one_in_both() -> None:
    found = checkerboard(noise())
    assert found.axis == pytest.approx(1.0, abs=0.1)
    assert found.corner == pytest.approx(1.0, abs=0.2)


@pytest.mark.parametrize("axis", [0, 1])
def test_stripes_show_along_their_axis_alone(axis: int) -> None:
    plain = noise()
    stripes = alternating(96)[:, None] if axis == 0 else alternating(80)[None, :]
    found, before = checkerboard(plain + 0.5 * stripes), checkerboard(plain)
    assert found.axis > 5.0
    assert found.corner == pytest.approx(before.corner, rel=0.02)


def test_squares_show_in_the_corner_alone() -> None:
    plain = noise()
    squares = torch.outer(alternating(96), alternating(80))
    found, before = checkerboard(plain + 0.5 * squares), checkerboard(plain)
    assert found.corner > 5.0
    assert found.axis == pytest.approx(before.axis, rel=0.02)


def test_the_power_of_stripes_is_that_of_their_amplitude() -> None:
    """Twice the amplitude is four times the power, as noise does not change."""
    plain, stripes = noise(), alternating(96)[:, None]
    before = checkerboard(plain).axis
    small, large = (checkerboard(plain + size * stripes).axis for size in (4.0, 8.0))
    assert (large - before) / (small - before) == pytest.approx(4.0, rel=0.02)


def test_brightness_and_contrast_do_not_matter() -> None:
    plain = noise()
    assert checkerboard(7.0 + 3.0 * plain).axis == pytest.approx(checkerboard(plain).axis, rel=1e-6)


def test_a_smooth_image_is_below_one_and_a_constant_one_has_no_ratio() -> None:
    smooth = noise()
    for _ in range(2):
        smooth = nn.functional.avg_pool2d(smooth, 2, stride=1)
    assert checkerboard(smooth).axis < 1.0
    assert math.isnan(checkerboard(torch.ones(2, 32, 32)).axis)


@pytest.mark.parametrize("size", [(96, 80), (64, 64)])
def test_untrained_transposed_convolutions_draw_it_and_nearest_neighbours_do_not(
    size: tuple[int, int],
) -> None:
    torch.manual_seed(0)
    features = noise(30, (size[0] // 2, size[1] // 2))[:, None]
    transposed = nn.ConvTranspose2d(1, 1, 3, stride=2, padding=1, output_padding=1)
    nearest = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(1, 1, 3, padding=1))
    found = [checkerboard(layer(features)[:, 0].detach()) for layer in (transposed, nearest)]
    assert found[0].axis > 2.0 * found[1].axis
    assert found[0].corner > 2.0 * found[1].corner


@pytest.mark.parametrize("shape", [(96, 80), (1, 96, 20), (1, 1, 96, 80)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="24 or more"):
        checkerboard(torch.zeros(shape))
