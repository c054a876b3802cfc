"""The federated strategies and the settings that each of them understands, with their ranges."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass

from fedi2i.errors import ConfigError
from fedi2i.typed_config import choose

INITIALISATIONS = ("shared", "independent")
LOCAL_PARTS = ("encoder", "decoder")
SERVER_OPTIMIZERS = ("adam", "yogi")

Value = float | int | str | bool


@dataclass(frozen=True)
class StrategyConfig:
    """A federated strategy. Settings that it does not know must stay unset (None).

    Attributes:
        name: one of ``STRATEGIES``.
        initialisation: ``shared`` starts every site from the server's model; ``independent`` lets
            every site draw its own first weights, as FedMA's authors do.
        mu_generator, mu_discriminator: FedProx coefficients; 0 is FedAvg.
        server_learning_rate_generator, server_learning_rate_discriminator: step of the server's
            optimizer along the sites' mean update; 1 without momentum is FedAvg.
        server_momentum: FedAvgM's momentum.
        server_optimizer: FedAdam's second moment, ``adam`` or ``yogi``.
        server_beta1, server_beta2, server_tau: FedAdam's decay rates and its adaptivity term.
        local_part: FedPer: the part of the generators that stays at the site.
        control_weight: SCAFFOLD: factor of the control variates; 0 is FedAvg.
        alpha_generator, alpha_discriminator: FedDyn coefficients; 0 is FedAvg.
        lambda_generator, lambda_discriminator: Ditto: pull of the personal model towards the
            received one; 0 trains the personal model alone.
        trim_fraction: trimmed mean: part of the sites' values dropped at each end.
        sample_weights: robust means: weigh sites by their samples. Off by default: a site that
            lies about its model may lie about its number of samples.
        matching_sweeps: FedMA: most sweeps of coordinate descent after the forward pass.
        stay_margin: FedMA: relative gain below which channels stay where they are.
    """

    name: str = "fedavg"
    initialisation: str = "shared"
    mu_generator: float | None = None
    mu_discriminator: float | None = None
    server_learning_rate_generator: float | None = None
    server_learning_rate_discriminator: float | None = None
    server_momentum: float | None = None
    server_optimizer: str | None = None
    server_beta1: float | None = None
    server_beta2: float | None = None
    server_tau: float | None = None
    local_part: str | None = None
    control_weight: float | None = None
    alpha_generator: float | None = None
    alpha_discriminator: float | None = None
    lambda_generator: float | None = None
    lambda_discriminator: float | None = None
    trim_fraction: float | None = None
    sample_weights: bool | None = None
    matching_sweeps: int | None = None
    stay_margin: float | None = None


@dataclass(frozen=True)
class Setting:
    """One setting of a strategy: its default and what it may be.

    Attributes:
        default: used where an experiment does not set it.
        low: smallest number; itself allowed unless ``above`` is true.
        high: numbers must stay below it.
        above: whether ``low`` itself is refused.
        words: the allowed words, for settings that are no numbers.
    """

    default: Value
    low: float = 0.0
    high: float = math.inf
    above: bool = False
    words: tuple[str, ...] = ()

    def check(self, value: Value, key: str) -> None:
        """Refuse a value out of range.

        Raises:
            ConfigError: naming the key, the value and what is allowed.
        """
        if self.words:
            choose(str(value), self.words, key)
        elif not isinstance(value, bool) and not isinstance(value, str):
            inside = self.low < value if self.above else self.low <= value
            if not (inside and value < self.high):  # also refuses nan and infinity
                raise ConfigError(f"{key} is {value}; it must be {self._range()}")

    def _range(self) -> str:
        if math.isinf(self.high):
            return f"finite and {'above' if self.above else 'not below'} {self.low:g}"
        return f"in {'(' if self.above else '['}{self.low:g}, {self.high:g})"


_COEFFICIENTS = {
    "fedprox": "mu",
    "feddyn": "alpha",
    "ditto": "lambda",
}
_SERVER_STEP = ("server_learning_rate_generator", "server_learning_rate_discriminator")
_MATCHING = {"matching_sweeps": Setting(2, low=0), "stay_margin": Setting(0.0, high=1.0)}


def _pair(name: str, generator: float, discriminator: float) -> dict[str, Setting]:
    return {
        f"{name}_generator": Setting(generator),
        f"{name}_discriminator": Setting(discriminator),
    }


def _server_steps(generator: float, discriminator: float) -> dict[str, Setting]:
    values = dict(zip(_SERVER_STEP, (generator, discriminator), strict=True))
    return {key: Setting(value, above=True) for key, value in values.items()}


STRATEGIES: dict[str, Mapping[str, Setting]] = {
    "fedavg": {},
    "fedprox": _pair("mu", 0.03, 0.01),
    "fedma": _MATCHING,
    "fedma_layerwise": _MATCHING,
    "fedavgm": {**_server_steps(1.0, 1.0), "server_momentum": Setting(0.3, high=1.0)},
    "fedadam": {
        **_server_steps(0.03, 0.03),
        "server_optimizer": Setting("adam", words=SERVER_OPTIMIZERS),
        "server_beta1": Setting(0.9, high=1.0),
        "server_beta2": Setting(0.99, high=1.0),
        "server_tau": Setting(1e-3, above=True),
    },
    "fedbn": {},
    "fedper": {"local_part": Setting("encoder", words=LOCAL_PARTS)},
    "scaffold": {"control_weight": Setting(1.0)},
    "feddyn": _pair("alpha", 0.03, 0.01),
    "ditto": _pair("lambda", 0.03, 0.01),
    "fedmedian": {"sample_weights": Setting(False)},
    "trimmed_mean": {"trim_fraction": Setting(0.34, high=0.5), "sample_weights": Setting(False)},
    "cyclic": {},
    "swarm": {},
}
"""Every strategy with its settings; docs/strategies.md says where the defaults come from."""

INDEPENDENT_START = ("fedavg", "fedma", "fedma_layerwise")
"""Strategies that can start from weights that every site draws for itself."""


CONTROL = "control"
"""Arrays that SCAFFOLD's sites send (their change of c_i) and receive (c)."""

