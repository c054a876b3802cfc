"""Whole volumes translated by overlapping windows."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lightning_modules.data.source_view import SourceView
from lightning_modules.evaluation.validation import translate_seen
from lightning_modules.training.hardware import Hardware

HARDWARE = Hardware("cpu", "32-true", 1)
VIEW = SourceView(patch=(4, 8, 8))


class Noting(nn.Module):
    """Gives back what it is shown, or its mean, and notes its shapes."""

    def __init__(self, mean: bool = False) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []
        self.lowest = 1.0
        self._mean = mean

    def forward(self, source: Tensor) -> Tensor:
        assert not self.training and not torch.is_grad_enabled()
        self.shapes.append(tuple(source.shape))
        self.lowest = min(self.lowest, float(source.min()))
        if self._mean:
            return source.mean((2, 3, 4), keepdim=True).expand_as(source).clone()
        return source


def _volume(*shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(1).random(shape, dtype=np.float32))


def _translated(network: nn.Module, source: Tensor, heights: list[int] | None = None) -> Tensor:
    places = heights or list(range(len(source)))
    return translate_seen(network, source, HARDWARE, VIEW, places, 3)


@pytest.mark.parametrize("shape", [(4, 8, 8), (11, 19, 26), (5, 8, 9)])
def test_a_network_that_changes_nothing_gives_back_the_volume(shape: tuple[int, ...]) -> None:
    network, source = Noting().train(), _volume(*shape)
    found = _translated(network, source)
    assert found.shape == source.shape and found.dtype == torch.float32
    assert float((found - source).abs().max()) < 1e-6
    assert all(one[1:] == (1, 4, 8, 8) and one[0] <= 3 for one in network.shapes)
    assert network.training


def test_windows_overlap_by_half_and_the_middle_of_one_counts_more_than_its_border() -> None:
    network, source = Noting(mean=True), torch.zeros(4, 8, 12)
    source[..., 8:] = 1.0
    found = _translated(network, source)
    assert sum(one[0] for one in network.shapes) == 2  # from columns 0 and 4
    # The first window's mean is 0, the second's 1/2; between them it rises.
    row = found[2, 4].tolist()
    assert row[0] == row[3] == 0.0 and row[8] == row[11] == pytest.approx(0.5)
    assert all(one < following for one, following in pairwise(row[3:9]))


def test_a_volume_of_fewer_slices_than_a_patch_is_shown_with_its_border_repeated() -> None:
    network, source = Noting(), _volume(3, 8, 8) * 0.4 + 0.6
    found = _translated(network, source)
    assert float((found - source).abs().max()) < 1e-6
    assert network.lowest >= 0.2 - 1e-6  # no grey and no black was put beside it: 2 * 0.6 - 1


def test_what_lies_behind_a_gap_is_translated_by_itself() -> None:
    source = torch.zeros(8, 8, 8)
    source[4:] = 1.0
    found = _translated(Noting(mean=True), source, [2, 3, 4, 5, 9, 10, 11, 12])
    assert torch.equal(found, source)
    joined = _translated(Noting(mean=True), source)
    assert not torch.allclose(joined, source)
