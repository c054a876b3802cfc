"""What each layer of torch.nn does to channels, and whose channels its tensors hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any

from torch import fx, nn
from torch.nn.utils.parametrize import type_before_parametrizations

from lightning_modules.matching.flow import Flow
from lightning_modules.matching.layer_types import (
    BATCH_OR_INSTANCE_NORMS,
    DROPOUTS_OF_CHANNELS,
    LAST_AXIS_NORMS,
    POINTWISE,
    SPATIAL,
    SPATIAL_AXES,
    TRANSPOSED_CONVOLUTIONS,
    UPSAMPLING,
)
from lightning_modules.matching.layouts import Layout, Runs, Value
from lightning_modules.matching.operation_rules import per_channel, reshaped
from lightning_modules.matching.spectral_norm import WeightNames, weight_names

LayerRule = Callable[[Flow, fx.Node, Any], Value]


def layer_value(flow: Flow, node: fx.Node) -> Value:
    """Where channels stand after a layer; what the layer's tensors hold goes into the book."""
    layer = flow.network.get_submodule(str(node.target))
    kind = type_before_parametrizations(layer)
    rule = _RULES.get(kind)
    if rule is None or flow.single_input(node) is None:
        return _refused(flow, node, layer, f"{kind.__name__} is not known to keep channels apart")
    if weight_names(layer) is None:
        return _refused(
            flow,
            node,
            layer,
            f"{kind.__name__} with hooks, a parametrisation or a forward method of its own",
        )
    return rule(flow, node, layer)


def _refused(flow: Flow, node: fx.Node, layer: Any, reason: str) -> Value:
    for name in layer.state_dict():
        flow.book.pin(f"{node.target}.{name}", reason)
    return flow.refuse(node, reason)


def _convolution(flow: Flow, node: fx.Node, layer: Any) -> Value:
    kind = type_before_parametrizations(layer)
    source = flow.tensors(node)[0]
    if layer.groups != 1:
        return _refused(flow, node, layer, "grouped convolution")
    if len(flow.shape(source)) != SPATIAL_AXES[kind] + 2:
        return _refused(flow, node, layer, "convolution of an image without a batch axis")
    # torch keeps the weights of transposed convolutions as [in, out, ...].
    axes = (1, 0) if kind in TRANSPOSED_CONVOLUTIONS else (0, 1)
    return Layout(1, _new_channels(flow, node, layer, flow.runs_on(source, 1), axes))


def _linear(flow: Flow, node: fx.Node, layer: Any) -> Value:
    source = flow.tensors(node)[0]
    last = len(flow.shape(source)) - 1
    value = flow.values[source]
    if isinstance(value, Layout) and value.axis != last:
        return _refused(flow, node, layer, "linear layer over an axis without channels")
    return Layout(last, _new_channels(flow, node, layer, flow.runs_on(source, last), (0, 1)))


def _new_channels(
    flow: Flow, node: fx.Node, layer: Any, incoming: Runs, axes: tuple[int, int]
) -> Runs:
    """Channels that a layer makes; ``axes`` are the weight's axes of filters and of inputs."""
    prefix, names = str(node.target), weight_names(layer) or WeightNames("weight")
    weight = f"{prefix}.{names.weight}"
    shape = flow.book.shape(weight)
    made = (flow.union.new(prefix, shape[axes[0]]),)
    flow.book.write(weight, axes[0], made)
    flow.book.write(weight, axes[1], incoming)
    if layer.bias is not None:
        flow.book.write(f"{prefix}.bias", 0, made)
    if names.left and names.right:
        rows, columns = (made, incoming) if names.axis == axes[0] else (incoming, made)
        kernel = prod(shape[2:])
        blocks = tuple(replace(run, width=run.width * kernel) for run in columns)
        flow.book.write(f"{prefix}.{names.left}", 0, rows)
        flow.book.write(f"{prefix}.{names.right}", 0, blocks)
    return made


def _batch_or_instance_norm(flow: Flow, node: fx.Node, layer: Any) -> Value:
    return _riding(flow, node, layer, axis=1)


def _group_norm(flow: Flow, node: fx.Node, layer: Any) -> Value:
    # One group looks at all channels alike; as many groups as channels are an instance norm.
    if layer.num_groups in (1, layer.num_channels):
        return _riding(flow, node, layer, axis=1)
    return _refused(flow, node, layer, "group normalisation with several groups")


def _last_axis_norm(flow: Flow, node: fx.Node, layer: Any) -> Value:
    if len(layer.normalized_shape) > 1:
        return _refused(flow, node, layer, "normalisation over more than the channel axis")
    return _riding(flow, node, layer, axis=len(flow.shape(node)) - 1)


def _prelu(flow: Flow, node: fx.Node, layer: Any) -> Value:
    if layer.num_parameters > 1:
        return _riding(flow, node, layer, axis=1)
    flow.book.write_scalar(f"{node.target}.weight")
    return flow.values[flow.tensors(node)[0]]


def _riding(flow: Flow, node: fx.Node, layer: Any, axis: int) -> Value:
    """A layer that treats every channel by itself and has an entry for it in each tensor."""
    source = flow.tensors(node)[0]
    value = flow.values[source]
    if isinstance(value, Layout) and value.axis != axis:
        return _refused(flow, node, layer, "a layer per channel along an axis without channels")
    for name, tensor in layer.state_dict().items():
        if tensor.ndim == 1:
            flow.book.write(f"{node.target}.{name}", 0, flow.runs_on(source, axis))
    return value


def _pointwise(flow: Flow, node: fx.Node, layer: Any) -> Value:
    return flow.values[flow.tensors(node)[0]]


def _spatial(flow: Flow, node: fx.Node, layer: Any) -> Value:
    return per_channel(flow, node, SPATIAL[type(layer)])


def _per_channel(flow: Flow, node: fx.Node, layer: Any) -> Value:
    return per_channel(flow, node, rank=None)


def _flatten(flow: Flow, node: fx.Node, layer: Any) -> Value:
    return reshaped(flow, node)


_RULES: dict[type[nn.Module], LayerRule] = {
    **dict.fromkeys(SPATIAL_AXES, _convolution),
    nn.Linear: _linear,
    **dict.fromkeys(BATCH_OR_INSTANCE_NORMS, _batch_or_instance_norm),
    nn.GroupNorm: _group_norm,
    **dict.fromkeys(LAST_AXIS_NORMS, _last_axis_norm),
    nn.PReLU: _prelu,
    **dict.fromkeys(POINTWISE, _pointwise),
    **dict.fromkeys(SPATIAL, _spatial),
    **dict.fromkeys((*DROPOUTS_OF_CHANNELS, *UPSAMPLING), _per_channel),
    nn.Flatten: _flatten,
}
