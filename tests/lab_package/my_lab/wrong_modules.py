"""Lightning modules that FedI2I refuses, one for each reason."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import ConstantLR

from my_lab.modules import Bounded, MyTranslation
from my_lab.nets import MyGenerator

Losses = dict[str, Tensor]


class Small(MyTranslation):
    """The module that the others spoil."""

    def __init__(self) -> None:
        super().__init__(channels=2)


class NoJudge(Small):
    """Lacks a network that is named."""

    def __init__(self) -> None:
        super().__init__()
        self.judge, self.discriminator = self.discriminator, None  # type: ignore[assignment]


class HoldsMore(Small):
    """Would send a network that nobody has named."""

    def __init__(self) -> None:
        super().__init__()
        self.perceptual = nn.Conv2d(1, 1, 3)


class DrawsFromNumpy(Small):
    """Its first weights hang on numpy."""

    def __init__(self) -> None:
        super().__init__()
        self.discriminator.scale = nn.Parameter(torch.tensor(np.random.rand()).float())


class OneUnderTwoNames(Small):
    """Would send a layer twice."""

    def __init__(self) -> None:
        super().__init__()
        self.discriminator.again = self.discriminator.layers


class Unbounded(Small):
    """Translates to values that no slice has."""

    def __init__(self) -> None:
        super().__init__()
        network: Any = MyGenerator(2)
        self.generator = network
        with torch.no_grad():
            network.decoder[-1].weight.mul_(100)


class Automatic(Small):
    """Leaves its steps to Lightning."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = True


class ListOfOptimizers(Small):
    """Does not say whose optimizers they are."""

    def configure_optimizers(self) -> Any:
        """A list."""
        return list(super().configure_optimizers().values())


class NoOptimizerOfJudge(Small):
    """Never trains one of its networks."""

    def configure_optimizers(self) -> dict[str, Optimizer]:  # type: ignore[override]
        """One of two."""
        return {"generator": super().configure_optimizers()["generator"]}


class WithScheduler(Small):
    """Has rates of its own time."""

    def configure_optimizers(self) -> Any:
        """Schedulers in place of optimizers."""
        return {name: ConstantLR(one) for name, one in super().configure_optimizers().items()}


class OneOptimizerForBoth(Small):
    """Steps of whose network?"""

    def configure_optimizers(self) -> dict[str, Optimizer]:  # type: ignore[override]
        """The same twice."""
        optimizer = Adam(self.parameters())
        return {"generator": optimizer, "discriminator": optimizer}


class Fails(Small):
    """Its step is broken."""

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Losses:
        """Complain."""
        raise KeyError("contrast")


class ReturnsNothing(Small):
    """Nobody could follow it."""

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Any:
        """Train and say nothing."""
        super().training_step(batch, batch_idx)


class TellsMore(Small):
    """Returns a number that may leave no site."""

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Losses:
        """Add the brightest pixel."""
        losses = super().training_step(batch, batch_idx)
        return {**losses, "train/brightest": batch["source"].max()}


class NotFinite(Small):
    """Diverges at once."""

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Losses:
        """Divide by nothing."""
        return {**super().training_step(batch, batch_idx), "train/l1": torch.tensor(np.nan)}


class StepsAside(Small):
    """Steps optimizers that no strategy sees."""

    def optimizers(self, use_pl_optimizer: bool = True) -> Any:
        """Those of torch."""
        return super().optimizers(use_pl_optimizer=False)


class StepsTwice(Small):
    """Trains its judge more than its generator."""

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Losses:
        """One more step."""
        losses = super().training_step(batch, batch_idx)
        self.optimizers()[1].step()  # type: ignore[index]
        return losses


class GrowsLater(Small):
    """Makes parameters when it is trained."""

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Losses:
        """Grow."""
        self.generator.scale = nn.Parameter(torch.ones(()))
        return super().training_step(batch, batch_idx)


class Thaws(Small):
    """Trains what somebody else has frozen."""

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Losses:
        """As some codes of GANs do."""
        for value in self.parameters():
            value.requires_grad_(True)
        return super().training_step(batch, batch_idx)


class WithBatchNorm(Small):
    """Keeps running statistics."""

    def __init__(self) -> None:
        super().__init__()
        bounded: Any = self.generator
        bounded.network.decoder.insert(0, nn.BatchNorm2d(4))


class NamesNoEncoder(Small):
    """Does not say which part of its generator encodes."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.Sequential(MyGenerator(2), nn.Tanh())  # type: ignore[assignment]


class LooksAtValues(Small):
    """No graph can say what its generator does."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = _Looks(MyGenerator(2))


class _Looks(Bounded):
    def forward(self, source: Tensor) -> Tensor:
        return super().forward(source if float(source.sum()) > 0 else -source)


class PlainSteps(Small):
    """Steps by SGD, whose steps can be computed by hand."""

    def configure_optimizers(self) -> dict[str, Optimizer]:  # type: ignore[override]
        """Two rates."""
        return {
            "discriminator": SGD(self.discriminator.parameters(), 0.25),
            "generator": SGD(self.generator.parameters(), 0.5),
        }
