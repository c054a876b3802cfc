"""Networks of a lab's own: a class of an installed package, by its dotted path.

Only what this machine's list allows is imported (``partitions.own_code``), wherever the path comes
from: an experiment, a job, or the card of a model file. A list names one class by its whole path;
what is no class of ``torch.nn.Module`` is never called. Nothing has to be inherited or registered;
what such a network must offer is held against it by ``own_check``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.overrides import TorchFunctionMode

from fedi2i.errors import ConfigError
from partitions.own_code import load_own

if TYPE_CHECKING:
    from lightning_modules.networks.configuration import GeneratorConfig, NetworkConfig

_MAKE_TENSORS = frozenset(
    {torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn}
)


class OwnGenerator(nn.Module):
    """A lab's network with what a generator owes besides: its range, and which parts encode.

    Shapes: (batch, channels, rows, columns), with the channels of ``SourceView``, to (batch, 1,
    rows, columns); any values to (-1, 1), with ``tanh``.

    Args:
        network: the lab's.
        path: its class, for messages.
        with_tanh: puts tanh behind it.
    """

    def __init__(self, network: nn.Module, path: str, with_tanh: bool) -> None:
        super().__init__()
        self.network = network
        self._path = path
        self._with_tanh = with_tanh

    def forward(self, source: Tensor) -> Tensor:
        """Translate source slices."""
        return self.bounded(self.network(source))

    def bounded(self, translated: Tensor) -> Tensor:
        """The network's output, within the range."""
        return torch.tanh(translated) if self._with_tanh else translated

    def encoder_modules(self) -> tuple[str, ...]:
        """Paths of the modules that encode, as the network itself names them.

        Raises:
            ConfigError: it does not, or names what it has not.
        """
        own: Any = self.network
        if not hasattr(own, "encoder_modules"):
            raise ConfigError(
                f"'{self._path}' does not say which of its modules encode, and FedPer and "
                "LG-FedAvg share one part of a generator; give it a method encoder_modules(), or "
                "take another strategy"
            )
        named = tuple(str(path) for path in own.encoder_modules())
        present = {path for path, _ in own.named_modules() if path}
        missing = [path for path in named if path not in present]
        if missing or not named:
            what = f"names '{missing[0]}', and it has no such module" if missing else "names none"
            raise ConfigError(f"'{self._path}': its method encoder_modules() {what}; correct it")
        return tuple(f"network.{path}" for path in named)


class WithoutMemory(TorchFunctionMode):
    """Makes weights that hold no data, so that a network can be counted before it is built.

    What a constructor computes with (ranges of dropout rates, tables of positions) stays as it is,
    as code may read its values; ``torch.device("meta")`` would leave it none.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Make tensors on the meta device unless the code names another."""
        given = dict(kwargs or {})
        if func in _MAKE_TENSORS and given.get("device") is None:
            given["device"] = "meta"
        return func(*args, **given)


def own_generator(config: GeneratorConfig) -> nn.Module:
    """The generator of a lab's own.

    Raises:
        ConfigError: see ``own_network``.
    """
    network, with_tanh = own_network(config), config.output == "tanh"
    if config.part:
        network = part_of(network, config.part, config.kind)
        if not with_tanh:  # as it stands in its module, under the same keys
            return network
    return OwnGenerator(network, config.kind, with_tanh)


def part_of(module: nn.Module, name: str, path: str) -> nn.Module:
    """One network of a module of a lab's own.

    Raises:
        ConfigError: it has no such network.
    """
    found = getattr(module, name, None)
    if not isinstance(found, nn.Module) or not list(found.parameters()):
        raise ConfigError(
            f"'{path}' has no network with parameters as its attribute '{name}', which the "
            "settings name; correct one of them"
        )
    return found


def own_network(config: NetworkConfig) -> nn.Module:
    """Build a network of a lab's own, with what random numbers it draws from torch.

    Raises:
        ConfigError: this machine does not allow its class, it is no network, its constructor does
            not take the arguments, or its weights have no size yet.
    """
    network_class = own_class(config.kind)
    try:
        network: nn.Module = network_class(**config.args or {})
    except ConfigError:
        raise
    except ImportError as error:
        raise ConfigError(missing_package(config.kind, error)) from error
    except Exception as error:  # the code is not ours: it may raise anything
        raise ConfigError(
            f"'{config.kind}' cannot be built from its 'args' {config.args or {}} ({said(error)}); "
            "correct them"
        ) from error
    if any(isinstance(value, nn.UninitializedParameter) for value in network.parameters()):
        raise ConfigError(
            f"'{config.kind}' has lazy layers, whose weights have no size before the first slice, "
            "so that no seed can draw them; name the numbers of channels in its constructor"
        )
    return network


def own_class(path: str) -> type[nn.Module]:
    """The class of a lab's own network.

    Raises:
        ConfigError: this machine does not allow it, or it is no class of ``torch.nn.Module``.
    """
    # MONAI and torch are there before: none of their parts is read from its source once more.
    import lightning_modules.networks.layers  # noqa: F401

    found, _ = load_own(path, in_children=False)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise ConfigError(
            f"'{path}' is a {type(found).__name__} and no class of torch.nn.Module; name the class "
            "of a network"
        )
    return found


def running_statistics(network: nn.Module) -> tuple[str, ...]:
    """Paths of the layers that keep running statistics of what passes through them."""
    return tuple(
        path
        for path, layer in network.named_modules()
        if isinstance(layer, _NormBase) and layer.running_mean is not None
    )


def refuse_statistics_of(config: NetworkConfig, what: str, where: str) -> None:
    """Refuse a network of a lab's own with layers such as batch normalisation.

    Args:
        config: the network.
        what: what is wrong with running statistics here, as ``whose ...``.
        where: the words a message begins with.

    Raises:
        ConfigError: naming a layer and the remedy.
    """
    with torch.random.fork_rng(devices=[]), WithoutMemory():
        layers = running_statistics(own_network(config))
    if layers:
        raise ConfigError(
            f"{where}: '{config.kind}' has {len(layers)} layers such as '{layers[0]}', whose "
            f"{what}; take a network with instance or group normalisation"
        )


def missing_package(path: str, error: ImportError) -> str:
    """The sentence for a network whose code needs a package that is not installed."""
    return f"'{path}' needs a package that is not installed here ({said(error)}); install it"


def said(error: Exception) -> str:
    """The first sentence of a foreign error, on one line, with its type."""
    text = " ".join(str(error).split()).split(". ")[0].rstrip(".")[:300]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
