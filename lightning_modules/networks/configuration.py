"""The networks of a model as an experiment describes them: generators and discriminators."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

from fedi2i.errors import ConfigError
from fedi2i.typed_config import LEFT_OUT_WHILE_UNSET, number, word
from lightning_modules.model_networks import ROLES, is_network_name, role_of
from lightning_modules.networks.generators.catalogue import GENERATORS
from partitions.own_code import is_dotted

UPSAMPLINGS = ("transposed", "nearest")
PATCHGAN = "patchgan"
OUTPUTS = ("tanh", "as_is")
NORMS = ("instance", "instance_affine", "batch")
MOST_LEVELS = 10
"""Of a generator: each level halves the slice."""
MOST_CHANNELS = 4096
"""Of a layer. How large a model may be as a whole is for ``build_networks`` and for each site."""


class NetworkConfig:
    """What the records of generators and discriminators have in common.

    ``kind`` names a network of this project or, by its dotted path, a class of an installed
    package; ``path`` is another way to write the latter. NVFlare takes whatever stands under
    ``path`` in a job for a component of its own, so that jobs say ``kind``.
    """

    kind: str
    path: str
    args: dict[str, Any] | None
    _OF_OWN_ALONE: ClassVar[tuple[str, ...]] = ("args",)

    def __post_init__(self) -> None:
        """Let ``path`` and ``kind`` say the same."""
        if not self.path:
            if self.is_own:
                object.__setattr__(self, "path", self.kind)
            return
        if self.kind not in (_default(self, "kind"), self.path):
            raise ConfigError(
                f"'kind' is '{self.kind}' and 'path' is '{self.path}', but a network is one of "
                "both; leave one out"
            )
        object.__setattr__(self, "kind", self.path)

    @property
    def is_own(self) -> bool:
        """Whether the network is a class of a lab's own package."""
        return "." in self.kind

    def meaningless(self) -> tuple[str, ...]:
        """Settings of this project's networks, beside one of a lab's own; see ``as_dict``."""
        others = ("kind", "path", *self._OF_OWN_ALONE)
        ours = (one.name for one in fields(self) if one.name not in others)  # type: ignore[arg-type]
        return ("path", *ours) if self.is_own else ("path",)

    def check_own(self, role: str, where: str) -> None:
        """Refuse a path that is none, and settings that say nothing of this network.

        Raises:
            ConfigError: naming the key and what to do.
        """
        if self.is_own and not is_dotted(self.kind):
            raise ConfigError(
                f"{where}: model.{role}.path is '{self.kind}', which is no dotted path; write it "
                "like my_lab.nets.MyGenerator"
            )
        without_effect = self.meaningless()[1:] if self.is_own else self._OF_OWN_ALONE
        for key in without_effect:
            if getattr(self, key) != _default(self, key):
                raise ConfigError(
                    f"{where}: model.{role}.{key} says nothing of a network of your own; what "
                    f"'{self.kind}' is to be told stands under model.{role}.args"
                    if self.is_own
                    else f"{where}: model.{role}.{key} belongs to a network of your own, and "
                    f"'{self.kind}' is none; name its class under model.{role}.path"
                )


def _default(config: Any, key: str) -> Any:
    return next(one.default for one in fields(config) if one.name == key)


