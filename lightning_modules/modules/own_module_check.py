"""What a Lightning module of a lab's own must offer, held against it before the first round.

Its translating network is tried as any network of a lab's own (``networks.own_check``). Then a new
module takes one training step on noise by the same trainer that sites use.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from fedi2i.errors import ConfigError
from fedi2i.typed_config import nearest
from lightning_modules.configuration import ExperimentConfig
from lightning_modules.data.slices import Batch
from lightning_modules.modules.own_module import trainable_module
from lightning_modules.networks.building import build_networks, example_inputs
from lightning_modules.networks.own_check import (
    Offer,
    check_names,
    check_repeatable,
    noise,
    offer_of,
    tried,
)
from lightning_modules.networks.own_network import said

FOLLOWED = "train/loss_generator"
"""The loss that runs are followed by."""


def module_offers(experiment: ExperimentConfig) -> tuple[Offer, ...]:
    """Try a module, and say what each of its networks offers.

    Raises:
        ConfigError: naming the class, what it lacks and what to do.
    """
    model, kind = experiment.model, experiment.model.module.kind
    first, second = (build_networks(model, experiment.seed) for _ in range(2))
    check_repeatable(kind, first.state_dict(), second.state_dict())
    check_names(kind, first)
    translator, size = model.described.translator, experiment.data.preparation.size
    inputs = noise(example_inputs(model, translator, size))
    found = tried(translator, model.of_pair, "generator", first[translator], inputs)
    watch = _step(experiment, inputs[0])
    _check_losses(kind, watch.losses, model.described.losses)
    for name in model.module.networks:
        _check_steps(kind, name, watch.steps[name])
    return tuple(
        replace(found, unused=watch.unused.get(name, ()))
        if name == translator
        else offer_of(name, kind, first[name], watch.shapes.get(name), watch.unused.get(name, ()))
        for name in model.module.networks
    )


class _Watch(pl.Callback):
    """Notes what a training step does.

    Attributes:
        steps: of every network's optimizer, as Lightning and so strategies see them.
        unused: parameters that no gradient reaches, by network.
        shapes: of the tensors that a network is given and of the one that it gives.
        losses: what the step returns.
    """

    def __init__(self, networks: tuple[str, ...]) -> None:
        self._networks = networks
        self.steps: Counter[str] = Counter()
        self.unused: dict[str, tuple[str, ...]] = {}
        self.shapes: dict[str, tuple[tuple[torch.Size, ...], torch.Size]] = {}
        self.losses: object = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Listen to the networks."""
        for name in self._networks:
            getattr(pl_module, name).register_forward_hook(self._hook(name))

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Count it, and see which parameters it moves."""
        name = optimizer.param_groups[0]["name"]
        self.steps[name] += 1
        parameters = getattr(pl_module, name).named_parameters()
        self.unused[name] = tuple(key for key, value in parameters if value.grad is None)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Remember the losses."""
        self.losses = outputs

    def _hook(self, name: str) -> Any:
        def note(network: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if isinstance(output, Tensor):
                given = tuple(one.shape for one in inputs if isinstance(one, Tensor))
                self.shapes.setdefault(name, (given, output.shape))

        return note


def _step(experiment: ExperimentConfig, source: Tensor) -> _Watch:
    """Take a step of a new module, on a target of noise."""
    # Imported here, as modules are made for the learner, whose trainer this is.
    from lightning_modules.training.hardware import Hardware
    from lightning_modules.training.trainer import quiet_trainer

    config = experiment.model.module
    module: Any = trainable_module(config, experiment.seed)
    if module.automatic_optimization:
        raise ConfigError(
            f"'{config.kind}' leaves its steps to Lightning, which knows one optimizer; set "
            "self.automatic_optimization = False and step each of self.optimizers()"
        )
    (target,) = noise((torch.zeros(1, 1, *source.shape[2:]),))
    batch: Batch = {"source": source, "target": target}
    watch = _Watch(config.networks)
    kept = _freeze(experiment, module)
    keys = set(module.state_dict())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        trainer = quiet_trainer(Hardware("cpu", "32-true", torch.get_num_threads()), [watch])
        try:
            trainer.fit(module, DataLoader([batch], batch_size=None))  # type: ignore[arg-type]
        except ConfigError:
            raise
        except Exception as error:  # the code is not ours: it may raise anything
            shape = " x ".join(str(size) for size in source.shape)
            raise ConfigError(
                f"'{config.kind}' cannot take a training step on sources of shape {shape} "
                f"({said(error)}); correct its training_step"
            ) from error
    if set(module.state_dict()) != keys:
        raise ConfigError(
            f"'{config.kind}' makes parameters in its training step, which no received model could "
            "fill; make them in its constructor"
        )
    for name, (parameter, before) in kept.items():
        if not torch.equal(parameter.detach(), before):
            raise ConfigError(
                f"'{config.kind}' trains frozen parameters of '{name}', and strategy "
                f"'{experiment.strategy.name}' freezes finished layers; set requires_grad nowhere, "
                "or by self.toggle_optimizer alone, or take another strategy"
            )
    return watch


def _freeze(experiment: ExperimentConfig, module: Any) -> dict[str, tuple[nn.Parameter, Tensor]]:
    """Freeze the first parameter of every network, where the strategy will freeze some."""
    if experiment.strategy.record.site.layer_stages is None:
        return {}
    kept = {}
    for name in experiment.model.module.networks:
        first = next(getattr(module, name).parameters())
        first.requires_grad_(False)
        kept[name] = (first, first.detach().clone())
    return kept


def _check_losses(kind: str, losses: object, known: tuple[str, ...]) -> None:
    if not isinstance(losses, Mapping) or FOLLOWED not in losses:
        raise ConfigError(
            f"'{kind}': its training_step returns no '{FOLLOWED}', by which runs are followed; "
            f"return a dict of losses with it, such as {{'{FOLLOWED}': loss.detach()}}"
        )
    for name, value in losses.items():
        if name not in known:
            raise ConfigError(
                f"'{kind}': its training_step returns '{name}', and a site sends numbers of known "
                f"names alone; {nearest(str(name), known)}"
            )
        if not isinstance(value, Tensor) or value.numel() != 1 or not bool(value.isfinite()):
            raise ConfigError(
                f"'{kind}': its training_step returns for '{name}' no tensor of one finite number; "
                "correct it"
            )


def _check_steps(kind: str, name: str, steps: int) -> None:
    if not steps:
        raise ConfigError(
            f"'{kind}' takes no step of '{name}' through self.optimizers(), so that no strategy "
            "could act on it; step the optimizers that Lightning gives, once in every training step"
        )
    if steps > 1:
        raise ConfigError(
            f"'{kind}' takes {steps} steps of '{name}' in one training step, and arms are compared "
            "at equal numbers of steps; take one"
        )
