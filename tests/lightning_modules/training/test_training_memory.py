"""What a training step takes of memory: held against a real one, refused where it is not free."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.profiler import profile

from fedi2i.errors import ConfigError
from lightning_modules.configuration import ExperimentConfig, experiment_from
from lightning_modules.data.slices import TrainingSlices
from lightning_modules.modules import build_module
from lightning_modules.networks import building
from lightning_modules.networks.building import build_networks
from lightning_modules.training import learner, memory_check
from lightning_modules.training.hardware import Hardware
from lightning_modules.training.learner import Learner
from lightning_modules.training.local_state import LocalStateStore
from lightning_modules.training.memory_check import check_memory, free_memory
from lightning_modules.training.step_memory import StepMemory, TensorCount, step_memory

Allow = Callable[[str], None]
CPU = Hardware("cpu", "32-true", 1)
MIB = 2**20

REAL_STEPS = """
import ctypes, json, sys, warnings
import torch
warnings.filterwarnings("ignore")
from lightning_modules.configuration import experiment_from
from lightning_modules.modules import build_module

def status(name):
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) * 1024

def train(experiment):
    module = build_module(experiment.model, experiment.training, experiment.seed)
    optimizers = module.configure_optimizers()
    module.optimizers = lambda: optimizers
    module.manual_backward = lambda loss: loss.backward()
    shape = (experiment.training.batch_size, 1, *experiment.data.preparation.size)
    for _ in range(2):
        module.take_steps({name: torch.rand(shape) * 2 - 1 for name in ("source", "target")})

torch.set_num_threads(1)
small, large = (experiment_from(json.loads(text), "x") for text in sys.argv[1:])
train(small)  # what libraries take once is there before
ctypes.CDLL("libc.so.6").malloc_trim(0)
before = status("VmRSS")
open("/proc/self/clear_refs", "w").write("5")
train(large)
print(status("VmHWM") - before)
"""
"""Prints by how much the process grows at most, as the system says, while it trains."""


def experiment(
    size: tuple[int, int] = (32, 32), slices: int = 2, **changes: Any
) -> ExperimentConfig:
    """A small pix2pix unless something else is said."""
    return experiment_from(values(size, slices, **changes), "x")


def values(size: tuple[int, int], slices: int, **changes: Any) -> dict[str, Any]:
    model = {
        "generator": {"channels": [4, 8]},
        "discriminator": {"channels": 4, "layers": 1},
        **changes.pop("model", {}),
    }
    pairing = "unpaired" if model.get("name") == "cyclegan" else "paired"
    return {
        "data": {"preparation": {"size": list(size), "pairing": pairing}},
        "model": model,
        "training": {"batch_size": slices, **changes.pop("training", {})},
        **changes,
    }


def told(chosen: ExperimentConfig, slices: int | None = None) -> StepMemory:
    found = step_memory(chosen, slices)
    assert found is not None
    return found


def growth(size: tuple[int, int], slices: int, **changes: Any) -> int:
    """Bytes by which a process of its own grows while it trains for real."""
    texts = [json.dumps(values(*one, **changes)) for one in (((32, 32), 1), (size, slices))]
    command = [sys.executable, "-c", REAL_STEPS, *texts]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def allocated(chosen: ExperimentConfig) -> int:
    """The most bytes that a real step holds at once, as torch's own allocator counts them."""
    module = build_module(chosen.model, chosen.training, chosen.seed)
    optimizers = module.configure_optimizers()
    module.optimizers = lambda: optimizers
    module.manual_backward = lambda loss: loss.backward()
    shape = (chosen.training.batch_size, 1, *chosen.data.preparation.size)
    for profiler in (nullcontext(), profile(profile_memory=True)):
        here = [*module.parameters(), *module.buffers()]
        here += [value.grad for value in module.parameters() if value.grad is not None]
        here += [
            one
            for optimizer in optimizers
            for state in optimizer.state.values()
            for one in state.values()
            if isinstance(one, torch.Tensor)
        ]
        with profiler as watched:
            module.take_steps({name: torch.rand(shape) * 2 - 1 for name in ("source", "target")})
    assert isinstance(watched, profile) and watched.profiler is not None
    events = [one for one in watched.profiler.kineto_results.events() if one.name() == "[memory]"]
    changes = [one.nbytes() for one in sorted(events, key=lambda one: one.start_ns())]
    return sum(one.nbytes for one in here) + max(accumulate(changes))


CASES = [
    {"generator": {"channels": [16, 32, 64]}},
    {"generator": {"kind": "resnet", "channels": [16, 32], "residual_units": 2}},
    {"name": "cyclegan", "generator": {"channels": [16, 32, 64]}},
]


