"""What an aggregation has to say about itself: numbers per site, and sums over networks."""

from __future__ import annotations

import math

SERVER = "server"
"""Stands in the place of a site's name for what belongs to the server."""

Diagnostic = tuple[str, str, float]
"""Site (or ``server``), metric and value."""


class Diagnostics:
    """Collects one round's rows; parts of one metric that come from several networks are added."""

    def __init__(self) -> None:
        self._rows: list[Diagnostic] = []
        self._sums: dict[str, tuple[float, float]] = {}

    def note(self, site: str, metric: str, value: float) -> None:
        """A number of one site."""
        self._rows.append((site, metric, value))

    def add(self, metric: str, part: float, whole: float) -> None:
        """A contribution to the server's metric sum(part) / sum(whole)."""
        before = self._sums.get(metric, (0.0, 0.0))
        self._sums[metric] = (before[0] + part, before[1] + whole)

    def rows(self) -> list[Diagnostic]:
        """All rows, the server's last. Nothing of nothing is 0; something of nothing, infinity."""
        return [*self._rows, *((SERVER, name, _ratio(*sums)) for name, sums in self._sums.items())]


def _ratio(part: float, whole: float) -> float:
    if whole == 0.0:
        return 0.0 if part == 0.0 else math.inf
    return part / whole
