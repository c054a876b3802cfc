"""Threads, precision and device."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from lightning_modules.training import hardware
from lightning_modules.training.hardware import choose_hardware, threads_for


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def _machine(monkeypatch: pytest.MonkeyPatch, gpu: bool, gpu_bf16: bool, amx: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: gpu_bf16)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)


@pytest.mark.parametrize(
    ("cores", "sites", "threads"),
    [(8, 4, 2), (8, 3, 2), (2, 4, 1), (8, 1, 8), (8, 0, 8), (1, 1, 1)],
)
def test_cores_are_divided_among_sites_and_nobody_gets_less_than_one(
    monkeypatch: pytest.MonkeyPatch, cores: int, sites: int, threads: int
) -> None:
    monkeypatch.setattr(hardware, "available_cores", lambda: cores)
    assert threads_for(sites) == threads


@pytest.mark.parametrize("amx", [False, True])
@pytest.mark.parametrize("gpu_bf16", [False, True])
@pytest.mark.parametrize("gpu", [False, True])
def test_auto_takes_bf16_only_where_the_chosen_device_multiplies_it(
    monkeypatch: pytest.MonkeyPatch, gpu: bool, gpu_bf16: bool, amx: bool
) -> None:
    _machine(monkeypatch, gpu, gpu_bf16, amx)
    chosen = choose_hardware("auto", 1)
    assert chosen.accelerator == ("gpu" if gpu else "cpu")
    assert chosen.device.type == ("cuda" if gpu else "cpu")
    native = gpu_bf16 if gpu else amx
    assert chosen.precision == ("bf16-mixed" if native else "32-true")


@pytest.mark.parametrize("amx", [False, True])
def test_a_precision_that_was_asked_for_is_taken(
    monkeypatch: pytest.MonkeyPatch, amx: bool
) -> None:
    _machine(monkeypatch, False, False, amx)
    assert choose_hardware("fp32", 1).precision == "32-true"
    assert choose_hardware("bf16", 1).precision == "bf16-mixed"


def test_the_detection_of_amx_exists_in_this_torch() -> None:
    assert isinstance(torch.cpu._is_amx_tile_supported(), bool)


@pytest.mark.parametrize(("asked", "given"), [(2, 2), (1, 1), (0, 1), (-3, 1)])
def test_torch_gets_the_threads_that_are_recorded(asked: int, given: int) -> None:
    assert choose_hardware("fp32", asked).threads == given
    assert torch.get_num_threads() == given
