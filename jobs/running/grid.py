"""Run one strategy over its grid of settings: the same budget for every strategy."""

from __future__ import annotations

from pathlib import Path

from jobs.running.federated_arm import FederatedArm
from jobs.running.prepared_data import key_of, prepared_manifests
from jobs.running.strategies_table import strategies_text, strategy_line, write_strategies
from jobs.writing.federation import FederatedExperiment
from lightning_modules.strategies.catalogue import grid_of


def run_grid(job: FederatedExperiment, data: Path, out: Path, strategy: str) -> None:
    """Run one strategy with every setting of its grid, and list them by validation.

    Raises:
        UserError: data or settings that cannot be used, or a run that failed.
    """
    grid = grid_of(strategy)
    data_key = key_of(prepared_manifests(job, data))
    arms = [FederatedArm(job, strategy, data, data_key, out, settings) for settings in grid]
    lines = [strategy_line(arm.run()) for arm in arms]
    write_strategies(out, lines)
    print(strategies_text(lines))