@pytest.mark.parametrize("model", CASES)
def test_a_real_step_allocates_what_was_told_and_up_to_a_third_more(model: dict[str, Any]) -> None:
    chosen = experiment((128, 96), 8, model=model)
    total = told(chosen).total
    # A convolution's own room for packed copies is the processor's: 5 to 10 % on one with AVX-512.
    assert total < allocated(chosen) < 4 / 3 * total


@pytest.mark.nightly
@pytest.mark.skipif(sys.platform != "linux", reason="peaks are read from /proc")
@pytest.mark.parametrize("model", CASES)
def test_a_process_grows_by_what_was_told_and_less_than_as_much_again(
    model: dict[str, Any],
) -> None:
    """Faster: test_a_real_step_allocates_what_was_told_and_up_to_a_third_more."""
    total = told(experiment((128, 96), 8, model=model)).total
    # What a process has freed it need not ask for again, and pieces between tensors stay unused.
    assert 0.8 * total < growth((128, 96), 8, model=model) < 2 * total


@pytest.mark.parametrize("name", ["pix2pix", "regression", "cyclegan"])
def test_it_is_the_same_without_values_and_with_them(name: str) -> None:
    sharing = "generator" if name == "regression" else "generator+discriminator"
    chosen = experiment((32, 40), 3, model={"name": name}, sharing=sharing)
    # Which sums are made in passing differs a little.
    assert told(chosen).total == pytest.approx(counted_with_values(chosen).total, rel=0.01)


def counted_with_values(chosen: ExperimentConfig) -> StepMemory:
    from lightning_modules.training import step_memory as subject

    with torch.random.fork_rng(devices=[]):
        module = subject._module(chosen)
        return subject._counted(chosen, module, chosen.training.batch_size)


def test_weights_gradients_and_moments_are_those_of_the_networks() -> None:
    chosen = experiment()
    networks = build_networks(chosen.model, 1)
    numbers = sum(value.numel() for value in networks.parameters())
    adam, sgd = told(chosen), told(experiment(training={"optimizer": "sgd"}))
    assert (adam.weights, adam.gradients, adam.moments) == (4 * numbers, 4 * numbers, 8 * numbers)
    assert (sgd.gradients, sgd.moments) == (4 * numbers, 0)
    assert adam.total == sum((adam.weights, adam.gradients, adam.moments, adam.activations))


def test_activations_grow_with_the_slices_and_with_their_pixels() -> None:
    one = told(experiment((64, 64), 2)).activations
    assert told(experiment((64, 64), 8)).activations == pytest.approx(4 * one, rel=0.03)
    assert told(experiment((128, 64), 2)).activations == pytest.approx(2 * one, rel=0.03)
    assert told(experiment((64, 64), 2), slices=4) == told(experiment((64, 64), 4))


def test_tensors_are_counted_once_and_until_they_are_freed() -> None:
    before = torch.zeros(1000)
    with TensorCount([before]) as count:
        one = torch.zeros(100, 10)
        view = one.T[3:]
        before.add_(1)
        assert count.held == 4000
        two = one + 1
        del one
        assert count.held == 8000  # the view holds what it shows
        del view, two
    assert (count.held, count.peak) == (0, 8000)


def test_a_network_that_reads_values_is_told_from_steps_of_few_slices(allow_own: Allow) -> None:
    allow_own("my_lab.wrong_nets.LooksAtValues")
    own = {"generator": {"path": "my_lab.wrong_nets.LooksAtValues"}}
    few, many = (told(experiment((32, 32), slices, model=own)) for slices in (2, 16))
    assert many.activations == 8 * few.activations > 0
    assert many.weights == few.weights


def test_nothing_is_told_of_a_network_that_takes_no_slices(allow_own: Allow) -> None:
    allow_own("my_lab.wrong_nets.Fragile")
    own = {"generator": {"path": "my_lab.wrong_nets.Fragile"}}
    chosen = experiment(model=own)
    assert step_memory(chosen) is None
    check_memory(chosen, CPU)  # it is refused elsewhere, with the reason


def test_the_random_state_stays_as_it_was() -> None:
    before = torch.random.get_rng_state()
    told(experiment((32, 48), 5))
    assert torch.equal(torch.random.get_rng_state(), before)


def free(monkeypatch: pytest.MonkeyPatch, number: float | None) -> None:
    monkeypatch.setattr(
        memory_check, "free_memory", lambda _: None if number is None else int(number)
    )


