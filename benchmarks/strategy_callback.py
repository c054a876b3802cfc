"""Cost of the strategies' gradient callback, as a part of a training step.

Usage: ``make benchmark-callback`` (or ``python benchmarks/strategy_callback.py``). Steps with and
without the callback alternate in one process, so that a noisy machine disturbs both alike; the
figure is the median time of the callback itself over the median time of a whole step.
"""

from __future__ import annotations

import argparse
import time
from statistics import median
from typing import Any

import torch
from lightning_modules.strategies.site_side import gradient_term
from torch import Tensor

from lightning_modules.configuration import ExperimentConfig, experiment_from
from lightning_modules.losses.adversarial import AdversarialLoss
from lightning_modules.model_networks import MODELS
from lightning_modules.networks.building import build_networks
from lightning_modules.training.gradient_editor import GradientEditor

CASES: dict[str, dict[str, Any]] = {
    "demo, 96 x 80, batch 2": {
        "channels": [16, 32, 64, 128],
        "d": 16,
        "size": (96, 80),
        "batch": 2,
    },
    "lgg, 256 x 256, batch 8": {
        "channels": [32, 64, 128, 256, 256],
        "d": 64,
        "size": (256, 256),
        "batch": 8,
    },
}
STRATEGIES = ("fedprox", "scaffold", "feddyn")


def main() -> None:
    """Print a line per case and strategy."""
    options = _parser().parse_args()
    torch.set_num_threads(options.threads)
    for name, case in CASES.items():
        for strategy in STRATEGIES:
            step, callback = measure(case, strategy, options.steps)
            print(
                f"{name:<26}{strategy:<10} step {1e3 * step:8.1f} ms, callback "
                f"{1e3 * callback:6.2f} ms: {callback / step:6.2%}",
                flush=True,
            )


def measure(case: dict[str, Any], strategy: str, steps: int) -> tuple[float, float]:
    """Median seconds of a step of both networks without the callback, and of the callback."""
    experiment = _experiment(case, strategy)
    networks = build_networks(experiment.model, 1)
    roles = MODELS["pix2pix"].roles
    term = gradient_term(experiment.strategy, {}, {}, roles)
    assert term is not None
    editor = GradientEditor(term, roles, lambda key: True)
    editor.on_train_start(None, networks)  # type: ignore[arg-type]
    optimizers = {
        name: torch.optim.Adam([{"params": list(network.parameters()), "name": name}], 1e-3)
        for name, network in networks.items()
    }
    loss = AdversarialLoss("lsgan")
    source, target = torch.rand(2, case["batch"], 1, *case["size"]).unbind(0)
    plain, edits = [], []
    for _ in range(steps):
        started = time.perf_counter()
        spent = _step(networks, optimizers, loss, source, target, editor)
        plain.append(time.perf_counter() - started - spent)
        edits.append(spent)
    # The first steps allocate; every fifth callback also measures, which the mean includes.
    return median(plain[2:]), sum(edits[2:]) / len(edits[2:])


def _step(
    networks: Any,
    optimizers: Any,
    loss: AdversarialLoss,
    source: Tensor,
    target: Tensor,
    editor: Any,
) -> float:
    """One training step; returns the seconds that the callback took of it."""
    generator, discriminator = networks["generator"], networks["discriminator"]
    fake = generator(source)
    on_d = loss.discriminator(discriminator(source, target), discriminator(source, fake.detach()))
    spent = _descend(on_d, optimizers["discriminator"], editor)
    on_g = loss.generator(discriminator(source, fake)) + 100.0 * (fake - target).abs().mean()
    return spent + _descend(on_g, optimizers["generator"], editor)


def _descend(loss: Tensor, optimizer: Any, editor: Any) -> float:
    optimizer.zero_grad()
    loss.backward()
    started = time.perf_counter()
    editor.on_before_optimizer_step(None, None, optimizer)
    spent = time.perf_counter() - started
    optimizer.step()
    return spent


def _experiment(case: dict[str, Any], strategy: str) -> ExperimentConfig:
    values = {
        "data": {"preparation": {"size": list(case["size"])}},
        "model": {
            "generator": {"channels": case["channels"]},
            "discriminator": {"channels": case["d"]},
        },
        "strategy": {"name": strategy},
    }
    return experiment_from(values, "benchmark")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=27)
    parser.add_argument("--threads", type=int, default=1)
    return parser


if __name__ == "__main__":
    main()