ARRAYS_SENT: dict[str, tuple[str, ...]] = {"scaffold": (CONTROL,)}
"""What sites send beside their model, by strategy."""

MIRRORED_STRATEGIES = frozenset({"scaffold", "feddyn"})
"""Strategies whose server keeps sums of what the sites keep."""

PERSONAL_STRATEGIES = ("fedbn", "fedper", "ditto")
"""Strategies after which every site has a model of its own."""


def with_defaults(strategy: StrategyConfig, where: str) -> StrategyConfig:
    """The strategy with its own settings filled in, checked.

    Raises:
        ConfigError: an unknown strategy, a setting of another strategy, or a value out of range.
    """
    choose(strategy.name, STRATEGIES, f"{where}: strategy.name")
    choose(strategy.initialisation, INITIALISATIONS, f"{where}: strategy.initialisation")
    if strategy.initialisation == "independent" and strategy.name not in INDEPENDENT_START:
        raise ConfigError(
            f"{where}: strategy.initialisation 'independent' is meant for "
            f"{', '.join(INDEPENDENT_START)}; '{strategy.name}' starts from the server's model"
        )
    known = STRATEGIES[strategy.name]
    for key, value in settings_of(strategy).items():
        if key not in known:
            owners = [name for name, settings in STRATEGIES.items() if key in settings]
            raise ConfigError(
                f"{where}: strategy.{key} belongs to {', '.join(owners)}, "
                f"but strategy.name is '{strategy.name}'"
            )
        known[key].check(value, f"{where}: strategy.{key}")
    missing = {
        key: setting.default for key, setting in known.items() if getattr(strategy, key) is None
    }
    return dataclasses.replace(strategy, **missing)  # type: ignore[arg-type]


def settings_of(strategy: StrategyConfig) -> dict[str, Value]:
    """The settings that are set, without name and initialisation."""
    values = dataclasses.asdict(strategy)
    del values["name"], values["initialisation"]
    return {key: value for key, value in values.items() if value is not None}


def coefficients(strategy: StrategyConfig) -> dict[str, float]:
    """Coefficient per role (``generator``, ``discriminator``) of FedProx, FedDyn or Ditto."""
    name = _COEFFICIENTS[strategy.name]
    return {
        role: float(getattr(strategy, f"{name}_{role}")) for role in ("generator", "discriminator")
    }
