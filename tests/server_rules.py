"""A strategy's server rule with what it keeps, for tests that need no framework around it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lightning_modules.combining.updates import SiteUpdate, Weights
from lightning_modules.strategies.catalogue import strategy_from
from lightning_modules.strategies.interface import ServerView


class Server:
    """One server: rounds follow each other on the same memory.

    Args:
        strategy: the strategy's name.
        sites: names of all sites of the job.
        is_parameter: whether a key is a parameter.
        settings: settings that differ from the defaults.
    """

    def __init__(
        self,
        strategy: str,
        sites: Sequence[str] = (),
        is_parameter: Callable[[str], bool] = lambda _: True,
        **settings: Any,
    ) -> None:
        config = strategy_from({"name": strategy, **settings}, "test")
        assert config.record.server is not None
        self.rule = config.record.server(config.settings)
        self.view = ServerView(sites=tuple(sites), is_parameter=is_parameter)

    @property
    def memory(self) -> Weights:
        """What the strategy keeps at the server."""
        return self.view.memory

    def combine(self, network: str, updates: Sequence[SiteUpdate], anchor: Weights) -> Weights:
        """Combine one network's updates."""
        return self.rule.combine(network, updates, anchor, self.view)

    def extras(self) -> Weights:
        """What goes out beside the model."""
        return self.rule.extras_for_sites(self.view)
