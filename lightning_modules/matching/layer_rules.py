"""What each layer of torch.nn does to channels, and whose channels its tensors hold.

A layer of another type, or one that is used in another way, pins all channels that it touches.

Spectral normalisation is known in both forms that torch has. It divides the weight W by an
estimate u^T W v of its largest singular value (Miyato et al., ICLR 2018, arXiv:1802.05957), W
being flattened to filters x rest. A permutation of W's channels permutes u and v with it and
leaves the estimate as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from typing import Any

from torch import fx, nn
from torch.nn.utils import parametrizations
from torch.nn.utils.parametrize import is_parametrized, type_before_parametrizations
from torch.nn.utils.spectral_norm import SpectralNorm

from lightning_modules.matching.channel_flow import Flow, Layout, Runs, Value
from lightning_modules.matching.operation_rules import (
    OperationRule,
    per_channel,
    pointwise,
    reshaped,
)
from lightning_modules.matching.tracing import BATCH_OR_INSTANCE_NORMS

_CONVOLUTIONS: dict[type[nn.Module], int] = {nn.Conv1d: 1, nn.Conv2d: 2, nn.Conv3d: 3}
_TRANSPOSED_CONVOLUTIONS: dict[type[nn.Module], int] = {
    nn.ConvTranspose1d: 1,
    nn.ConvTranspose2d: 2,
    nn.ConvTranspose3d: 3,
}
# Convolution -> number of spatial axes of its images.
SPATIAL_AXES = _CONVOLUTIONS | _TRANSPOSED_CONVOLUTIONS
_LAST_AXIS_NORMS = (nn.LayerNorm, nn.RMSNorm)

# The same to every entry, whatever its place: any axis may hold the channels.
_POINTWISE = (
    *(nn.Identity, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.RReLU, nn.ELU, nn.CELU, nn.SELU),
    *(nn.GELU, nn.SiLU, nn.Mish, nn.Tanh, nn.Sigmoid, nn.LogSigmoid, nn.Softplus),
    *(nn.Hardtanh, nn.Hardsigmoid, nn.Hardswish, nn.Hardshrink, nn.Softshrink, nn.Tanhshrink),
    *(nn.Softsign, nn.Threshold, nn.Dropout, nn.AlphaDropout),
)
# Every channel by itself, along all spatial axes that there are.
_CHANNEL_DROPOUTS = (nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.FeatureAlphaDropout)
_UPSAMPLING = (nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d)
# Every channel by itself, along as many spatial axes as the layer's name says.
_POOLS = ("MaxPool", "AvgPool", "AdaptiveMaxPool", "AdaptiveAvgPool")
_PADS = ("ReflectionPad", "ReplicationPad", "ZeroPad", "ConstantPad", "CircularPad")

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
    axes = (1, 0) if kind in _TRANSPOSED_CONVOLUTIONS else (0, 1)
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
    flow.book.write_output(weight, axes[0], made)
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


def _as_operation(rule: OperationRule) -> LayerRule:
    """The rule for a layer that holds no tensors and does what a function does."""
    return lambda flow, node, layer: rule(flow, node)


@dataclass(frozen=True)
class WeightNames:
    """Names of the tensors that make up a layer's weight, within the layer.

    Attributes:
        weight: the tensor of the weight's shape.
        left: the vector over axis ``axis`` of the weight; None without spectral normalisation.
        right: the vector over the other axes, flattened.
        axis: the weight's axis whose entries are the rows of the flattened weight.
    """

    weight: str
    left: str | None = None
    right: str | None = None
    axis: int = 0


def weight_names(layer: nn.Module) -> WeightNames | None:
    """How a layer holds its weight; None if more than spectral normalisation changes the weight."""
    hooks = [*layer._forward_pre_hooks.values(), *layer._forward_hooks.values()]
    if "forward" in vars(layer):
        return None
    if is_parametrized(layer):
        return None if hooks else _parametrized(layer)
    if not hooks:
        return WeightNames("weight")
    if len(hooks) == 1 and isinstance(hooks[0], SpectralNorm) and hooks[0].name == "weight":
        return WeightNames("weight_orig", "weight_u", "weight_v", hooks[0].dim)
    return None


def _parametrized(layer: nn.Module) -> WeightNames | None:
    lists: Any = layer.parametrizations
    if set(lists.keys()) != {"weight"} or len(lists["weight"]) != 1:
        return None
    norm = lists["weight"][0]
    if not isinstance(norm, parametrizations._SpectralNorm):
        return None
    prefix = "parametrizations.weight"
    return WeightNames(f"{prefix}.original", f"{prefix}.0._u", f"{prefix}.0._v", norm.dim)


_RULES: dict[type[nn.Module], LayerRule] = {
    **dict.fromkeys(SPATIAL_AXES, _convolution),
    nn.Linear: _linear,
    **dict.fromkeys(BATCH_OR_INSTANCE_NORMS, _batch_or_instance_norm),
    nn.GroupNorm: _group_norm,
    **dict.fromkeys(_LAST_AXIS_NORMS, _last_axis_norm),
    nn.PReLU: _prelu,
    **dict.fromkeys(_POINTWISE, _as_operation(pointwise)),
    **dict.fromkeys((*_CHANNEL_DROPOUTS, *_UPSAMPLING), _as_operation(per_channel)),
    **{
        getattr(nn, f"{name}{rank}d"): _as_operation(partial(per_channel, rank=rank))
        for name in (*_POOLS, *_PADS)
        for rank in (1, 2, 3)
    },
    nn.Flatten: _as_operation(reshaped),
}
