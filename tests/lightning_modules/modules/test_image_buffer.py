"""The history of translated slices."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lightning_modules.modules.cyclegan import ImageBuffer


def _numbered(first: int, count: int) -> Tensor:
    """Slices that are constant at first, first + 1 ..."""
    return torch.arange(first, first + count).float().reshape(-1, 1, 1, 1).expand(-1, 1, 2, 3)


def _shown(buffer: ImageBuffer, batches: int, size: int = 2, first: int = 0) -> list[int]:
    numbers: list[int] = []
    for batch in range(batches):
        shown = buffer.exchange(_numbered(first + batch * size, size))
        assert shown.shape == (size, 1, 2, 3)
        numbers += [int(value) for value in shown[:, 0, 0, 0]]
    return numbers


def _fresh(capacity: int, seed: int = 1) -> ImageBuffer:
    buffer = ImageBuffer(capacity)
    buffer.empty(seed)
    return buffer


def test_until_it_is_full_every_slice_is_shown_as_it_is() -> None:
    assert _shown(_fresh(10), 5) == list(range(10))


def test_afterwards_half_are_new_and_half_are_earlier_ones() -> None:
    numbers = _shown(_fresh(10), 1000)
    new = [number == place for place, number in enumerate(numbers)][10:]
    # 1990 draws with probability 1/2: standard deviation 22.
    assert abs(sum(new) - 995) < 100
    assert all(number <= place for place, number in enumerate(numbers))


def test_a_stored_slice_is_shown_in_exchange_for_a_new_one_and_then_gone() -> None:
    numbers = _shown(_fresh(10), 1000)
    again = [number for place, number in enumerate(numbers) if number != place]
    # Once when it was stored, and at most once in exchange for another; never a third time.
    assert len(set(again)) == len(again)
    # Those that the buffer was filled with leave it like any other.
    assert set(range(10)) <= set(again)


def test_the_same_seed_shows_the_same_slices_and_another_seed_others() -> None:
    assert _shown(_fresh(5), 100) == _shown(_fresh(5), 100)
    assert _shown(_fresh(5), 100) != _shown(_fresh(5, seed=2), 100)


def test_the_global_random_state_neither_enters_nor_moves() -> None:
    torch.manual_seed(1)
    one = _shown(_fresh(5), 100)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    assert _shown(_fresh(5), 100) == one
    assert torch.equal(before, torch.get_rng_state())


def test_emptying_forgets_every_slice_and_starts_the_draws_anew() -> None:
    used = _fresh(5)
    _shown(used, 100, first=100_000)
    used.empty(1)
    numbers = _shown(used, 100)
    assert max(numbers) < 1000
    assert numbers == _shown(_fresh(5), 100)


def test_with_capacity_zero_every_slice_is_shown_as_it_is() -> None:
    assert _shown(_fresh(0), 100) == list(range(200))


@pytest.mark.parametrize("capacity", [0, 5])
def test_no_gradient_flows_back_through_what_is_shown(capacity: int) -> None:
    images = _numbered(0, 2).clone().requires_grad_()
    assert not _fresh(capacity).exchange(images).requires_grad


def test_stored_slices_do_not_change_with_the_tensor_they_came_from() -> None:
    buffer = _fresh(2)
    images = _numbered(0, 2).clone()
    buffer.exchange(images)
    images.fill_(-7)
    assert -7 not in _shown(buffer, 20, first=10)
