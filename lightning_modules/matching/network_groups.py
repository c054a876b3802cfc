"""Derive the channel groups of networks from their code.

A network is traced twice, in evaluation and in training mode, because some networks have branches
for training only. Both traces are walked with the same union of channels and the same book of axes,
so a group holds in both modes. torch.fx is asked first (``tracing``); a network that it cannot
follow is traced by torch.export (``exported_graph``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, fx, nn
from torch.nn.utils.parametrize import type_before_parametrizations

from lightning_modules.matching.channel_flow import (
    AxisBook,
    ChannelUnion,
    Fixed,
    Flow,
    Runs,
    Value,
)
from lightning_modules.matching.channel_groups import (
    NETWORK_OUTPUT,
    ChannelGroups,
    PinnedAxis,
    Segment,
)
from lightning_modules.matching.exported_graph import walk_exported
from lightning_modules.matching.layer_rules import SPATIAL_AXES, layer_value
from lightning_modules.matching.operation_rules import operation_value
from lightning_modules.matching.tracing import (
    BATCH_OR_INSTANCE_NORMS,
    UntraceableNetworkError,
    holds_tensor,
    known_value,
    traced_graph,
    without_data,
)
from lightning_modules.model_configuration import ModelConfig
from lightning_modules.networks.building import example_inputs

Bias = tuple[str, bool]
"""A bias, and whether a normalisation cancels it."""


def network_groups(
    networks: nn.ModuleDict,
    config: ModelConfig,
    names: Iterable[str],
    size: Sequence[int] | None = None,
) -> dict[str, ChannelGroups]:
    """The channel groups of several networks of a model; see ``channel_groups``.

    Args:
        networks: the model's networks.
        config: the model.
        names: the networks to trace.
        size: rows and columns of the prepared slices, at which they are traced: some networks take
            few sizes, or do different things at different ones. By default a small square.

    Raises:
        UntraceableNetworkError: a network cannot be traced.
    """
    return {
        name: channel_groups(networks[name], example_inputs(config, name, size)) for name in names
    }


def channel_groups(network: nn.Module, example_inputs: tuple[Any, ...]) -> ChannelGroups:
    """The channel groups of a network.

    Nothing is computed and the network is only read: shapes are propagated through a copy that
    holds no data. What the rules do not know is pinned, with the reason in the record; that is
    always right, because a pinned axis is averaged as FedAvg does.

    Args:
        network: any module of one ``forward``; wrappers that hold several networks have none.
        example_inputs: arguments of ``forward``; only shapes and types of tensors matter.

    Raises:
        UntraceableNetworkError: the code branches on values, refuses the inputs, or cannot be
            copied.
    """
    copy = without_data(network)
    try:
        return _groups(copy, example_inputs, _walk_traced)
    except UntraceableNetworkError as refusal:
        try:
            # Anew: the first tracer leaves constants of the code in the copy that it traced.
            return _groups(without_data(network), example_inputs, walk_exported)
        except UntraceableNetworkError as second:
            raise UntraceableNetworkError(
                f"{refusal}; {second}; use FedAvg for this network"
            ) from second


def _groups(
    copy: nn.Module, example_inputs: tuple[Any, ...], walk: Callable[..., Iterator[Bias]]
) -> ChannelGroups:
    inputs = tuple(v.to("meta") if isinstance(v, Tensor) else v for v in example_inputs)
    union = ChannelUnion()
    book = AxisBook(copy, union)
    cancelled: dict[str, bool] = {}
    for training in (False, True):
        copy.train(training)
        # A tensor that several layers share is cancelled only if it is in all of them.
        for key, answer in walk(Flow(copy, union, book), copy, inputs):
            cancelled[key] = cancelled.get(key, True) and answer
    dead = frozenset(key for key, answer in cancelled.items() if answer)
    return _record(copy, union, book, dead)


def _walk_traced(flow: Flow, network: nn.Module, inputs: tuple[Any, ...]) -> Iterator[Bias]:
    graph = traced_graph(network, inputs)
    for node in graph.nodes:
        flow.values[node] = _node_value(flow, node)
    yield from _biases(network, graph, flow.book)


def _node_value(flow: Flow, node: fx.Node) -> Value:
    if node.op == "placeholder":
        return Fixed("network input")
    if node.op == "output":
        return flow.refuse(node, NETWORK_OUTPUT)
    if node.op == "get_attr":
        if any(holds_tensor(known_value(user)) or user.op == "output" for user in node.users):
            flow.book.pin(str(node.target), "used outside of a layer")
        return Fixed("a tensor used outside of a layer")
    if not holds_tensor(known_value(node)):
        return Fixed("no tensor")
    if node.op == "call_module":
        return layer_value(flow, node)
    return operation_value(flow, node)


def _biases(network: nn.Module, graph: fx.Graph, book: AxisBook) -> Iterator[tuple[str, bool]]:
    """Every bias, and whether its layer's output goes into a normalisation and no further.

    An instance or batch normalisation subtracts each channel's mean, so that a bias directly in
    front of it has no effect.
    """
    for node in graph.nodes:
        if _layer_type(network, node) not in {*SPATIAL_AXES, nn.Linear}:
            continue
        if network.get_submodule(str(node.target)).bias is None:
            continue
        users = list(node.users)
        cancelled = len(users) == 1 and _layer_type(network, users[0]) in BATCH_OR_INSTANCE_NORMS
        yield book.canonical(f"{node.target}.bias"), cancelled


def _layer_type(network: nn.Module, node: fx.Node) -> type | None:
    if node.op != "call_module":
        return None
    return type_before_parametrizations(network.get_submodule(str(node.target)))


def _record(
    network: nn.Module, union: ChannelUnion, book: AxisBook, dead: frozenset[str]
) -> ChannelGroups:
    axes = book.close()
    keys = list(network.state_dict())
    parameters = {key for key, _ in network.named_parameters(remove_duplicate=False)}
    movable = _movable(union, axes)
    return ChannelGroups(
        axes={
            key: {axis: _segments(union, axes[key][axis]) for axis in sorted(axes[key])}
            for key in keys
            if key in axes
        },
        sizes={union.name(run): run.size for run in movable},
        order=tuple(union.name(run) for run in movable),
        pinned=tuple(
            PinnedAxis(key, axis, reason)
            for key in keys
            for axis in sorted(axes.get(key, {}))
            if (reason := _first_reason(union, axes[key][axis])) is not None
        ),
        scalars=tuple(key for key in keys if key not in axes),
        dead_biases=tuple(key for key in keys if key in axes and book.canonical(key) in dead),
        buffers=tuple(key for key in keys if key in axes and key not in parameters),
        outputs={key: axis for key, axis in book.outputs().items() if axis in axes.get(key, {})},
    )


def _movable(union: ChannelUnion, axes: Mapping[str, Mapping[int, Runs]]) -> Runs:
    """One run of each set of channels that may be permuted, in forward order."""
    runs = [run for of_key in axes.values() for of_axis in of_key.values() for run in of_axis]
    free = {union.root(run.channels): run for run in runs if union.reason(run) is None}
    return tuple(free[number] for number in sorted(free))


def _segments(union: ChannelUnion, runs: Runs) -> tuple[Segment, ...]:
    return tuple(
        Segment(None if union.reason(run) is not None else union.name(run), run.size, run.width)
        for run in runs
    )


def _first_reason(union: ChannelUnion, runs: Runs) -> str | None:
    reasons = (union.reason(run) for run in runs)
    return next((reason for reason in reasons if reason is not None), None)
