"""Small grids of strategies' settings, the same budget of four values for each.

A comparison of strategies is fair only if each had the same chance to be tuned. FedProx's values
span its authors' (0.001 to 1); the discriminator takes a third of each, as its gradients are
smaller than those of a generator with lambda_l1 = 100. FedDyn gets the same, its coefficient being
of the same kind; the others span about a decade around what their authors use.
"""

from __future__ import annotations

from typing import Any

from fedi2i.errors import ConfigError
from fedi2i.typed_config import nearest


def _pairs(name: str, values: list[float], part: float = 1.0) -> list[dict[str, Any]]:
    return [{f"{name}_generator": v, f"{name}_discriminator": v * part} for v in values]


STRATEGY_GRIDS: dict[str, list[dict[str, Any]]] = {
    "fedprox": _pairs("mu", [0.001, 0.01, 0.1, 1.0], 1 / 3),
    "feddyn": _pairs("alpha", [0.001, 0.01, 0.1, 1.0], 1 / 3),
    "ditto": _pairs("lambda", [0.01, 0.1, 1.0, 10.0], 1 / 3),
    "fedavgm": [{"server_momentum": value} for value in (0.1, 0.3, 0.5, 0.9)],
    "fedadam": _pairs("server_learning_rate", [0.003, 0.01, 0.03, 0.1]),
    "fedyogi": _pairs("server_learning_rate", [0.003, 0.01, 0.03, 0.1]),
    "scaffold": [{"control_weight": value} for value in (0.1, 0.3, 0.5, 1.0)],
}


def grid_of(job: str) -> list[dict[str, Any]]:
    """The settings to try for one committed job.

    Raises:
        ConfigError: the job has no grid.
    """
    if job not in STRATEGY_GRIDS:
        raise ConfigError(f"no grid for strategy '{job}'; {nearest(job, STRATEGY_GRIDS)}")
    return STRATEGY_GRIDS[job]
