"""Tune settings: run a grid over several seeds, and choose one point by one rule for all.

The rule stands in ``jobs.running.tuning.table``. Every grid of a strategy has as many points, only
validation patients are looked at, and the whole table is kept.

A tuning goes on where it was interrupted: finished runs are not repeated, and the table is written
again after every run. Runs are jobs in NVFlare's simulator, or, with the same bits and without its
start, loops in this process.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedi2i.digest import digest
from fedi2i.errors import ConfigError, DataError
from fedi2i.files import write_text
from fedi2i.typed_config import merged, nearest
from jobs.privacy.catalogue import privacy_values
from jobs.running.arm_outcome import final_mean
from jobs.running.federated_arm import FederatedArm, simulated_privacy
from jobs.running.plain_loop import validation_in_this_process
from jobs.running.prepared_data import key_of, prepared_manifests, refuse_nobody_in
from jobs.running.spent_epsilon import TUNING_FILE
from jobs.running.tuning.table import (
    FEWEST_SEEDS,
    TABLE_FILE,
    Choice,
    TunedRun,
    choose_point,
    keep,
    runs_of,
)
from jobs.writing.federation import FederatedExperiment, with_strategy
from lightning_modules.configuration import experiment_from, experiment_values
from lightning_modules.strategies.catalogue import STRATEGY_JOBS, grid_of, strategy_job


@dataclass(frozen=True)
class Grid:
    """What is tuned.

    Attributes:
        name: a strategy's job, or a name in ``TRAINING_GRIDS``.
        strategy: the job that is run.
        points: the settings to try, as nested values of an experiment.
        published: the point that the authors use; one of the points.
    """

    name: str
    strategy: str
    points: tuple[Mapping[str, Any], ...]
    published: Mapping[str, Any]


def _rates(generator: float, discriminator: float) -> dict[str, Any]:
    rates = {"generator": generator, "discriminator": discriminator}
    return {"training": {f"learning_rate_{role}": rate for role, rate in rates.items()}}


TRAINING_GRIDS: dict[str, Grid] = {
    # pix2pix and CycleGAN: 2e-4 for both networks, over hundreds of times as many steps.
    "learning_rates": Grid(
        "learning_rates",
        "fedavg",
        (_rates(2e-4, 2e-4), _rates(1e-3, 2e-4), _rates(2e-3, 5e-4), _rates(4e-3, 1e-3)),
        _rates(2e-4, 2e-4),
    ),
    # Sites of the papers keep nothing between rounds.
    "optimizer_state": Grid(
        "optimizer_state",
        "fedavg",
        tuple({"training": {"optimizer_state": state}} for state in ("reset", "keep")),
        {"training": {"optimizer_state": "reset"}},
    ),
}
"""Settings that all strategies share; they are tuned with FedAvg, before any strategy."""


def grid_named(name: str) -> Grid:
    """A grid by its name.

    Raises:
        ConfigError: there is none.
    """
    if name in TRAINING_GRIDS:
        return TRAINING_GRIDS[name]
    if name not in STRATEGY_JOBS:
        known = [*TRAINING_GRIDS, *STRATEGY_JOBS]
        raise ConfigError(f"unknown grid '{name}'; {nearest(name, known)}")
    points = tuple({"strategy": dict(settings)} for settings in grid_of(name))
    published = {"strategy": dict(strategy_job(name).strategy.published)}
    return Grid(name, name, points, published)


def run_tuning(
    job: FederatedExperiment,
    data: Path,
    out: Path,
    names: Sequence[str],
    seeds: Sequence[int],
    *,
    in_process: bool = False,
) -> dict[str, Choice]:
    """Run the grids, seed by seed, and choose a point of each.

    Writes ``tuning.csv`` and ``tuning.json``, what every run has spent of the patients' privacy,
    into ``out`` after every run; rows of other grids in them stay.

    Args:
        job: experiment and federation; its seed is replaced.
        data: folder that holds one prepared folder per site.
        out: folder of the runs.
        names: grids, see ``grid_named``.
        seeds: two or more.
        in_process: train in this process instead of the simulator.

    Raises:
        UserError: data, settings or seeds that cannot be used, or a run that failed.
    """
    if len(set(seeds)) < FEWEST_SEEDS or len(set(seeds)) != len(seeds):
        raise ConfigError(
            f"seeds {', '.join(map(str, seeds))}: name {FEWEST_SEEDS} or more different ones; one "
            "seed cannot tell a setting from chance"
        )
    grids = [grid_named(name) for name in names]
    manifests = prepared_manifests(job, data)
    refuse_nobody_in("val", job, manifests, "on whom the grid's points are chosen")
    data_key = key_of(manifests)
    table = out / TABLE_FILE
    _noted(out / TUNING_FILE)  # a damaged one is said before anything is trained
    for seed in seeds:
        for grid in grids:
            for point in grid.points:
                run = _run(job, grid, point, seed, _Place(data, data_key, out, in_process))
                keep(table, run)
                _note_training(job, grid, point, run, out)
    labels = {grid.name: {point_text(point) for point in grid.points} for grid in grids}
    return {name: choose_point(runs_of(table, name, labels[name], seeds)) for name in labels}


@dataclass(frozen=True)
class _Place:
    data: Path
    data_key: str
    out: Path
    in_process: bool


def _run(
    job: FederatedExperiment, grid: Grid, point: Mapping[str, Any], seed: int, place: _Place
) -> TunedRun:
    changed = _changed(job, grid, point, seed)
    label, called = point_text(point), _called(grid, point, seed)
    psnr, ssim = _scores(changed, grid.strategy, point.get("strategy", {}), called, place)
    settings = experiment_values(job.experiment)
    training = changed.experiment.training
    compared = {"settings": {**settings, "seed": 0, "strategy": {}}, "data": place.data_key}
    if job.privacy.acts:
        compared["privacy"] = privacy_values(job.privacy)
    key = digest(compared)
    return TunedRun(
        grid=grid.name,
        point=label,
        published=point == grid.published,
        seed=seed,
        psnr=psnr,
        ssim=ssim,
        rounds=training.rounds,
        steps=training.rounds * training.steps * len(job.federation.sites),
        key=key[:12],
    )


def _changed(
    job: FederatedExperiment, grid: Grid, point: Mapping[str, Any], seed: int
) -> FederatedExperiment:
    """The experiment with the settings of a point that are not the strategy's own, and a seed."""
    shared = {key: value for key, value in point.items() if key != "strategy"}
    values = merged(experiment_values(job.experiment), {**shared, "seed": seed})
    experiment = experiment_from(values, f"grid '{grid.name}'")
    return FederatedExperiment(job.federation, experiment, job.privacy)


