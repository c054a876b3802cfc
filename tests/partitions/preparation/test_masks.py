"""The computed mask against a solid whose shape is known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from partitions.preparation.masks import foreground_mask


def _ball() -> NDArray[np.bool_]:
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, 40),) * 3, indexing="ij")
    return np.asarray(x**2 + y**2 + z**2 < 0.5)


def _dice(one: NDArray[np.bool_], two: NDArray[np.bool_]) -> float:
    return float(2 * (one & two).sum() / (one.sum() + two.sum()))


@pytest.fixture
def noisy() -> NDArray[np.float32]:
    random = np.random.default_rng(3)
    bright, dark = random.normal(300, 40, (40,) * 3), random.normal(20, 8, (40,) * 3)
    return np.where(_ball(), bright, dark).astype(np.float32)


def test_a_ball_in_noise_is_found(noisy: NDArray[np.float32]) -> None:
    assert _dice(foreground_mask(noisy), _ball()) > 0.97


def test_a_dark_cavity_inside_the_head_belongs_to_the_mask(noisy: NDArray[np.float32]) -> None:
    noisy[16:24, 16:24, 16:24] = 15
    assert foreground_mask(noisy)[16:24, 16:24, 16:24].all()


def test_a_bright_object_beside_the_head_is_left_out(noisy: NDArray[np.float32]) -> None:
    noisy[:3, :3, :3] = 400
    assert not foreground_mask(noisy)[:3, :3, :3].any()


def test_a_constant_volume_has_an_empty_mask() -> None:
    assert not foreground_mask(np.full((8, 8, 8), 5, np.float32)).any()
