"""Deriving channel groups: which groups, what is pinned and why, and that nothing is disturbed."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from matching_networks import NETWORKS, REGISTERED, Case, flexible_unet, mlp
from torch import Tensor, nn

from fedi2i.errors import ConfigError
from lightning_modules.matching import network_groups as deriving
from lightning_modules.matching.channel_groups import ChannelGroups, Segment
from lightning_modules.matching.exported_graph import walk_exported
from lightning_modules.matching.network_groups import channel_groups
from lightning_modules.matching.tracing import UntraceableNetworkError, without_data

CASES = pytest.mark.parametrize("case", NETWORKS.values(), ids=NETWORKS.keys())
IMAGE = torch.zeros(1, 1, 8, 8)


def _reasons(groups: ChannelGroups, key: str) -> set[str]:
    return {pinned.reason for pinned in groups.pinned if pinned.key == key}


@CASES
def test_a_network_has_as_many_groups_as_counted_by_hand(case: Case) -> None:
    groups = case.groups_found()
    assert len(groups.order) == len(set(groups.order)) == case.groups
    assert set(groups.order) == set(groups.sizes)
    assert all(size > 1 for size in groups.sizes.values())


@CASES
def test_i11_every_key_is_in_the_groups_or_named_as_having_no_channels(case: Case) -> None:
    network = case.example()
    groups = case.groups_found()
    state = network.state_dict()
    assert set(groups.axes) | set(groups.scalars) == set(state)
    assert not set(groups.axes) & set(groups.scalars)
    for key, axes in groups.axes.items():
        for axis, segments in axes.items():
            assert sum(segment.entries for segment in segments) == state[key].shape[axis]
            pinned = any((p.key, p.axis) == (key, axis) for p in groups.pinned)
            assert pinned == any(segment.group is None for segment in segments)
    for key in groups.scalars:
        assert state[key].numel() == 1


@CASES
def test_i11_all_channel_axes_of_weights_are_in_the_groups(case: Case) -> None:
    network = case.example()
    groups = case.groups_found()
    for key, tensor in network.state_dict().items():
        if tensor.ndim > 1:
            assert set(groups.axes[key]) == {0, 1}, key
        elif tensor.numel() > 1:
            assert set(groups.axes[key]) == {0}, key


def test_groups_come_in_forward_order_and_are_called_after_the_layer_that_makes_them() -> None:
    case = REGISTERED["U-Net"]
    groups = case.groups_found()
    # Twice as many channels would be read by the layer above the skip: offset 4.
    assert groups.order == (
        "unet.model.0.conv",
        "unet.model.1.submodule.0.conv",
        "unet.model.1.submodule.1.submodule.conv",
        "unet.model.1.submodule.2.conv",
    )
    skip, below = Segment(groups.order[1], 4), Segment(groups.order[2], 5)
    assert groups.axes["unet.model.1.submodule.2.conv.weight"][0] == (skip, below)


def test_a_transposed_convolution_has_its_inputs_on_the_first_axis() -> None:
    network = nn.Sequential(nn.Conv2d(1, 3, 1), nn.ConvTranspose2d(3, 5, 2), nn.Conv2d(5, 2, 1))
    groups = channel_groups(network, (IMAGE,))
    assert groups.axes["1.weight"] == {0: (Segment("0", 3),), 1: (Segment("1", 5),)}
    assert groups.axes["1.bias"] == {0: (Segment("1", 5),)}
    assert groups.axes["2.weight"] == {0: (Segment(None, 2),), 1: (Segment("1", 5),)}


def test_the_residual_stream_is_one_group_and_inner_layers_have_their_own() -> None:
    case = REGISTERED["ResNet-9"]
    groups = case.groups_found()
    stream = groups.axes["down.1.0.weight"][0][0].group
    for block in range(9):
        assert groups.axes[f"blocks.{block}.layers.1.weight"][1][0].group == stream
        assert groups.axes[f"blocks.{block}.layers.6.weight"][0][0].group == stream
        assert groups.axes[f"blocks.{block}.layers.1.weight"][0][0].group != stream
    assert groups.axes["up.0.0.weight"][0][0].group == stream


def test_a_flattened_image_has_a_block_of_entries_per_channel() -> None:
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.Linear(108, 2))
    groups = channel_groups(network, (IMAGE,))
    assert groups.axes["2.weight"][1] == (Segment("0", 3, width=36),)


def test_biases_that_a_normalisation_cancels_are_named() -> None:
    network = nn.Sequential(
        *(nn.Conv2d(1, 3, 1), nn.InstanceNorm2d(3)),
        *(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.BatchNorm2d(4)),
        *(nn.ConvTranspose2d(4, 5, 1), nn.BatchNorm2d(5)),
        *(nn.Conv2d(5, 6, 1), nn.GroupNorm(1, 6)),
        *(nn.Conv2d(6, 7, 1, bias=False), nn.InstanceNorm2d(7), nn.Conv2d(7, 1, 1)),
    )
    groups = channel_groups(network, (IMAGE,))
    # Not 2 (an activation in between), 7 (looks at all channels at once), 9 (no bias), 11 (last).
    assert groups.dead_biases == ("0.bias", "5.bias")


def test_a_bias_that_goes_anywhere_else_as_well_is_not_cancelled() -> None:
    class Skips(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 3, 1)
            self.norm = nn.BatchNorm2d(3)
            self.last = nn.Conv2d(6, 1, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            return self.last(torch.cat([x, self.norm(x)], 1))

    assert channel_groups(Skips(), (IMAGE,)).dead_biases == ()


def test_a_tied_bias_is_cancelled_only_if_it_is_wherever_it_is_used() -> None:
    layers = [nn.Conv2d(1, 3, 1), nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)]
    layers[2].bias = layers[0].bias
    both = nn.Sequential(*layers, nn.Conv2d(3, 1, 1))
    assert channel_groups(both, (IMAGE,)).dead_biases == ("0.bias", "2.bias")
    first = nn.Sequential(*layers[:3], nn.ReLU(), nn.Conv2d(3, 1, 1))
    assert channel_groups(first, (IMAGE,)).dead_biases == ()
    second = nn.Sequential(layers[0], nn.ReLU(), *layers[2:], nn.Conv2d(3, 1, 1))
    assert channel_groups(second, (IMAGE,)).dead_biases == ()


def test_running_statistics_are_named_as_buffers() -> None:
    network = nn.Sequential(nn.Conv2d(1, 3, 1), nn.BatchNorm2d(3), nn.Conv2d(3, 1, 1))
    groups = channel_groups(network, (IMAGE,))
    assert groups.buffers == ("1.running_mean", "1.running_var")
    assert groups.scalars == ("1.num_batches_tracked",)


class _Around(nn.Module):
    """Two ordinary layers with something in between."""

    def __init__(self, *inside: nn.Module, read: int = 4) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.inside = nn.Sequential(*inside)
        self.second = nn.Conv2d(read, 6, 3, padding=1)
        self.last = nn.Conv2d(6, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.second(self.between(self.inside(self.first(x)))).relu())

    def between(self, x: Tensor) -> Tensor:
        return x


def _between(function: Any) -> type[_Around]:
    return type("Around", (_Around,), {"between": lambda self, x: function(x)})


class _OwnWeight(_Around):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4, 1, 1))

    def between(self, x: Tensor) -> Tensor:
        return x * self.scale


class _UsesAWeightTwice(_Around):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x), F.conv2d(x, self.first.weight)


class _Hooked(_Around):
    def __init__(self) -> None:
        super().__init__()
        self.first.register_forward_hook(lambda layer, inputs, output: output.flip(1))


def _patched() -> nn.Module:
    network = _Around()
    network.first.forward = lambda x: nn.Conv2d.forward(network.first, x).flip(1)
    return network


def _weight_normed() -> nn.Module:
    network = _Around()
    nn.utils.parametrizations.weight_norm(network.first)
    return network


class _TokenAttention(_Around):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def between(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        mixed, _ = self.attention(tokens, tokens, tokens)
        return mixed.transpose(1, 2).reshape(x.shape)


UNKNOWN = {
    "depthwise": (_Around(nn.Conv2d(4, 4, 3, padding=1, groups=4)), "grouped convolution"),
    "grouped": (_Around(nn.Conv2d(4, 4, 3, padding=1, groups=2)), "grouped convolution"),
    "group norm": (_Around(nn.GroupNorm(2, 4)), "group normalisation with several groups"),
    "pixel shuffle": (_Around(nn.PixelShuffle(2), read=1), "PixelShuffle is not known"),
    "softmax": (_Around(nn.Softmax(dim=1)), "Softmax is not known"),
    "channel norm": (_Around(nn.LayerNorm((4, 8, 8))), "normalisation over more than"),
    "flip": (_between(lambda x: x.flip(1))(), "operation 'flip' is not known"),
    "mean": (_between(lambda x: x - x.mean(1, keepdim=True))(), "operation 'mean' is not known"),
    "split": (_between(lambda x: torch.cat(x.chunk(2, 1)[::-1], 1))(), "operation 'chunk' is not"),
    "slice": (_between(lambda x: x[:, :2])(read=2), "indexing of channels"),
    "reverse": (_between(lambda x: x[:, [3, 2, 1, 0]])(), "indexing of channels"),
    "reshape": (_between(lambda x: x.view(1, 2, 2, 8, 8).flatten(1, 2))(), "reshape of channels"),
    "padding": (_between(lambda x: F.pad(x, (0, 0, 0, 0, 1, 1)))(read=6), "padding along"),
    "own weight": (_OwnWeight(), "used outside of a layer"),
    "weight used twice": (_UsesAWeightTwice(), "used outside of a layer"),
    "hook": (_Hooked(), "Conv2d with hooks, a parametrisation"),
    "patched": (_patched(), "a forward method of its own"),
    "weight norm": (_weight_normed(), "Conv2d with hooks, a parametrisation"),
    "attention": (_TokenAttention(), "operation 'transpose' is not known"),
}


@pytest.mark.parametrize(("network", "reason"), UNKNOWN.values(), ids=UNKNOWN.keys())
def test_what_the_rules_do_not_know_pins_the_groups_it_touches_and_no_others(
    network: nn.Module, reason: str
) -> None:
    groups = channel_groups(network, (IMAGE,))
    assert groups.order == ("second",)
    assert any(reason in pinned.reason for pinned in groups.pinned), groups.pinned
    assert set(groups.axes) | set(groups.scalars) == set(network.state_dict())


def test_channels_that_are_divided_differently_are_pinned() -> None:
    class Divided(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(1, 2, 1), nn.Conv2d(1, 4, 1)
            self.whole, self.last = nn.Conv2d(1, 6, 1), nn.Conv2d(6, 1, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(torch.cat([self.one(x), self.two(x)], 1) + self.whole(x))

    groups = channel_groups(Divided(), (IMAGE,))
    assert groups.order == ()
    for layer in ("one", "two", "whole"):
        assert "meets channels that are divided differently" in _reasons(groups, f"{layer}.weight")


def test_channels_that_are_added_to_the_input_are_pinned() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(3, 5, 1), nn.ReLU(), nn.Conv2d(5, 3, 1))
            self.last = nn.Conv2d(3, 1, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(x + self.body(x))

    groups = channel_groups(Residual(), (torch.zeros(1, 3, 4, 4),))
    assert groups.order == ("body.0",)
    assert _reasons(groups, "last.weight") == {"network input", "network output"}


def test_a_pool_along_the_features_of_a_vector_is_pinned() -> None:
    class Pools(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(3, 6), nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(F.max_pool1d(self.first(x), 3))

    groups = channel_groups(Pools(), (torch.zeros(4, 3),))
    assert groups.order == ()
    assert "spatial operation along the axis of channels" in _reasons(groups, "first.weight")


def test_unused_layers_are_pinned_with_the_reason() -> None:
    network = _Around()
    network.spare = nn.Conv2d(3, 3, 1)
    groups = channel_groups(network, (IMAGE,))
    assert groups.order == ("first", "second")
    assert _reasons(groups, "spare.weight") == {"not used by a layer that the rules know"}


def test_a_branch_for_training_only_counts() -> None:
    class Auxiliary(_Around):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Conv2d(4, 2, 1)

        def forward(self, x: Tensor) -> Any:
            features = self.first(x)
            output = self.last(self.second(features).relu())
            return (output, self.head(features.flip(1))) if self.training else output

    assert channel_groups(Auxiliary().eval(), (IMAGE,)).order == ("second",)


class _Branches(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class _Counts(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        for _ in range(int(x.max())):
            x = 2 * x
        return x


class _AsksForTensors(_Around):
    """A trace would take the other branch without complaint, and get other groups."""

    def between(self, x: Tensor) -> Tensor:
        return x.flip(1) if isinstance(x, Tensor) else x + 1.0


class _LoopsOverRows(_Around):
    def between(self, x: Tensor) -> Tensor:
        return torch.stack([row.relu() for row in x])


@pytest.mark.parametrize(
    ("network", "inputs", "complaint"),
    [
        (_Branches(), (IMAGE,), "shapes .* alone"),
        (_Counts(), (IMAGE,), "shapes .* alone"),
        (_Around(), (torch.zeros(1, 2, 8, 8),), "channel"),
        (_Around(), (), "argument"),
        (nn.ModuleDict({"generator": nn.Conv2d(1, 1, 1)}), (IMAGE,), "forward"),
    ],
    ids=["branch", "loop", "wrong inputs", "no inputs", "no forward"],
)
def test_a_network_that_cannot_be_traced_is_refused_in_one_sentence(
    network: nn.Module, inputs: tuple[Tensor, ...], complaint: str
) -> None:
    with pytest.raises(UntraceableNetworkError, match=complaint) as caught:
        channel_groups(network, inputs)
    message = str(caught.value)
    assert isinstance(caught.value, ConfigError)
    assert message.startswith(type(network).__name__)
    assert message.endswith("use FedAvg for this network")
    assert "torch.export cannot follow it either" in message
    assert "\n" not in message


@pytest.mark.parametrize("network", [_AsksForTensors(), _LoopsOverRows()])
def test_code_that_misleads_torch_fx_is_traced_by_torch_export(network: nn.Module) -> None:
    found = channel_groups(network, (IMAGE,))
    assert found.order == ("second",)
    assert any("is not known to keep channels apart" in pinned.reason for pinned in found.pinned)


def _partition(groups: ChannelGroups) -> dict[tuple[str, int], tuple[Any, ...]]:
    """For every axis, whose channels stand there; pinned segments side by side count as one."""
    return {
        (key, axis): tuple(
            (segment.group, segment.size, segment.width) if segment.group else None
            for segment in segments
        )
        for key, axes in groups.axes.items()
        for axis, segments in axes.items()
        if any(segment.group for segment in segments)
    }


@pytest.mark.parametrize("name", REGISTERED)
def test_both_tracers_find_the_same_groups_in_the_project_s_networks(name: str) -> None:
    case = REGISTERED[name]
    traced = case.groups_found()
    exported = deriving._groups(without_data(case.network()), case.inputs(), walk_exported)
    assert _partition(exported) == _partition(traced)
    assert exported.order == traced.order
    assert exported.dead_biases == traced.dead_biases
    assert exported.outputs == traced.outputs
    assert exported.matchable == traced.matchable == 1.0


def test_a_monai_network_with_an_encoder_from_elsewhere_is_traced_with_its_skips() -> None:
    groups = channel_groups(flexible_unet(), (torch.zeros(1, 1, 64, 64),))
    assert len(groups.order) == 53
    skips = groups.axes["decoder.blocks.0.convs.conv_0.conv.weight"][1]
    assert len(skips) == 2 and all(segment.group for segment in skips)


@pytest.mark.parametrize(
    ("attention", "norm_groups", "groups", "share"), [(True, 8, 2, 0.09), (False, 1, 9, 0.37)]
)
def test_of_monai_s_diffusion_u_net_attention_and_group_norms_pin_most_channels(
    attention: bool, norm_groups: int, groups: int, share: float
) -> None:
    pytest.importorskip("einops")
    from monai.networks.nets import DiffusionModelUNet

    network = DiffusionModelUNet(
        spatial_dims=2,
        in_channels=1,
        out_channels=1,
        channels=(16, 32),
        attention_levels=(False, attention),
        num_res_blocks=1,
        num_head_channels=8,
        norm_num_groups=norm_groups,
    )
    found = channel_groups(network, (torch.zeros(1, 1, 32, 32), torch.zeros(1, dtype=torch.long)))
    assert len(found.order) == groups
    assert found.matchable == pytest.approx(share, abs=0.005)


@pytest.mark.nightly  # seconds of torch.export; the diffusion U-Net above is the faster stand-in
def test_half_of_monai_s_swin_transformer_u_net_can_be_matched() -> None:
    pytest.importorskip("einops")
    from monai.networks.nets import SwinUNETR

    network = SwinUNETR(in_channels=1, out_channels=1, feature_size=12, spatial_dims=2)
    found = channel_groups(network, (torch.zeros(1, 1, 64, 64),))
    assert len(found.order) == 29
    assert found.matchable == pytest.approx(0.51, abs=0.005)


class _Scaled(_Around):
    """A tensor of the network, or of its code, meets the channels."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.own = nn.Parameter(torch.ones(1, 4, 1, 1))
        self.register_buffer("known", torch.ones(1, 4, 1, 1))

    def between(self, x: Tensor) -> Tensor:
        if self.kind == "parameter":
            return x * self.own
        if self.kind == "buffer":
            return x * self.known
        if self.kind == "number":
            return x * torch.tensor(2.0)
        return x + torch.zeros(len(x), 1, *x.shape[2:], dtype=x.dtype, device=x.device)