def _called(grid: Grid, point: Mapping[str, Any], seed: int) -> str:
    return f"{grid.name}-{point_text(point).replace(' ', '-')}-seed{seed}"


def _note_training(
    job: FederatedExperiment, grid: Grid, point: Mapping[str, Any], run: TunedRun, out: Path
) -> None:
    """Note what a run has spent on the patients of all runs, for the epsilon of the study.

    What an earlier run under the same name has spent with other settings, or at other sites, stays
    spent; the same run counts once.
    """
    path = out / TUNING_FILE
    tuned = with_strategy(
        _changed(job, grid, point, run.seed), grid.strategy, point.get("strategy")
    )
    arm = {
        "name": _called(grid, point, run.seed),
        "sites": list(job.federation.sites),
        "key": run.key,
        "privacy": simulated_privacy(tuned),
    }
    arm = json.loads(json.dumps(arm))
    arms = [*(entry for entry in _noted(path) if entry != arm), arm]
    write_text(path, json.dumps({"arms": arms}, indent=1) + "\n")


def _noted(path: Path) -> list[Any]:
    """The trainings that earlier calls have noted.

    Raises:
        DataError: the file is damaged, so that nobody knows what was spent.
    """
    if not path.exists():
        return []
    try:
        return list(json.loads(path.read_text(encoding="utf-8"))["arms"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: damaged ({error!r}), so what was spent here is not known; take a new folder"
        ) from error


def point_text(point: Mapping[str, Any]) -> str:
    """The settings of a point, without the sections that they stand in."""
    pairs = [pair for section in point.values() for pair in section.items()]
    return " ".join(f"{key}={_value_text(value)}" for key, value in pairs)


def _value_text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else f"{value}"


def _scores(
    job: FederatedExperiment,
    strategy: str,
    settings: Mapping[str, Any],
    called: str,
    place: _Place,
) -> tuple[float, float]:
    if place.in_process:
        tuned = with_strategy(job, strategy, settings)
        found = validation_in_this_process(tuned, place.data, place.data_key, place.out / called)
    else:
        arm = FederatedArm(
            job, strategy, place.data, place.data_key, place.out, settings=settings, called=called
        )
        rows = arm.run().rows
        names = ("personal/psnr", "val/psnr", "val/ssim")
        found = {name: value for name in names if (value := final_mean(rows, name)) is not None}
    psnr, ssim = found.get("personal/psnr", found.get("val/psnr")), found.get("val/ssim")
    if psnr is None or ssim is None:
        raise DataError(f"run '{called}': no validation of the final model; run it again")
    return psnr, ssim
