"""What leaves a site: a sharing scope names networks; everything else stays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from fedi2i.errors import ConfigError

Value = TypeVar("Value")


@dataclass(frozen=True)
class SharingScope:
    """The keys of a state_dict that are shared, by whole dotted prefix.

    ``generator`` matches ``generator.unet.weight`` and neither ``generator2.weight`` nor
    ``my.generator.weight``. Keys of no listed network never leave: the scope selects, it does not
    strike out. Local parts are taken off what was selected.

    Attributes:
        networks: the shared networks.
        local: prefixes inside them that stay at the site all the same.
    """

    networks: tuple[str, ...]
    local: tuple[str, ...] = ()

    def covers(self, key: str) -> bool:
        """Whether a state_dict key is shared."""
        return _under(key, self.networks) and not _under(key, self.local)

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


def _under(key: str, prefixes: tuple[str, ...]) -> bool:
    return any(key.startswith(f"{prefix}.") for prefix in prefixes)
