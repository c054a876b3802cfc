"""What functions and tensor methods do to channels."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from lightning_modules.matching.channel_flow import Fixed, Flow, Layout, Value
from lightning_modules.matching.tracing import known_value

OperationRule = Callable[[Flow, fx.Node], Value]

# Names of functions and of methods; in-place variants have an underscore at the end.
_POINTWISE = (
    *("relu", "relu6", "leaky_relu", "rrelu", "elu", "celu", "selu", "gelu", "silu", "mish"),
    *("tanh", "sigmoid", "logsigmoid", "log_sigmoid", "softplus", "hardtanh", "hardsigmoid"),
    *("hardswish", "softsign", "dropout", "alpha_dropout", "abs", "neg", "exp", "sqrt", "square"),
    *("clamp", "add", "sub", "mul", "div", "true_divide", "pow", "maximum", "minimum", "clone"),
    "detach",
)
_OPERATORS = ("add", "sub", "mul", "truediv", "pow", "neg", "abs")
_CASTS = ("contiguous", "to", "type", "float", "half", "double", "bfloat16", "cpu", "cuda")
_RESHAPING = ("flatten", "reshape", "view", "squeeze", "unsqueeze", "unflatten")
_POOLS = ("max_pool", "avg_pool", "adaptive_max_pool", "adaptive_avg_pool")
_CONCATENATIONS = ("cat", "concat", "concatenate")
_CHANNEL_DROPOUTS = ("dropout1d", "dropout2d", "dropout3d", "feature_alpha_dropout")


def operation_value(flow: Flow, node: fx.Node) -> Value:
    """Where channels stand after a function or method; unknown ones pin what they touch."""
    rules: dict[Any, OperationRule] = _METHODS if node.op == "call_method" else _FUNCTIONS
    rule = rules.get(node.target)
    if rule is None or not isinstance(known_value(node), Tensor):
        name = node.target if isinstance(node.target, str) else node.target.__name__
        return flow.refuse(node, f"operation '{name}' is not known to keep channels apart")
    return rule(flow, node)


def pointwise(flow: Flow, node: fx.Node) -> Value:
    """Entries at the same place are combined; axes of length 1 are broadcast."""
    sources = flow.tensors(node)
    ndim = len(flow.shape(node))
    shift = {source: ndim - len(flow.shape(source)) for source in sources}
    values = {source: flow.values[source] for source in sources}
    axes = {v.axis + shift[s] for s, v in values.items() if isinstance(v, Layout)}
    if not axes:
        return values[sources[0]]
    if len(axes) > 1:
        return flow.refuse(node, "channels on different axes meet")
    axis = axes.pop()
    length = flow.shape(node)[axis]
    meeting = [
        flow.runs_on(source, axis - shift[source])
        for source in sources
        if axis >= shift[source] and flow.shape(source)[axis - shift[source]] == length
    ]
    return Layout(axis, flow.unite(meeting))


def per_channel(flow: Flow, node: fx.Node, rank: int | None = None) -> Value:
    """An image (batch, channels, *rank spatial axes) becomes one of as many channels.

    Args:
        flow: the walk.
        node: a node with one input.
        rank: number of spatial axes that the operation works on; None for all that there are.
    """
    source = flow.single_input(node)
    if source is None:
        return flow.refuse(node, "operation of several images")
    value, ndim = flow.values[source], len(flow.shape(source))
    if isinstance(value, Layout) and (value.axis != 1 or ndim < 3 or rank not in (None, ndim - 2)):
        return flow.refuse(node, "spatial operation along the axis of channels")
    return value


def reshaped(flow: Flow, node: fx.Node) -> Value:
    """A reshape that leaves the channel axis alone, or flattens all axes from there on."""
    source = flow.single_input(node)
    if source is None:
        return flow.refuse(node, "reshape of several tensors")
    value, before, after = flow.values[source], flow.shape(source), flow.shape(node)
    if isinstance(value, Fixed):
        return value
    axis = value.axis
    if after[: axis + 1] == before[: axis + 1]:
        return value
    if after == (*before[:axis], prod(before[axis:])):
        inside = prod(before[axis + 1 :])
        return Layout(axis, tuple(replace(r, width=r.width * inside) for r in value.runs))
    return flow.refuse(node, "reshape of channels")


def concatenated(flow: Flow, node: fx.Node) -> Value:
    """Channels side by side, or channels that meet because another axis is concatenated."""
    tensors = node.args[0] if node.args else node.kwargs.get("tensors")
    dim = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", node.kwargs.get("axis", 0))
    if not isinstance(tensors, tuple | list) or not isinstance(dim, int):
        return flow.refuse(node, "concatenation of an unknown list")
    sources = [source for source in tensors if isinstance(source, fx.Node)]
    values = [flow.values[source] for source in sources]
    axes = {value.axis for value in values if isinstance(value, Layout)}
    if not axes:
        return values[0]
    if len(axes) > 1:
        return flow.refuse(node, "channels on different axes meet")
    axis = axes.pop()
    all_runs = [flow.runs_on(source, axis) for source in sources]
    if dim % len(flow.shape(node)) == axis:
        return Layout(axis, tuple(run for runs in all_runs for run in runs))
    return Layout(axis, flow.unite(all_runs))


def _sliced(flow: Flow, node: fx.Node) -> Value:
    """An image cropped along axes other than the channels'."""
    source, index = node.args
    if flow.single_input(node) is not source or not isinstance(source, fx.Node):
        return flow.refuse(node, "one of several results")
    value = flow.values[source]
    if isinstance(value, Fixed):
        return value
    slices = index if isinstance(index, tuple) else (index,)
    whole = len(slices) <= value.axis or slices[value.axis] == slice(None)
    if whole and all(isinstance(part, slice) for part in slices):
        return value
    return flow.refuse(node, "indexing of channels")


def padded(flow: Flow, node: fx.Node) -> Value:
    """An image with more entries on its spatial axes."""
    pad = node.args[1] if len(node.args) > 1 else node.kwargs.get("pad")
    source = flow.tensors(node)[0]
    value = flow.values[source]
    spatial = 2 * (len(flow.shape(source)) - 2)
    if isinstance(value, Layout) and not (
        value.axis == 1 and isinstance(pad, tuple | list) and len(pad) <= spatial
    ):
        return flow.refuse(node, "padding along the axis of channels")
    return value


def _functions(names: tuple[str, ...], rule: OperationRule) -> dict[Any, OperationRule]:
    """The rule for every function of torch that has one of these names."""
    places = (torch, F, torch._C._nn)
    found = (getattr(p, n + end, None) for p in places for n in names for end in ("", "_"))
    return {function: rule for function in found if function is not None}


def _methods(names: tuple[str, ...], rule: OperationRule) -> dict[Any, OperationRule]:
    return {name + end: rule for name in names for end in ("", "_")}


_FUNCTIONS: dict[Any, OperationRule] = {
    **_functions(_POINTWISE, pointwise),
    **{getattr(operator, name): pointwise for name in _OPERATORS},
    **_functions(_RESHAPING, reshaped),
    **_functions(_CONCATENATIONS, concatenated),
    **_functions(("interpolate", *_CHANNEL_DROPOUTS), per_channel),
    **{
        function: rule
        for rank in (1, 2, 3)
        for function, rule in _functions(
            tuple(f"{name}{rank}d" for name in _POOLS), partial(per_channel, rank=rank)
        ).items()
    },
    F.pad: padded,
    operator.getitem: _sliced,
}
_METHODS: dict[Any, OperationRule] = {
    **_methods((*_POINTWISE, *_CASTS), pointwise),
    **_methods(_RESHAPING, reshaped),
}
