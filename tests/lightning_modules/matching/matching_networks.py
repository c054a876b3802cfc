"""Small networks of the shapes that occur in translation, and random states for them."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.networks.nets import AttentionUnet, BasicUNet, FlexibleUNet, HighResNet
from torch import Tensor, nn
from torch.nn.utils import parametrizations, spectral_norm

from lightning_modules.matching.channel_groups import ChannelGroups
from lightning_modules.matching.network_groups import channel_groups
from lightning_modules.matching.permutations import Permutations
from lightning_modules.networks.configuration import DiscriminatorConfig, GeneratorConfig
from lightning_modules.networks.discriminator import PatchGAN, SlicePatchGAN
from lightning_modules.networks.generators.catalogue import build_generator

State = dict[str, np.ndarray]


class PlainUNet(nn.Module):
    """pix2pix's U-Net: concatenated skips, transposed convolutions, no norm at both ends."""

    def __init__(self, ngf: int, depth: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        widths = [min(ngf * 2**level, ngf * 8) for level in range(depth)]
        self.down = nn.ModuleList(
            nn.Conv2d(narrow, wide, 4, 2, 1)
            for narrow, wide in zip([1, *widths[:-1]], widths, strict=True)
        )
        self.down_norms = nn.ModuleList(norm(width) for width in widths[1:-1])
        self.up = nn.ModuleList()
        self.up_norms = nn.ModuleList()
        for level in range(depth - 1, 0, -1):
            factor = 1 if level == depth - 1 else 2
            up = nn.ConvTranspose2d(factor * widths[level], widths[level - 1], 4, 2, 1, bias=False)
            self.up.append(up)
            self.up_norms.append(norm(widths[level - 1]))
        self.last = nn.ConvTranspose2d(2 * widths[0], 1, 4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips = [self.down[0](x)]
        for layer, norm in zip(self.down[1:-1], self.down_norms, strict=True):
            skips.append(norm(layer(nn.functional.leaky_relu(skips[-1], 0.2))))
        x = self.down[-1](nn.functional.leaky_relu(skips[-1], 0.2))
        for layer, norm in zip(self.up, self.up_norms, strict=True):
            x = torch.cat([skips.pop(), norm(layer(torch.relu(x)))], 1)
        return torch.tanh(self.last(torch.relu(x)))


class AdditiveUNet(nn.Module):
    """Skips are added, so both ends of a skip share their channels. Has PReLU and upsampling."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, width, 3, padding=1)
        self.act = nn.PReLU(width)
        self.one_slope = nn.PReLU()
        self.down = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.down_norm = nn.GroupNorm(1, 2 * width)
        self.narrow = nn.Conv2d(2 * width, width, 1)
        self.last = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.act(self.first(x))
        b = self.one_slope(self.down_norm(self.down(nn.functional.max_pool2d(a, 2))))
        up = nn.functional.interpolate(self.narrow(b), scale_factor=2, mode="bilinear")
        return self.last(nn.functional.pad(a + up, (1, 1, 1, 1), mode="reflect"))


class SharedLayer(nn.Module):
    """One layer is called twice, on different channels, which must then be the same."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Conv2d(1, 5, 3, padding=1)
        self.right = nn.Conv2d(1, 5, 3, padding=1)
        self.both = nn.Conv2d(5, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.last = nn.Conv2d(12, 2, 1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        one, other = self.both(self.left(x).relu()), self.both(self.right(y).relu())
        return self.last(torch.cat((self.norm(one), other.sigmoid()), dim=1))


class TiedWeights(nn.Module):
    """Two layers with one weight tensor, which stands in the state_dict under two keys."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 6)
        self.one = nn.Linear(6, 6)
        self.two = nn.Linear(6, 6)
        self.two.weight = self.one.weight
        self.last = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.two(torch.tanh(self.one(torch.tanh(self.first(x)))))))


class Recurrent(nn.Module):
    """A residual layer from a stream to itself: one group on both axes of a weight."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, width, 3, padding=1)
        self.inner = nn.Conv2d(width, width, 3, padding=1)
        self.last = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).relu()
        return self.last(x + self.inner(x).tanh())


class LooksAtShapes(nn.Module):
    """Crops a skip to size, gates it by channel, flattens two images to a linear layer."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(1, 6, 3, 2)
        self.up = nn.ConvTranspose2d(6, 4, 2, 2)
        self.skip = nn.Conv2d(1, 4, 1)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 3, 1), nn.ELU())
        self.scale = nn.Linear(3, 4)
        self.mix, self.other = nn.Conv2d(8, 3, 3, 2), nn.Conv2d(8, 2, 3, 2)
        self.norm = nn.BatchNorm1d(5 * (size // 2 - 2) ** 2)
        self.hidden = nn.Linear(5 * (size // 2 - 2) ** 2, 7)
        self.last = nn.Linear(7, 2)

    def forward(self, x: Tensor, scale: float = 1.0, extra: Tensor | None = None) -> Tensor:
        up, skip = self.up(self.down(x).relu()), self.skip(x)
        rows, columns = up.shape[-2:]
        if skip.size(2) != rows:
            skip = skip[:, :, :rows, :columns]
        gate = self.scale(self.gate(up).view(len(x), -1)).sigmoid()
        joined = torch.cat([scale * skip, up * gate.view(*gate.shape, 1, 1)], dim=-3)
        flat = torch.cat([self.mix(joined).tanh(), self.other(joined)], 1).flatten(1)
        if extra is not None:
            flat = flat + extra
        return self.last(self.hidden(self.norm(flat)).tanh())


def mlp(widths: tuple[int, ...], bias: bool = True) -> nn.Sequential:
    layers: list[nn.Module] = []
    for narrow, wide in itertools.pairwise(widths):
        layers += [nn.Linear(narrow, wide, bias=bias), nn.Tanh()]
    return nn.Sequential(*layers[:-1])


def volumes() -> nn.Sequential:
    """3-D convolutions."""
    return nn.Sequential(
        *(nn.Conv3d(1, 4, 3, 2, 1), nn.InstanceNorm3d(4, affine=True), nn.LeakyReLU(0.2)),
        *(nn.AvgPool3d(2), nn.Conv3d(4, 6, 3, padding=1), nn.BatchNorm3d(6), nn.ELU()),
        *(nn.Upsample(scale_factor=2), nn.ConvTranspose3d(6, 3, 4, 2, 1), nn.PReLU(3)),
        *(nn.ConstantPad3d(1, 0.0), nn.Conv3d(3, 2, 3)),
    )


def normed_discriminator(norm: Callable[[nn.Module], nn.Module]) -> nn.Sequential:
    """Spectral normalisation around convolutions, a transposed convolution, a linear layer."""
    return nn.Sequential(
        *(norm(nn.Conv2d(1, 4, 4, 2, 1)), nn.LeakyReLU(0.2)),
        *(norm(nn.ConvTranspose2d(4, 5, 4, 2, 1)), nn.LeakyReLU(0.2)),
        *(norm(nn.Conv2d(5, 3, 4, 2, 1, bias=False)), nn.Flatten()),
        *(norm(nn.Linear(3 * 8 * 8, 6)), nn.LayerNorm(6), nn.GELU(), norm(nn.Linear(6, 1))),
    )


def affine(width: int) -> nn.Module:
    return nn.InstanceNorm2d(width, affine=True)


@dataclass(frozen=True)
class Case:
    """A network and inputs for it."""

    build: Callable[[], nn.Module]
    shapes: tuple[tuple[int, ...], ...]
    groups: int

    def network(self, seed: int = 0) -> nn.Module:
        """The network with random weights, biases and statistics, in float64."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = self.build().double()
            randomise(network)
        return network

    def example(self) -> nn.Module:
        """The same network for all tests, made once: to be read, not to be changed."""
        return _example_of(self)

    def groups_found(self) -> ChannelGroups:
        """The channel groups, derived once."""
        return _groups_of(self)

    def inputs(self, seed: int = 0) -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(seed)
        return tuple(
            torch.randn(shape, generator=generator, dtype=torch.float64) for shape in self.shapes
        )


@functools.cache
def _example_of(case: Case) -> nn.Module:
    return case.network()


@functools.cache
def _groups_of(case: Case) -> ChannelGroups:
    return channel_groups(case.example(), case.inputs())


IMAGE = (2, 1, 16, 16)


def _generator(groups: int, **values: Any) -> Case:
    config = GeneratorConfig(channels=(3, 4, 5), **values)
    return Case(lambda: build_generator(config), (IMAGE,), groups)


def _pairs(norm: str) -> Case:
    config = DiscriminatorConfig(channels=3, layers=2, norm=norm)
    return Case(lambda: PatchGAN(config), (IMAGE, IMAGE), 3)


# Groups by hand: a U-Net has one per level and one per level up, without the last; units double
# those of the way down. A ResNet has one per level and per level up, and one per residual block.
REGISTERED = {
    "U-Net": _generator(4),
    "U-Net, affine, dropout": _generator(4, norm="instance_affine", dropout=0.3),
    "U-Net, batch norm": _generator(4, norm="batch"),
    "U-Net, nearest": _generator(4, upsampling="nearest"),
    "residual U-Net": _generator(7, residual_units=2),
    "residual U-Net, affine": _generator(7, residual_units=2, norm="instance_affine"),
    "residual U-Net, batch norm": _generator(7, residual_units=2, norm="batch", dropout=0.2),
    "ResNet-9": _generator(14, kind="resnet", residual_units=9),
    "ResNet-2, batch norm": _generator(7, kind="resnet", residual_units=2, norm="batch"),
    "ResNet-1, nearest": _generator(6, kind="resnet", residual_units=1, upsampling="nearest"),
    "PatchGAN": _pairs("instance"),
    "PatchGAN, affine": _pairs("instance_affine"),
    "PatchGAN, batch norm": _pairs("batch"),
    "PatchGAN of slices": Case(lambda: SlicePatchGAN(DiscriminatorConfig(3, 2)), (IMAGE,), 3),
}
OTHERS = {
    "pix2pix U-Net-256": Case(lambda: PlainUNet(2, 8, nn.BatchNorm2d), ((1, 1, 256, 256),), 15),
    "pix2pix U-Net, affine": Case(lambda: PlainUNet(3, 3, affine), (IMAGE,), 5),
    "additive U-Net": Case(lambda: AdditiveUNet(4), (IMAGE,), 2),
    "shared layer": Case(SharedLayer, (IMAGE, IMAGE), 2),
    "tied weights": Case(TiedWeights, ((4, 3),), 1),
    "stream to itself": Case(lambda: Recurrent(5), ((2, 2, 8, 8),), 1),
    "looks at shapes": Case(lambda: LooksAtShapes(16), (IMAGE,), 7),
    "MLP": Case(lambda: mlp((3, 6, 5, 2)), ((4, 3),), 2),
    "3-D": Case(volumes, ((2, 1, 8, 8, 8),), 3),
    "spectral norm": Case(lambda: normed_discriminator(spectral_norm), (IMAGE,), 4),
    "spectral norm, parametrised": Case(
        lambda: normed_discriminator(parametrizations.spectral_norm), (IMAGE,), 4
    ),
    "MONAI attention U-Net": Case(
        lambda: AttentionUnet(2, 1, 1, channels=(4, 6, 8), strides=(2, 2)), (IMAGE,), 12
    ),
}
# Blocks of MONAI that ask whether a value is a tensor: torch.fx would leave their skips out.
EXPORTED = {
    "MONAI BasicUNet": Case(lambda: BasicUNet(2, 1, 1, (3, 4, 5, 6, 4, 3)), ((1, 1, 32, 32),), 22),
    "MONAI HighResNet": Case(
        lambda: HighResNet(
            2,
            1,
            2,
            layer_params=(
                {"name": "conv_0", "n_features": 3, "kernel_size": 3},
                {"name": "res_1", "n_features": 3, "kernels": (3, 3), "repeat": 1},
                {"name": "conv_1", "n_features": 5, "kernel_size": 1},
                {"name": "conv_2", "kernel_size": 1},
            ),
        ),
        (IMAGE,),
        3,
    ),
}
NETWORKS = REGISTERED | OTHERS | EXPORTED


def flexible_unet() -> nn.Module:
    """MONAI's U-Net with an EfficientNet as its encoder: seven million weights, to be read only."""
    return FlexibleUNet(1, 1, "efficientnet-b0", spatial_dims=2)


def randomise(network: nn.Module) -> None:
    """Draw all parameters and statistics, so that every one of them shows in the output."""
    with torch.no_grad():
        for key, tensor in network.state_dict(keep_vars=True).items():
            if not tensor.is_floating_point() or key.endswith(("_u", "_v")):
                continue
            if tensor.ndim > 1:
                tensor.normal_(0.0, math.sqrt(2.0 / tensor[0].numel()))
            elif key.endswith("running_var") or key.endswith("weight"):
                tensor.uniform_(0.5, 1.5)
            else:
                tensor.normal_(0.0, 0.3)


def state_of(network: nn.Module) -> State:
    """A copy of the state as arrays."""
    return {key: value.detach().numpy().copy() for key, value in network.state_dict().items()}


def load(network: nn.Module, state: State) -> nn.Module:
    """Put arrays into a network."""
    network.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()})
    return network


def random_state(network: nn.Module, seed: int, std: float = 0.02) -> State:
    """Independent float32 weights as at the start of training; integers as they are."""
    rng = np.random.default_rng(seed)
    state = {}
    for key, value in network.state_dict().items():
        if not value.is_floating_point():
            state[key] = value.numpy().copy()
            continue
        drawn = rng.standard_normal(tuple(value.shape))
        ones = value.ndim == 1 and key.endswith(("weight", "running_var"))
        drawn = 1.0 + 0.1 * drawn if ones else std * drawn
        state[key] = np.abs(drawn).astype(np.float32) if "_var" in key else drawn.astype(np.float32)
    return state


def noisy(state: State, noise: float, seed: int) -> State:
    """The state with noise of so many of each tensor's standard deviations."""
    rng = np.random.default_rng(seed)
    return {
        key: (value + noise * value.std() * rng.standard_normal(value.shape)).astype(value.dtype)
        if value.dtype.kind == "f"
        else value.copy()
        for key, value in state.items()
    }


def shuffles(groups: ChannelGroups, seed: int) -> Permutations:
    """A random permutation of every group."""
    rng = np.random.default_rng(seed)
    return {group: rng.permutation(size) for group, size in groups.sizes.items()}


def invert(permutations: Permutations) -> Permutations:
    """The permutations that undo these."""
    return {group: np.argsort(p) for group, p in permutations.items()}


def compose(first: Permutations, second: Permutations) -> Permutations:
    """One permutation of every group that does the same as ``first`` and then ``second``."""
    return {group: first[group][p] for group, p in second.items()}


def weighted_mean(states: dict[str, State], samples: dict[str, float]) -> State:
    """Plain weighted mean of float tensors, in the order of names; FedAvg."""
    total = sum(samples[site] for site in states)
    mean: State = {}
    for key, first in next(iter(states.values())).items():
        if first.dtype.kind != "f":
            mean[key] = first
            continue
        parts = (states[site][key] * np.float64(samples[site] / total) for site in sorted(states))
        mean[key] = sum(parts, start=np.float64(0.0)).astype(first.dtype)
    return mean


def equal(one: State, other: State) -> bool:
    """Bit for bit."""
    return one.keys() == other.keys() and all(np.array_equal(one[k], other[k]) for k in one)