@pytest.mark.parametrize(
    ("kind", "free"), [("parameter", False), ("buffer", False), ("number", True), ("zeros", True)]
)
def test_a_tensor_used_outside_of_a_layer_pins_what_it_meets_and_no_more(
    kind: str, free: bool
) -> None:
    groups = channel_groups(_Scaled(kind), (IMAGE,))
    reasons = {pinned.reason for pinned in groups.pinned if pinned.key == "first.weight"}
    assert ("first" in groups.order) == free
    assert ("a tensor used outside of a layer" in reasons) != free
    assert groups.matchable == (1.0 if free else 0.6)  # 6 of 10 hidden channels


@pytest.mark.parametrize("name", ["residual U-Net, batch norm", "spectral norm", "looks at shapes"])
@pytest.mark.parametrize("training", [False, True])
def test_network_and_global_random_state_are_left_as_they_were(name: str, training: bool) -> None:
    case = NETWORKS[name]
    network = case.network().train(training)
    network(*case.inputs())
    if name == "spectral norm":
        assert network[0].weight.grad_fn is not None  # what deepcopy alone would refuse
    before = {key: value.clone() for key, value in network.state_dict().items()}
    flags = [module.training for module in network.modules()]
    attributes = [set(vars(module)) for module in network.modules()]
    random = torch.get_rng_state()
    channel_groups(network, case.inputs())
    assert torch.equal(random, torch.get_rng_state())
    assert flags == [module.training for module in network.modules()]
    assert attributes == [set(vars(module)) for module in network.modules()]
    after = network.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_a_network_that_draws_random_numbers_leaves_the_global_random_state_as_it_was() -> None:
    network = _between(lambda x: x * float(torch.rand(1)))()
    random = torch.get_rng_state()
    assert channel_groups(network, (IMAGE,)).order == ("first", "second")
    assert torch.equal(random, torch.get_rng_state())


def test_groups_depend_on_the_code_alone() -> None:
    case = REGISTERED["residual U-Net, batch norm"]
    one = channel_groups(case.network(seed=1).eval(), case.inputs(1))
    other = channel_groups(copy.deepcopy(case.network(seed=2)).train(), case.inputs(2))
    assert one == other


def test_tracing_allocates_no_weights() -> None:
    # 16 GB of weights, were they allocated.
    with torch.device("meta"):
        network = mlp((8, 2**15, 2**16, 2**15, 8))
    assert sum(math.prod(p.shape) for p in network.parameters()) > 4e9
    groups = channel_groups(network, (torch.zeros(1, 8),))
    assert list(groups.sizes.values()) == [2**15, 2**16, 2**15]