def test_what_does_not_fit_is_refused_with_both_figures_and_what_to_change(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chosen = experiment((128, 128), 16)
    needed = told(chosen).total
    free(monkeypatch, 5 * MIB)
    with pytest.raises(ConfigError) as refused:
        check_memory(chosen, CPU)
    assert str(refused.value) == (
        f"the model does not fit into memory: training takes at least {needed / MIB:,.0f} MiB for "
        "a step of 16 slices of 128 x 128, and 5.0 MiB are free on this machine; lower "
        "training.batch_size, or take a smaller data.preparation.size or network"
    )


@pytest.mark.parametrize(
    ("size", "slices", "remedy"),
    [
        ((128, 128), 1, "take a smaller data.preparation.size, or a network with fewer channels"),
        ((32, 32), 1, "take a network with fewer channels or levels"),
    ],
)
def test_the_remedy_is_what_would_help(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], slices: int, remedy: str
) -> None:
    free(monkeypatch, 1000)
    channels = [8, 16] if size[0] > 32 else [16, 32, 64, 128]
    with pytest.raises(ConfigError, match=f"; {remedy}$"):
        check_memory(experiment(size, slices, model={"generator": {"channels": channels}}), CPU)


def test_trainings_that_share_the_memory_must_fit_beside_each_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chosen = experiment((64, 64))
    free(monkeypatch, 3.5 * told(chosen).total)
    check_memory(chosen, CPU, at_once=2)
    with pytest.raises(ConfigError, match="each of 4 trainings at once takes at least"):
        check_memory(chosen, CPU, at_once=4)


def test_it_warns_where_memory_is_tight_and_is_silent_where_there_is_enough_or_nobody_knows(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    chosen = experiment((64, 64))
    with caplog.at_level(logging.WARNING):
        for number in (None, 1.3 * told(chosen).total):
            free(monkeypatch, number)
            check_memory(chosen, CPU)
        assert not caplog.records
        free(monkeypatch, 1.2 * told(chosen).total)
        check_memory(chosen, CPU)
    assert "memory is tight: training takes at least" in caplog.text


def test_half_the_activations_are_enough_in_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = experiment((64, 64))
    step = told(chosen)
    free(monkeypatch, step.total - 0.4 * step.activations)
    check_memory(chosen, Hardware("cpu", "bf16-mixed", 1))
    with pytest.raises(ConfigError, match="does not fit into memory"):
        check_memory(chosen, CPU)


def test_a_learner_refuses_before_a_weight_is_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def build(*_: Any) -> None:
        raise AssertionError("memory was taken")

    chosen = experiment((64, 64), 4)
    told(chosen)
    free(monkeypatch, 1000)
    for module in (learner, building):
        monkeypatch.setattr(module, "build_networks", build)
    with pytest.raises(ConfigError, match="does not fit into memory"):
        Learner(chosen, "a", TrainingSlices([]), CPU, LocalStateStore(tmp_path))
    with pytest.raises(AssertionError, match="memory was taken"):  # it trains nothing
        Learner(chosen, "a", TrainingSlices([]), CPU, LocalStateStore(tmp_path), measures_only=True)


def test_free_memory_is_what_the_system_says_and_no_more_than_a_container_s(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    system = free_memory(torch.device("cpu"))
    assert system is not None and system > MIB
    files = {"memory.max": "5000\n", "memory.current": "4500\n", "memory.stat": "anon 7\n"}
    job = tmp_path / "slurm" / "job"
    job.mkdir(parents=True)
    for name, text in files.items():
        (tmp_path / "slurm" / name).write_text(text)
        (job / name).write_text("max\n" if name == "memory.max" else text)
    own = tmp_path / "own"
    own.write_text("12:memory:/old\n0::/slurm/job\n")
    monkeypatch.setattr(memory_check, "_GROUPS", tmp_path)
    monkeypatch.setattr(memory_check, "_OWN_GROUPS", own)
    assert free_memory(torch.device("cpu")) == 500
    (tmp_path / "slurm" / "memory.stat").write_text("anon 7\ninactive_file 1500\n")
    assert free_memory(torch.device("cpu")) == 2000
    own.unlink()
    assert free_memory(torch.device("cpu")) == pytest.approx(system, rel=0.9)


def test_volumes_are_told_by_their_patch_and_codes_are_part_of_a_conditional_step() -> None:
    def taken(**model: Any) -> int:
        found = step_memory(experiment((64, 64), model=model, sharing="generator"))
        assert found is not None
        return found.activations

    one, two, both = ([side, 16, 16] for side in (8, 16, 16))
    assert taken(patch=one) < taken(patch=two) < taken(patch=[*both[:2], 32])
    generator = {"channels": [4, 6, 8]}
    told = {"name": "conditional", "contrasts": ["t1", "t2", "flair"], "generator": generator}
    assert taken(**told) > taken(name="regression", generator=generator)
