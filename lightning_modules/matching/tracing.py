"""Derive a network's channel groups from its code.

The network is traced twice, in evaluation and in training mode, because some networks have
branches for training only; both traces write into the same book, so a group holds in both modes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, fx, nn

from lightning_modules.matching.axis_book import AxisBook
from lightning_modules.matching.cancelled_scales import CancelledScales
from lightning_modules.matching.channel_groups import ChannelGroups, PinnedAxis, Segment
from lightning_modules.matching.channel_union import ChannelUnion
from lightning_modules.matching.flow import Flow, holds_tensor, known_value
from lightning_modules.matching.layer_rules import layer_value
from lightning_modules.matching.layouts import Fixed, Runs, Value
from lightning_modules.matching.operation_rules import operation_value
from lightning_modules.matching.shape_tracer import traced_graph, without_data


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
    inputs = tuple(v.to("meta") if isinstance(v, Tensor) else v for v in example_inputs)
    union = ChannelUnion()
    book = AxisBook(copy, union)
    cancelled = CancelledScales(book)
    for training in (False, True):
        copy.train(training)
        graph = traced_graph(copy, inputs)
        _walk(Flow(copy, union, book), graph)
        cancelled.note(copy, graph)
    return _record(copy, union, book.close(), cancelled)


def _walk(flow: Flow, graph: fx.Graph) -> None:
    for node in graph.nodes:
        flow.values[node] = _node_value(flow, node)


def _node_value(flow: Flow, node: fx.Node) -> Value:
    if node.op == "placeholder":
        return Fixed("network input")
    if node.op == "output":
        return flow.refuse(node, "network output")
    if node.op == "get_attr":
        if any(holds_tensor(known_value(user)) or user.op == "output" for user in node.users):
            flow.book.pin(str(node.target), "used outside of a layer")
        return Fixed("a tensor used outside of a layer")
    if not holds_tensor(known_value(node)):
        return Fixed("no tensor")
    if node.op == "call_module":
        return layer_value(flow, node)
    return operation_value(flow, node)


def _record(
    network: nn.Module,
    union: ChannelUnion,
    axes: Mapping[str, Mapping[int, Runs]],
    cancelled: CancelledScales,
) -> ChannelGroups:
    all_runs = [run for of_key in axes.values() for runs in of_key.values() for run in runs]
    free = {union.root(run.channels): run for run in all_runs if union.reason(run) is None}
    movable = [free[number] for number in sorted(free)]
    keys = list(network.state_dict())
    parameters = {key for key, _ in network.named_parameters(remove_duplicate=False)}
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
        dead_biases=tuple(key for key in keys if key in axes and cancelled.bias(key)),
        scale_free={
            key: axis
            for key in keys
            if key in axes and (axis := cancelled.filter_axis(key)) is not None
        },
        buffers=tuple(key for key in keys if key in axes and key not in parameters),
    )


def _segments(union: ChannelUnion, runs: Runs) -> tuple[Segment, ...]:
    return tuple(
        Segment(None if union.reason(run) is not None else union.name(run), run.size, run.width)
        for run in runs
    )


def _first_reason(union: ChannelUnion, runs: Runs) -> str | None:
    reasons = (union.reason(run) for run in runs)
    return next((reason for reason in reasons if reason is not None), None)