@dataclass(frozen=True)
class GeneratorConfig(NetworkConfig):
    """One of the generators in ``lightning_modules/networks/generators``, or one of a lab's own.

    Attributes:
        kind: ``unet`` (MONAI's, with concatenated skips), ``resnet`` (Johnson et al. 2016, as in
            CycleGAN: convolutions down, residual blocks, convolutions up), ``srresnet`` (Ledig
            et al. 2017: residual blocks at full resolution), or the dotted path of a class.
        channels: feature channels per level; each level halves the resolution (not of a
            ``srresnet``, whose blocks have these widths one after the other).
        residual_units: units per level of the U-Net, residual blocks of the ResNet, or blocks of
            each width of the SRResNet.
        norm: normalisation layer.
        dropout: probability of dropout, in [0, 1).
        upsampling: on the way up, ``transposed`` convolutions, or ``nearest`` neighbours before a
            convolution, which draw no checkerboard and take longer (benchmarks/upsampling.py).
        path: the dotted path of a class of an installed package, in place of ``kind``.
        args: the arguments of that class.
        output: of a network of one's own: ``tanh`` is put behind it, or its output is taken
            ``as_is`` and must lie in [-1, 1].
        part: where that class is a Lightning module, which of its networks translates.
    """

    kind: str = word("unet", *GENERATORS, or_path=True)
    channels: tuple[int, ...] = (16, 32, 64, 128)
    residual_units: int = number(0, most=64)
    norm: str = word("instance", *NORMS)
    dropout: float = number(0.0, high=1.0)
    upsampling: str = word("transposed", *UPSAMPLINGS)
    path: str = ""
    args: dict[str, Any] | None = field(default=None, metadata=LEFT_OUT_WHILE_UNSET)
    output: str = word("tanh", *OUTPUTS, left_out=True)
    part: str = field(default="", metadata=LEFT_OUT_WHILE_UNSET)
    _OF_OWN_ALONE: ClassVar[tuple[str, ...]] = ("args", "output", "part")

    @property
    def of_pair(self) -> GeneratorConfig:
        """One pair of a conditional generator: its modulation is a scale and a shift."""
        return replace(self, norm="instance_affine")


@dataclass(frozen=True)
class DiscriminatorConfig(NetworkConfig):
    """MONAI PatchGAN: channels of its first layer and number of strided layers; or one's own.

    ``kind``, ``path`` and ``args``: see ``GeneratorConfig``.
    """

    channels: int = number(16, above=True, most=MOST_CHANNELS)
    layers: int = number(3, above=True, most=8)
    norm: str = word("instance", *NORMS)
    kind: str = word(PATCHGAN, PATCHGAN, or_path=True, left_out=True)
    path: str = ""
    args: dict[str, Any] | None = field(default=None, metadata=LEFT_OUT_WHILE_UNSET)


@dataclass(frozen=True)
class ModuleConfig(NetworkConfig):
    """A Lightning module of a lab's own, with its networks and its optimizers.

    Attributes:
        kind: the dotted path of the class; empty where the module is one of this project's.
        path: the same; see ``NetworkConfig``.
        args: the arguments of that class.
        networks: the attributes that hold its networks, each a role and words behind it, such as
            ``generator`` or ``discriminator_coarse``; the first one translates.
    """

    kind: str = ""
    path: str = ""
    args: dict[str, Any] | None = field(default=None, metadata=LEFT_OUT_WHILE_UNSET)
    networks: tuple[str, ...] = ("generator",)
    _OF_OWN_ALONE: ClassVar[tuple[str, ...]] = ("args", "networks")

    def check_module(self, where: str) -> None:
        """Refuse a path that is none, and names that no network may have.

        Raises:
            ConfigError: naming the key and what to do.
        """
        if not is_dotted(self.kind):
            raise ConfigError(
                f"{where}: model.module.path is '{self.kind}', which is no dotted path of a class; "
                "write it like my_lab.modules.MyTranslation"
            )
        for name in self.networks:
            if not is_network_name(name):
                raise ConfigError(
                    f"{where}: model.module.networks names '{name}'; a name begins with the "
                    f"network's role, {' or '.join(ROLES)}, as in 'generator_coarse'"
                )
        if len(set(self.networks)) < len(self.networks):
            raise ConfigError(f"{where}: model.module.networks names one twice; name each once")
        if not self.networks or role_of(self.networks[0]) != "generator":
            raise ConfigError(
                f"{where}: model.module.networks is {list(self.networks)}; the first one is the "
                "generator that translates"
            )


def check_levels(generator: GeneratorConfig, where: str) -> None:
    """Refuse a generator without levels, or with more or wider ones than anybody trains.

    What a generator of a lab's own is made of stands in its ``args``, which only it can read.

    Raises:
        ConfigError: naming the key and what is allowed.
    """
    generator.check_own("generator", where)
    if generator.is_own:
        return
    channels = generator.channels
    outside = [number for number in channels if not 1 <= number <= MOST_CHANNELS]
    if outside or not 2 <= len(channels) <= MOST_LEVELS:
        raise ConfigError(
            f"{where}: model.generator.channels is {list(channels[:MOST_LEVELS])}; give two to "
            f"{MOST_LEVELS} levels of 1 to {MOST_CHANNELS} channels"
        )
