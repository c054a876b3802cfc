"""What a training step takes of a device's memory, told without taking it."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim import SGD, Optimizer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fedi2i.digest import digest
from lightning_modules.configuration import ExperimentConfig, experiment_values
from lightning_modules.data.contrast_draws import SOURCE_CODE, TARGET_CODE, THIRD_CODE
from lightning_modules.data.slices import Batch
from lightning_modules.networks.own_network import WithoutMemory
from partitions.preparation.configuration import DOMAINS

if TYPE_CHECKING:
    import pytorch_lightning as pl

_TRIED_SLICES = 2
_MOMENTS = 2
"""Numbers that an optimizer keeps of every parameter, unless it is SGD without momentum."""


@dataclass(frozen=True)
class StepMemory:
    """What the networks of a model take at once while they train, in bytes.

    What libraries take besides, for packed copies and in unused pieces between tensors, is not
    counted: on a CPU it was a fifth to a third more (docs/performance.md).

    Attributes:
        slices: of a step.
        weights: parameters and buffers.
        gradients: one number per parameter.
        moments: what the optimizers keep, two numbers per parameter with Adam.
        activations: the rest at the moment of the peak: what the passes forward keep for those
            backward, and what is made in passing.
    """

    slices: int
    weights: int
    gradients: int
    moments: int
    activations: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.gradients + self.moments + self.activations

    @property
    def text(self) -> str:
        """All of it in words."""
        parts = ("weights", "gradients", "moments", "activations")
        listed = ", ".join(f"{name} {mebibytes(getattr(self, name))}" for name in parts)
        return (
            f"training takes about {mebibytes(self.total)} MiB for a step of "
            f"{counted(self.slices)} ({listed})"
        )


def counted(slices: int) -> str:
    """A number of slices, as text."""
    return "1 slice" if slices == 1 else f"{slices} slices"


def mebibytes(number: int) -> str:
    """Bytes in MiB, with a decimal where there are few."""
    value = number / 2**20
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def step_memory(experiment: ExperimentConfig, slices: int | None = None) -> StepMemory | None:
    """What one training step of a model takes.

    The model's own training steps are taken on torch's ``meta`` device, whose tensors have sizes
    and no values, while every tensor is counted from its making to its end. That takes no memory.
    A network of a lab's own that reads values takes steps of at most two slices for real instead,
    and its activations are taken to grow with the slices.

    Args:
        experiment: the experiment.
        slices: of a step; by default the experiment's.

    Returns:
        None where a step cannot be taken: whoever tries the network says why.
    """
    count = slices or experiment.training.batch_size
    key = digest(
        [
            experiment_values(experiment)["model"],
            experiment.data.preparation.size,
            experiment.training.optimizer,
            count,
        ]
    )
    if key not in _known:
        _known[key] = _found(experiment, count)
    return _known[key]


_known: dict[str, StepMemory | None] = {}
"""By what it hangs on: a process asks for every learner, and a search builds many."""


def _found(experiment: ExperimentConfig, slices: int) -> StepMemory | None:
    with torch.random.fork_rng(devices=[]):
        without_values = _tried(lambda: _without_values(experiment, slices))
        if without_values is not None:
            return without_values
        return _tried(lambda: _with_values(experiment, slices))


def _tried(tell: Callable[[], StepMemory]) -> StepMemory | None:
    try:
        return tell()
    except Exception:  # noqa: BLE001 - a lab's code may raise anything, and is tried elsewhere
        return None


def _without_values(experiment: ExperimentConfig, slices: int) -> StepMemory:
    with WithoutMemory():
        module = _module(experiment)
    return _counted(experiment, module.to("meta"), slices)


def _with_values(experiment: ExperimentConfig, slices: int) -> StepMemory:
    few = min(slices, _TRIED_SLICES)
    found = _counted(experiment, _module(experiment), few)
    activations = found.activations * slices // few
    return StepMemory(slices, found.weights, found.gradients, found.moments, activations)


def _module(experiment: ExperimentConfig) -> pl.LightningModule:
    # Imported here, as Lightning is slow to load.
    from lightning_modules.modules import build_module

    return build_module(experiment.model, experiment.training, experiment.seed)


def _counted(experiment: ExperimentConfig, module: Any, slices: int) -> StepMemory:
    optimizers = module.configure_optimizers()
    for optimizer in optimizers:  # what one takes is known, and its steps are slow without values
        optimizer.step = lambda: None
    # Without a trainer the module would ask Lightning for both.
    module.optimizers = lambda: optimizers if len(optimizers) > 1 else optimizers[0]
    module.manual_backward = lambda loss: loss.backward()
    parameters = [value for value in module.parameters() if value.requires_grad]
    here = [*module.parameters(), *module.buffers()]
    with TensorCount(here) as count:
        for value in parameters:  # they are there from the second step on
            value.grad = torch.zeros_like(value)
        device = here[0].device
        batch = _batch(experiment, slices, device)
        if experiment.model.module.is_own:
            module.training_step(batch, 0)
        else:
            module.take_steps(batch)
    gradients = _bytes(parameters)
    moments = sum(_kept(optimizer) for optimizer in optimizers)
    return StepMemory(slices, _bytes(here), gradients, moments, max(0, count.peak - gradients))


def _kept(optimizer: Optimizer) -> int:
    """The bytes that an optimizer keeps between steps."""
    if isinstance(optimizer, SGD) and not optimizer.defaults["momentum"]:
        return 0
    trained = (p for group in optimizer.param_groups for p in group["params"] if p.requires_grad)
    return _MOMENTS * _bytes(trained)


def _batch(experiment: ExperimentConfig, slices: int, device: torch.device) -> Batch:
    """What a step is given, all zeros: slices, or patches, and codes where the model reads them."""
    model = experiment.model
    size = trained_size(experiment)
    channels = model.view.channels if model.described.paired else 1
    batch = {
        name: torch.zeros((slices, channels if name == "source" else 1, *size), device=device)
        for name in DOMAINS
    }
    if model.described.conditional:
        none = torch.zeros(slices, dtype=torch.int64, device=device)
        batch |= {SOURCE_CODE: none, TARGET_CODE: none, THIRD_CODE: none}
    return batch


def trained_size(experiment: ExperimentConfig) -> tuple[int, ...]:
    """Sides of what the networks are trained on: of slices, or of the patches of volumes."""
    return experiment.model.patch or experiment.data.preparation.size


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(value.numel() * value.element_size() for value in tensors)


class TensorCount(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the tensors that are made while it is on, until they are freed.

    Args:
        uncounted: tensors that were there before.

    Attributes:
        held: bytes of those that are there.
        peak: the most that it has been.
    """

    def __init__(self, uncounted: Iterable[Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.held = 0
        self.peak = 0
        # Python keeps one object for a storage as long as there is the storage, and so its id.
        self._known = {id(one.untyped_storage()) for one in uncounted}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Do it, and count what it has made."""
        made = func(*args, **(kwargs or {}))
        for one in tree_leaves(made):
            if isinstance(one, Tensor):
                self._add(one.untyped_storage())
        return made

    def _add(self, storage: torch.UntypedStorage) -> None:
        """Count a storage once: a view has that of what it shows."""
        name, size = id(storage), storage.nbytes()
        if name in self._known:
            return
        self._known.add(name)
        self.held += size
        self.peak = max(self.peak, self.held)
        weakref.finalize(storage, self._end, name, size)

    def _end(self, name: int, size: int) -> None:
        self._known.discard(name)
        self.held -= size
