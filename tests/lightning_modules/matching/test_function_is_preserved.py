"""Permuting a channel group leaves the function as it was; leaving out any one axis does not."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from matching_networks import NETWORKS, Case, invert, load, state_of
from torch import Tensor, nn

from lightning_modules.matching.channel_groups import ChannelGroups, Segment
from lightning_modules.matching.permutations import Permutations, identity, permute

CASES = pytest.mark.parametrize("case", NETWORKS.values(), ids=NETWORKS.keys())
MODES = pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])


def _output(network: nn.Module, inputs: tuple[Tensor, ...], training: bool) -> Tensor:
    """Output in float64; a training pass would move statistics, so it works on buffers' copies."""
    network.train(training)
    for module in network.modules():
        # Dropout draws by place, so it keeps the function only in distribution.
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with torch.no_grad():
        output: Tensor = network(*inputs)
    network.load_state_dict(before)
    return output


def _difference(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max() / one.abs().max())


def _shift(groups: ChannelGroups, group: str) -> Permutations:
    """Every channel of one group moves."""
    return {group: np.roll(np.arange(groups.sizes[group]), 1)}


@MODES
@CASES
def test_i2_permuting_any_single_group_keeps_the_function(case: Case, training: bool) -> None:
    network = case.network()
    state, inputs = state_of(network), case.inputs()
    groups = case.groups_found()
    expected = _output(network, inputs, training)
    assert expected.std() > 1e-3
    for group in groups.order:
        load(network, permute(state, groups, _shift(groups, group)))
        assert _difference(expected, _output(network, inputs, training)) < 1e-12, group


def _entries(groups: ChannelGroups) -> Iterator[tuple[str, int, int, str]]:
    """Every place where a group stands: key, axis, position of the segment, group."""
    for key, axes in groups.axes.items():
        for axis, segments in axes.items():
            for position, segment in enumerate(segments):
                if segment.group is not None:
                    yield key, axis, position, segment.group


def _without(groups: ChannelGroups, key: str, axis: int, position: int) -> ChannelGroups:
    segments = list(groups.axes[key][axis])
    segments[position] = Segment(None, segments[position].size, segments[position].width)
    axes = {**groups.axes, key: {**groups.axes[key], axis: tuple(segments)}}
    return dataclasses.replace(groups, axes=axes)


@CASES
def test_i3_leaving_out_any_single_axis_of_a_group_changes_the_function(case: Case) -> None:
    network = case.network()
    state, inputs = state_of(network), case.inputs()
    groups = case.groups_found()
    expected = _output(network, inputs, training=False)
    # Tied tensors move together or not at all.
    tied = {"one.weight", "two.weight"}
    checked = 0
    for key, axis, position, group in _entries(groups):
        if key in groups.dead_biases or key in tied:
            continue
        broken = _without(groups, key, axis, position)
        load(network, permute(state, broken, _shift(groups, group)))
        difference = _difference(expected, _output(network, inputs, training=False))
        assert difference > 1e-6, (key, axis, position)
        checked += 1
    assert checked >= 2 * len(groups.order)


@CASES
def test_i10_permuting_there_and_back_gives_the_state_bit_for_bit(case: Case) -> None:
    network = case.network()
    state = state_of(network)
    groups = case.groups_found()
    there = {group: np.roll(p, 1) for group, p in identity(groups).items()}
    back = permute(permute(state, groups, there), groups, invert(there))
    assert all(np.array_equal(back[key], state[key]) for key in state)


@CASES
def test_i13_channels_of_inputs_and_outputs_never_move(case: Case) -> None:
    # Function evaluation with one output channel at a time would not see a swap of equal
    # channels, so this looks at the record: what stands next to the outside is in no group.
    network = case.network()
    groups = case.groups_found()
    with torch.no_grad():
        channels = network.eval()(*case.inputs()).shape[1]
    reasons = {pinned.reason: pinned for pinned in groups.pinned}
    read, made = reasons["network input"], reasons.get("network output")
    assert all(segment.group is None for segment in groups.axes[read.key][read.axis])
    if channels > 1 or made:
        assert made is not None
        segments = groups.axes[made.key][made.axis]
        assert all(segment.group is None for segment in segments)
        assert sum(segment.size for segment in segments) == channels


def test_i2_would_see_a_transposed_axis_a_wrong_offset_and_forgotten_statistics() -> None:
    """The check itself: three wrong records, each of which changes the function."""
    case = NETWORKS["U-Net, batch norm"]
    network = case.network()
    state, inputs = state_of(network), case.inputs()
    groups = case.groups_found()
    expected = _output(network, inputs, training=False)
    joined = "unet.model.1.submodule.2.conv.weight"
    mean = "unet.model.0.adn.N.running_mean"
    skip, up = groups.axes[joined][0]
    assert (skip.size, up.size) == (4, 5)
    wrong = {
        "offset": (joined, {0: (up, skip), 1: groups.axes[joined][1]}, up.group),
        "statistics": (mean, {0: (Segment(None, 3),)}, "unet.model.0.conv"),
    }
    for name, (key, axes, group) in wrong.items():
        broken = dataclasses.replace(groups, axes={**groups.axes, key: axes})
        load(network, permute(state, broken, _shift(groups, str(group))))
        assert _difference(expected, _output(network, inputs, training=False)) > 1e-6, name
