"""What leaves a site: a sharing scope names modules; everything else stays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from lightning_modules.configuration import SCOPES
from partitions.errors import ConfigError
from partitions.typed_config import choose

Value = TypeVar("Value")


@dataclass(frozen=True)
class SharingScope:
    """The modules whose parameters and buffers are shared, by whole dotted prefix.

    ``generator`` matches ``generator.unet.weight`` and neither ``generator2.weight`` nor
    ``my.generator.weight``. Keys of no listed module never leave: the scope selects, it does not
    strike out.
    """

    modules: tuple[str, ...]

    @classmethod
    def named(cls, name: str) -> SharingScope:
        """The scope of a configuration value such as ``generator+discriminator``."""
        return cls(tuple(choose(name, SCOPES, "sharing").split("+")))

    def covers(self, key: str) -> bool:
        """Whether a state_dict key is shared."""
        return any(key.startswith(f"{module}.") for module in self.modules)

    def select(self, state: Mapping[str, Value]) -> dict[str, Value]:
        """The shared part of a state_dict."""
        return {key: value for key, value in state.items() if self.covers(key)}

    def remainder(self, state: Mapping[str, Value]) -> dict[str, Value]:
        """The part that stays at the site."""
        return {key: value for key, value in state.items() if not self.covers(key)}

    def check(self, state: Mapping[str, object], expected: Mapping[str, object]) -> None:
        """Refuse a received state whose keys are not exactly the shared ones of ``expected``.

        Raises:
            ConfigError: naming the first key that is missing or not expected.
        """
        wanted = set(self.select(expected))
        for key in sorted(wanted - set(state)):
            raise ConfigError(f"received model lacks '{key}'; does the job name another model?")
        for key in sorted(set(state) - wanted):
            raise ConfigError(f"received model has an unexpected key '{key}'; other model or scope")
