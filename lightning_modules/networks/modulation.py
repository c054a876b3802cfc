"""A generator that is told by codes between which contrasts it translates.

Every instance normalisation becomes y = (1 + g(e)) * normalised(x) + b(e), where e is a learnt code
of the contrast and g and b are one linear layer each (conditional instance normalisation, Dumoulin
et al., ICLR 2017, arXiv:1610.07629; FiLM, Perez et al., AAAI 2018, arXiv:1709.07871). Both layers
start at zero, so that training begins as plain instance normalisation.

The codes are factorised: the encoder is told the source's code, the decoder the target's. A code
of the pair in all layers could learn each pair by heart and would say nothing of a pair that no
site holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from fedi2i.errors import ConfigError
from fedi2i.typed_config import nearest
from lightning_modules.data.source_view import ONE_SLICE, SourceView
from lightning_modules.networks.configuration import GeneratorConfig
from lightning_modules.networks.generators.catalogue import build_generator

if TYPE_CHECKING:
    from partitions.preparation import PreparedSite

CODE_WIDTH = 16
"""Numbers in the code of a contrast."""


class ContrastCodes(nn.Embedding):
    """A learnt code for every contrast; its first values are drawn from N(0, 1)."""


class Modulation(nn.Linear):
    """From codes to one number for each channel; its weights and biases start at zero."""


class ModulatedNorm(nn.InstanceNorm2d):
    """Instance normalisation whose scale and shift follow from a code.

    It is a normalisation layer by its type, so that a strategy that keeps these at the site keeps
    the modulation there.

    Args:
        channels: of the features.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.scale = Modulation(CODE_WIDTH, channels)
        self.shift = Modulation(CODE_WIDTH, channels)
        self.code: Tensor | None = None
        """Codes (batch, ``CODE_WIDTH``), while ``ConditionalGenerator`` translates."""

    def forward(self, features: Tensor) -> Tensor:
        """Features (batch, channels, rows, columns), normalised and modulated."""
        if self.code is None:
            raise RuntimeError("a modulated layer has no code; translate by ConditionalGenerator")
        scale, shift = self.affine_of(self.code)
        normalised: Tensor = super().forward(features)
        return scale[..., None, None] * normalised + shift[..., None, None]

    def affine_of(self, code: Tensor) -> tuple[Tensor, Tensor]:
        """Factor and summand of every channel, of the shape of the codes but for the last axis."""
        return 1 + self.scale(code), self.shift(code)


class ConditionalGenerator(nn.Module):
    """One of the generators with modulated normalisation, and the codes of the contrasts.

    Args:
        config: the generator; its normalisation must be ``instance``.
        contrasts: their names; the place of a name is its number.
        view: what the generator is shown of the source.

    Raises:
        ConfigError: encoder or decoder have no instance normalisation to modulate.
    """

    def __init__(
        self, config: GeneratorConfig, contrasts: Sequence[str], view: SourceView = ONE_SLICE
    ) -> None:
        super().__init__()
        self._config = config
        self._contrasts = tuple(contrasts)
        self._view = view
        self.codes = ContrastCodes(len(contrasts), CODE_WIDTH)
        self.network = build_generator(config, view)
        encoder: tuple[str, ...] = self.network.encoder_modules()  # type: ignore[operator]
        self._paths = _modulate(self.network, encoder)

    def forward(self, source: Tensor, source_code: Tensor, target_code: Tensor) -> Tensor:
        """Translate every slice between the contrasts that its codes name.

        Shapes: source (batch, channels, rows, columns) in [-1, 1], numbers of contrasts (batch,);
        the result is (batch, 1, rows, columns) in [-1, 1].
        """
        codes = {True: self.codes(source_code), False: self.codes(target_code)}
        for path, encodes in self._paths.items():
            self._layer(path).code = codes[encodes]
        try:
            translated: Tensor = self.network(source)
        finally:
            for path in self._paths:
                self._layer(path).code = None
        return translated

    def between(self, source: str, target: str) -> nn.Module:
        """The generator of one pair: the plain network with a fixed scale and shift.

        Returns:
            A network of its own, ``GeneratorConfig.of_pair``, with copies of the weights.

        Raises:
            ConfigError: a contrast that the generator has no code for.
        """
        plain = build_generator(self._config.of_pair, self._view)
        state = {k: v for k, v in self.network.state_dict().items() if k in plain.state_dict()}
        for path, encodes in self._paths.items():
            code = self.codes.weight[self._number(source if encodes else target)]
            state[f"{path}.weight"], state[f"{path}.bias"] = self._layer(path).affine_of(code)
        plain.load_state_dict({key: value.detach().clone() for key, value in state.items()})
        return plain.to(self.codes.weight.device).train(self.training)

    def encoder_modules(self) -> tuple[str, ...]:
        """Paths of the modules that encode, their modulation included; the codes are no part."""
        paths: tuple[str, ...] = self.network.encoder_modules()  # type: ignore[operator]
        return tuple(f"network.{path}" for path in paths)

    def _layer(self, path: str) -> ModulatedNorm:
        layer = self.network.get_submodule(path)
        assert isinstance(layer, ModulatedNorm)
        return layer

    def _number(self, contrast: str) -> int:
        if contrast not in self._contrasts:
            raise ConfigError(
                f"the model has no code for contrast '{contrast}'; "
                f"{nearest(contrast, self._contrasts)}"
            )
        return self._contrasts.index(contrast)


def for_pair(generator: nn.Module, source: str, target: str) -> nn.Module:
    """What translates one pair: of a conditional generator its pair, else the generator itself."""
    if isinstance(generator, ConditionalGenerator):
        return generator.between(source, target)
    return generator


def for_site(generator: nn.Module, site: PreparedSite) -> nn.Module:
    """What translates the pair of a site, see ``for_pair``."""
    if isinstance(generator, ConditionalGenerator):
        return generator.between(site.config.source, site.config.target)
    return generator


def _modulate(network: nn.Module, encoder: Sequence[str]) -> dict[str, bool]:
    """Put modulated layers in the place of plain ones; their paths, and whether they encode."""
    found = {
        path: layer.num_features
        for path, layer in network.named_modules()
        if isinstance(layer, nn.InstanceNorm2d) and not layer.affine
    }
    for path, channels in found.items():
        network.set_submodule(path, ModulatedNorm(channels))
    encodes = {path: any(path.startswith(f"{one}.") for one in encoder) for path in found}
    if {*encodes.values()} != {True, False}:
        raise ConfigError(
            "a conditional generator modulates instance normalisation in its encoder and in its "
            "decoder, and this one lacks it in one of them; take kind 'unet' of three levels or "
            "more, with norm 'instance'"
        )
    return encodes
