"""Whose channels stand where, from torch.export's graph: for networks that torch.fx cannot follow.

torch.fx runs a network's code on proxies and is misled by code that asks whether a value is a
tensor, as blocks of MONAI do. torch.export runs it on tensors without data and records the
operations below torch.nn, so that nothing can be left out. It takes seconds where torch.fx takes a
fraction of one, and is asked second. It fixes every size to that of the example.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from lightning_modules.matching.channel_flow import AxisBook, Fixed, Flow, Layout, Runs, Value
from lightning_modules.matching.channel_groups import NETWORK_OUTPUT
from lightning_modules.matching.operation_rules import (
    concatenated,
    padded,
    per_channel,
    pointwise,
    reshaped,
)
from lightning_modules.matching.tracing import (
    UntraceableNetworkError,
    first_sentence,
)

Keys = Mapping[fx.Node, str]
"""The inputs of the graph that are tensors of the state_dict, by key."""
Rule = Callable[[Flow, fx.Node, Keys], Value]

_CONVOLUTIONS = {"conv1d": 1, "conv2d": 2, "conv3d": 3}
_TRANSPOSED = {f"conv_transpose{rank}d": rank for rank in (1, 2, 3)}
_NORMS = ("instance_norm", "batch_norm")
_UNCHANGED = (
    *("relu", "relu6", "leaky_relu", "rrelu", "elu", "celu", "selu", "gelu", "silu", "mish"),
    *("tanh", "sigmoid", "log_sigmoid", "softplus", "hardtanh", "hardsigmoid", "hardswish"),
    *("dropout", "alpha_dropout", "feature_dropout", "abs", "neg", "exp", "sqrt", "square"),
    *("clamp", "floor", "sin", "cos", "clone", "contiguous", "to", "_to_copy", "alias", "detach"),
    *("detach_", "lift_fresh_copy"),
    *("add", "sub", "rsub", "mul", "div", "pow", "maximum", "minimum"),
)
_POOLS = tuple(
    f"{kind}pool{rank}d"
    for kind in ("max_", "avg_", "adaptive_max_", "adaptive_avg_")
    for rank in (1, 2, 3)
)
_UPSAMPLING = (
    *(f"upsample_nearest{rank}d" for rank in (1, 2, 3)),
    *("upsample_linear1d", "upsample_bilinear2d", "upsample_bicubic2d", "upsample_trilinear3d"),
)


def walk_exported(
    flow: Flow, network: nn.Module, example_inputs: tuple[Any, ...]
) -> Iterator[tuple[str, bool]]:
    """Walk the graph of a network in its present mode.

    Args:
        flow: receives the layouts; its book and union receive what tensors hold.
        network: on the meta device.
        example_inputs: arguments of ``forward``, tensors on the meta device.

    Yields:
        Every bias, and whether its layer's output goes into a normalisation and no further.

    Raises:
        UntraceableNetworkError: torch.export cannot follow the code.
    """
    graph, keys = _exported(network, example_inputs)
    for node in graph.nodes:
        node.meta["value"] = node.meta.get("val")
        flow.values[node] = _value(flow, node, keys)
    yield from _biases(graph, keys, flow.book)


def _exported(network: nn.Module, example_inputs: tuple[Any, ...]) -> tuple[fx.Graph, Keys]:
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about dispatch and deprecations inside torch
            # Tensors that the code makes for itself must hold no data either.
            with torch.device("meta"):
                program = torch.export.export(network, example_inputs)
    except Exception as error:  # torch.export raises many unrelated types
        raise UntraceableNetworkError(
            f"torch.export cannot follow it either ({first_sentence(error)})"
        ) from error
    signature = program.graph_signature
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    found = {node: names[node.name] for node in program.graph.nodes if node.name in names}
    return program.graph, found


def _value(flow: Flow, node: fx.Node, keys: Keys) -> Value:
    if node.op == "placeholder":
        return Fixed("a tensor used outside of a layer" if node in keys else "network input")
    if node.op == "output":
        return flow.refuse(node, NETWORK_OUTPUT)
    name = _name(node)
    rule = _LAYERS.get(name)
    if rule is not None:
        return rule(flow, node, keys)
    for source in node.all_input_nodes:
        if source in keys and isinstance(node.meta["value"], Tensor):
            flow.book.pin(keys[source], "used outside of a layer")
    operation = _OPERATIONS.get(name)
    if not isinstance(node.meta["value"], Tensor):
        return Fixed("no tensor") if node.meta["value"] is None else _unknown(flow, node)
    if operation is None or not flow.tensors(node):
        return _unknown(flow, node)
    return operation(flow, node)


def _unknown(flow: Flow, node: fx.Node) -> Fixed:
    return flow.refuse(node, f"operation '{_name(node)}' is not known to keep channels apart")


def _convolution(flow: Flow, node: fx.Node, keys: Keys) -> Value:
    given = _arguments(node)
    source, weight = given["input"], keys.get(given["weight"])
    name = _name(node)
    rank = {**_CONVOLUTIONS, **_TRANSPOSED}[name]
    if weight is None or len(flow.shape(source)) != rank + 2:
        return _refused(flow, node, keys, "convolution with a computed weight or without a batch")
    if given["groups"] != 1:
        return _depthwise(flow, node, keys)
    made, read = (1, 0) if name in _TRANSPOSED else (0, 1)
    runs = _new_channels(flow, weight, made)
    flow.book.write(weight, read, flow.runs_on(source, 1))
    _write_bias(flow, given, keys, runs)
    return Layout(1, runs)


def _depthwise(flow: Flow, node: fx.Node, keys: Keys) -> Value:
    """One filter per channel rides on the channels; groups of several channels are pinned."""
    given = _arguments(node)
    shape = flow.book.shape(keys[given["weight"]])
    if (
        _name(node) in _TRANSPOSED
        or not given["groups"] == shape[0] == flow.shape(given["input"])[1]
    ):
        return _refused(flow, node, keys, "grouped convolution")
    runs = flow.runs_on(given["input"], 1)
    flow.book.write(keys[given["weight"]], 0, runs)
    _write_bias(flow, given, keys, runs)
    return Layout(1, runs)


def _linear(flow: Flow, node: fx.Node, keys: Keys) -> Value:
    given = _arguments(node)
    source, weight = given["input"], keys.get(given["weight"])
    last, value = len(flow.shape(source)) - 1, flow.values[source]
    if weight is None or (isinstance(value, Layout) and value.axis != last):
        return _refused(flow, node, keys, "linear layer over an axis without channels")
    runs = _new_channels(flow, weight, 0)
    flow.book.write(weight, 1, flow.runs_on(source, last))
    _write_bias(flow, given, keys, runs)
    return Layout(last, runs)


def _norm(flow: Flow, node: fx.Node, keys: Keys) -> Value:
    return _riding(flow, node, keys, 1)


def _group_norm(flow: Flow, node: fx.Node, keys: Keys) -> Value:
    given = _arguments(node)
    if given["num_groups"] in (1, flow.shape(given["input"])[1]):
        return _riding(flow, node, keys, 1)
    return _refused(flow, node, keys, "group normalisation with several groups")


def _layer_norm(flow: Flow, node: fx.Node, keys: Keys) -> Value:
    given = _arguments(node)
    if len(given["normalized_shape"]) > 1:
        return _refused(flow, node, keys, "normalisation over more than the channel axis")
    return _riding(flow, node, keys, len(flow.shape(node)) - 1)


def _prelu(flow: Flow, node: fx.Node, keys: Keys) -> Value:
    given = _arguments(node)
    if given["weight"] in keys and flow.book.shape(keys[given["weight"]]).numel() == 1:
        flow.book.write_scalar(keys[given["weight"]])
        return flow.values[_source(node)]
    return _riding(flow, node, keys, 1)


def _riding(flow: Flow, node: fx.Node, keys: Keys, axis: int) -> Value:
    source = _source(node)
    value = flow.values[source]
    if isinstance(value, Layout) and value.axis != axis:
        return _refused(flow, node, keys, "a layer per channel along an axis without channels")
    for other in node.all_input_nodes:
        if other in keys:
            flow.book.write(keys[other], 0, flow.runs_on(source, axis))
        elif other is not source:
            return _refused(flow, node, keys, "a normalisation with computed weights")
    return value


def _refused(flow: Flow, node: fx.Node, keys: Keys, reason: str) -> Value:
    for source in node.all_input_nodes:
        if source in keys:
            flow.book.pin(keys[source], reason)
    return flow.refuse(node, reason)


def _new_channels(flow: Flow, weight: str, axis: int) -> Runs:
    layer = weight.rpartition(".")[0]
    runs = (flow.union.new(layer, flow.book.shape(weight)[axis]),)
    flow.book.write_output(weight, axis, runs)
    return runs


def _write_bias(flow: Flow, given: Mapping[str, Any], keys: Keys, runs: Runs) -> None:
    if given.get("bias") in keys:
        flow.book.write(keys[given["bias"]], 0, runs)


def _sliced(flow: Flow, node: fx.Node) -> Value:
    source = _source(node)
    value = flow.values[source]
    axis = node.args[1] if len(node.args) > 1 else 0
    same = flow.shape(source) == flow.shape(node)
    if isinstance(value, Layout) and axis == value.axis and not same:
        return flow.refuse(node, "indexing of channels")
    return value


def _biases(graph: fx.Graph, keys: Keys, book: AxisBook) -> Iterator[tuple[str, bool]]:
    for node in graph.nodes:
        if _name(node) not in {*_CONVOLUTIONS, *_TRANSPOSED, "linear"}:
            continue
        bias = _arguments(node).get("bias")
        if isinstance(bias, fx.Node) and bias in keys:
            users = list(node.users)
            yield book.canonical(keys[bias]), len(users) == 1 and _name(users[0]) in _NORMS


def _source(node: fx.Node) -> fx.Node:
    """The first argument, on which an operation or layer works."""
    first = node.args[0]
    if not isinstance(first, fx.Node):
        raise TypeError(f"{node}: does not begin with a tensor")
    return first


def _arguments(node: fx.Node) -> dict[str, Any]:
    """What an operation is called with, by the names of its schema."""
    target: Any = node.target
    return {
        argument.name: node.args[place]
        if place < len(node.args)
        else node.kwargs.get(argument.name, argument.default_value)
        for place, argument in enumerate(target._schema.arguments)
    }


def _name(node: fx.Node) -> str:
    """``conv2d`` for ``aten.conv2d.default``; in-place variants bear the plain name."""
    target: Any = node.target
    if not isinstance(target, torch._ops.OpOverload):
        return str(getattr(target, "__name__", target))
    name: str = target._schema.name.partition("::")[2]
    return name if name.startswith("_") else name.rstrip("_")


_LAYERS: dict[str, Rule] = {
    **dict.fromkeys((*_CONVOLUTIONS, *_TRANSPOSED), _convolution),
    "linear": _linear,
    **dict.fromkeys(_NORMS, _norm),
    "group_norm": _group_norm,
    "layer_norm": _layer_norm,
    "prelu": _prelu,
}
_OPERATIONS: dict[str, Callable[[Flow, fx.Node], Value]] = {
    **dict.fromkeys(_UNCHANGED, pointwise),
    **dict.fromkeys((*_POOLS, *_UPSAMPLING), per_channel),
    **dict.fromkeys(("reshape", "view", "flatten", "unsqueeze", "squeeze"), reshaped),
    **dict.fromkeys(("pad", "constant_pad_nd"), padded),
    "cat": concatenated,
    "slice": _sliced,
}
