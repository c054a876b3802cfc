"""How much of a checkerboard there is in images: power at period two beside its neighbourhood.

Transposed convolutions draw a grid of period two, since their output pixels have different numbers
of terms. It shows in the spectrum at the highest frequency, half a cycle per pixel, of one axis
(stripes) or of both (the corner of the spectrum: squares).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

NEIGHBOURHOOD = (0.38, 0.46)
"""Frequencies in cycles per pixel that the power at 0.5 is compared with."""
_LOW = 0.25
SMALLEST_SIDE = 24


@dataclass(frozen=True)
class Checkerboard:
    """Two ratios of mean power; that of white noise is 1, that of smooth images below 1.

    Attributes:
        axis: power at period two along one axis (frequencies along the other up to 0.25), divided
            by that at 0.38 to 0.46 cycles per pixel; both axes together.
        corner: power at period two along both axes, divided by that at 0.38 to 0.46 along both.
    """

    axis: float
    corner: float


def checkerboard(images: Tensor) -> Checkerboard:
    """Measure images together: powers are summed over them before they are divided.

    A Hann window takes away the images' edges; it spreads the power at 0.5 over the two nearest
    frequencies, which are counted with it.

    Args:
        images: (images, rows, columns), 24 or more on each side; any unit, as ratios are measured.

    Returns:
        NaN where there is no power to divide by, as in a constant image.

    Raises:
        ValueError: another shape, or sides too small to tell the frequencies apart.
    """
    if images.ndim != 3 or min(images.shape[1:]) < SMALLEST_SIDE:
        raise ValueError(f"images must have shape (n, rows, columns) of {SMALLEST_SIDE} or more")
    rows, columns = images.shape[1:]
    power = _power(images)
    top_rows, top_columns = _at_period_two(rows)[:, None], _at_period_two(columns)[None, :]
    near_rows, near_columns = _neighbours(rows)[:, None], _neighbours(columns)[None, :]
    low_rows, low_columns = _low(rows)[:, None], _low(columns)[None, :]
    stripes = (top_rows & low_columns) | (low_rows & top_columns)
    beside = (near_rows & low_columns) | (low_rows & near_columns)
    corner, beside_corner = top_rows & top_columns, near_rows & near_columns
    return Checkerboard(_ratio(power, stripes, beside), _ratio(power, corner, beside_corner))


def _power(images: Tensor) -> Tensor:
    rows, columns = images.shape[1:]
    window = torch.outer(
        torch.hann_window(rows, dtype=torch.float64),
        torch.hann_window(columns, dtype=torch.float64),
    )
    centred = images.double() - images.double().mean(dim=(1, 2), keepdim=True)
    power: Tensor = torch.fft.fft2(centred * window).abs().square().sum(dim=0)
    return power


def _frequencies(length: int) -> Tensor:
    found: Tensor = torch.fft.fftfreq(length, dtype=torch.float64).abs()
    return found


def _at_period_two(length: int) -> Tensor:
    return _frequencies(length) > 0.5 - 1.25 / length


def _neighbours(length: int) -> Tensor:
    found = _frequencies(length)
    return (found >= NEIGHBOURHOOD[0]) & (found <= NEIGHBOURHOOD[1])


def _low(length: int) -> Tensor:
    return _frequencies(length) <= _LOW


def _ratio(power: Tensor, above: Tensor, below: Tensor) -> float:
    divisor = float(power[below].mean())
    return float(power[above].mean()) / divisor if divisor > 0 else float("nan")
