"""Weights of which a normalisation right behind them cancels something.

An instance or batch normalisation subtracts each channel's mean and divides by its deviation. A
bias in front of it has no effect, and of a filter only the direction has one.
"""

from __future__ import annotations

from torch import fx, nn
from torch.nn.utils.parametrize import type_before_parametrizations

from lightning_modules.matching.axis_book import AxisBook
from lightning_modules.matching.layer_types import (
    BATCH_OR_INSTANCE_NORMS,
    SPATIAL_AXES,
    TRANSPOSED_CONVOLUTIONS,
)
from lightning_modules.matching.spectral_norm import WeightNames, weight_names

_MAKERS = {*SPATIAL_AXES, nn.Linear}


class CancelledScales:
    """Collects, over all calls, whether a layer's output goes into a normalisation and no further.

    A tensor that several layers share is cancelled only if it is in all of them.
    """

    def __init__(self, book: AxisBook) -> None:
        self._book = book
        self._biases: dict[str, bool] = {}
        self._filters: dict[str, dict[int, bool]] = {}

    def note(self, network: nn.Module, graph: fx.Graph) -> None:
        """Look at every layer of a traced graph that makes channels."""
        for node in graph.nodes:
            kind = _kind(network, node)
            if kind not in _MAKERS:
                continue
            users = list(node.users)
            answer = len(users) == 1 and _kind(network, users[0]) in BATCH_OR_INSTANCE_NORMS
            self._note(str(node.target), network.get_submodule(str(node.target)), answer)

    def bias(self, key: str) -> bool:
        """Whether this is a bias without effect."""
        return self._biases.get(self._book.canonical(key), False)

    def filter_axis(self, key: str) -> int | None:
        """The axis of filters of which only the direction matters; None if there is none."""
        answers = self._filters.get(self._book.canonical(key), {})
        return next(iter(answers), None) if all(answers.values()) else None

    def _note(self, name: str, layer: nn.Module, answer: bool) -> None:
        names = weight_names(layer) or WeightNames("weight")
        axis = 1 if type_before_parametrizations(layer) in TRANSPOSED_CONVOLUTIONS else 0
        weight = self._book.canonical(f"{name}.{names.weight}")
        axes = self._filters.setdefault(weight, {})
        axes[axis] = axes.get(axis, True) and answer
        if layer.bias is not None:
            bias = self._book.canonical(f"{name}.bias")
            self._biases[bias] = self._biases.get(bias, True) and answer


def _kind(network: nn.Module, node: fx.Node) -> type | None:
    if node.op != "call_module":
        return None
    return type_before_parametrizations(network.get_submodule(str(node.target)))
