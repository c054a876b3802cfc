"""Run a study: the comparison of one experiment again with every seed, and what it was made for.

A study says before its first run which outcome it is about and which difference would matter. Its
folder holds a comparison's folder for every seed, so that a page of one seed can be looked at while
the others run, and a finished arm of a finished seed is never run again.
"""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fedi2i import __version__
from fedi2i.digest import digest
from fedi2i.errors import ConfigError, DataError
from fedi2i.files import write_csv, write_text
from fedi2i.typed_config import as_dict, check_values, choose, number, read_yaml, record_from
from jobs.running.comparison import Comparison, run_comparison
from jobs.running.prepared_data import prepared_manifests
from jobs.running.run_record import PrimaryOutcome
from jobs.running.spent_epsilon import STUDY_FILE
from jobs.writing.federation import (
    FederatedExperiment,
    read_federated_experiment,
    with_strategy,
)
from lightning_modules.configuration import experiment_values
from lightning_modules.metrics.presets.catalogue import PRESETS

RESULTS_FILE = "results.csv"
PATIENTS = ("federated", "unseen")


@dataclass(frozen=True)
class StudyConfig:
    """A study, as its YAML file says it.

    Attributes:
        title: heading of the report.
        experiment: the experiment file, from the folder of the study's file.
        settings: what differs from that file, as nested values of ``experiment``.
        strategies: jobs to compare, the reference among them.
        seeds: one training run of every arm for each; arms of one seed share their first weights
            and the order of slices. The primary test needs three or more.
        primary: the primary outcome.
        margin: arms that differ by less than this are of equal use, in the primary metric's unit.
        regression: whether the arm ``regression`` is run.
    """

    title: str = "FedI2I study"
    experiment: str = "../experiments/demo.yaml"
    settings: dict[str, Any] = field(default_factory=dict)
    strategies: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (101, 102, 103, 104, 105, 106)
    primary: PrimaryOutcome = field(default_factory=PrimaryOutcome)
    margin: float = number(0.3, above=True, most=1e6)
    regression: bool = True


@dataclass(frozen=True)
class Study:
    """A study that can be run.

    Attributes:
        config: what its file says.
        job: experiment and federation; the seed is replaced by each of the study's.
    """

    config: StudyConfig
    job: FederatedExperiment

    def comparison(self, seed: int, data: Path, out: Path, at_once: int | None) -> Comparison:
        """The comparison of one seed."""
        job = replace(self.job, experiment=replace(self.job.experiment, seed=seed))
        return Comparison(
            job=job,
            data=data,
            out=out / seed_folder(seed),
            strategies=self.config.strategies,
            at_once=at_once,
            title=f"{self.config.title}: seed {seed}",
            primary=self.config.primary,
            regression=self.config.regression,
        )


def seed_folder(seed: int) -> str:
    """The name of the folder of one seed."""
    return f"seed-{seed}"


def read_study(path: Path, seeds: Sequence[int] = ()) -> Study:
    """Read a study's file and the experiment that it names.

    Args:
        path: the YAML file.
        seeds: take these in the place of the file's.

    Raises:
        ConfigError: an unknown key, a value out of range, a seed named twice, a strategy or a
            metric that does not fit the experiment.
    """
    config = record_from(StudyConfig, read_yaml(path), str(path))
    check_values(config, str(path))
    if seeds:
        config = replace(config, seeds=tuple(seeds))
    _check(config, str(path))
    experiment = (path.parent / config.experiment).resolve()
    job = read_federated_experiment(experiment, {"experiment": config.settings})
    for name in config.strategies:
        with_strategy(job, name)
    measured = PRESETS[job.experiment.preset].metrics
    choose(config.primary.metric, measured, f"{path}: primary.metric")
    if config.primary.patients == "unseen" and not job.federation.unseen:
        raise ConfigError(
            f"{path}: primary.patients is 'unseen', but {experiment.name} names no site under "
            "federation.unseen; name one, or take 'federated'"
        )
    return Study(config, job)


def _check(config: StudyConfig, where: str) -> None:
    choose(config.primary.patients, PATIENTS, f"{where}: primary.patients")
    for key, values in (("seeds", config.seeds), ("strategies", config.strategies)):
        twice = [value for value in values if values.count(value) > 1]
        if twice:
            raise ConfigError(f"{where}: {key} names {twice[0]} twice; name every one once")
        if not values:
            raise ConfigError(f"{where}: {key} is empty; name one or more")
    if config.settings.get("seed") is not None or "strategy" in config.settings:
        raise ConfigError(
            f"{where}: settings name a seed or a strategy; write them under 'seeds' and "
            "'strategies'"
        )


def run_study(study: Study, data: Path, out: Path, at_once: int | None = None) -> None:
    """Run what is not finished, seed by seed, and write ``study.json`` and ``results.csv``.

    Raises:
        UserError: data or settings that cannot be used, a folder that holds another study, or an
            arm that failed; the same command goes on from there.
    """
    _begin(study, data, out)
    started = time.perf_counter()
    for done, seed in enumerate(study.config.seeds, start=1):
        print(f"[study] seed {seed}, {done} of {len(study.config.seeds)}", flush=True)
        run_comparison(study.comparison(seed, data, out, at_once))
        left = (time.perf_counter() - started) / done * (len(study.config.seeds) - done)
        print(f"[study] seed {seed} finished; about {left / 60:.0f} minutes left", flush=True)
    columns, rows = collected(out, study.config.seeds)
    write_csv(out / RESULTS_FILE, columns, rows)


def collected(out: Path, seeds: Sequence[int]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The rows of every seed's ``results.csv``, with the seed before each.

    Raises:
        DataError: a file is missing, or its columns differ from another's.
    """
    tables = {seed: list(_rows(out / seed_folder(seed) / RESULTS_FILE)) for seed in seeds}
    headers = {seed: table[0] for seed, table in tables.items()}
    columns = headers[seeds[0]]
    for seed, header in headers.items():
        if header != columns:
            raise DataError(
                f"{out / seed_folder(seed) / RESULTS_FILE}: columns {','.join(header)}, but seed "
                f"{seeds[0]} has {','.join(columns)}; another release wrote it: run the study "
                "into a new folder"
            )
    rows = [(str(seed), *row) for seed, table in tables.items() for row in table[1:]]
    return ("seed", *columns), rows


def _rows(path: Path) -> Iterator[tuple[str, ...]]:
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            yield from map(tuple, csv.reader(stream))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); run the study again") from error


def _begin(study: Study, data: Path, out: Path) -> None:
    """Write ``study.json`` before the first run, or refuse a folder that holds another study."""
    manifests = {site.site: site.content_hash() for site in prepared_manifests(study.job, data)}
    design = {
        "title": study.config.title,
        "release": __version__,
        "strategies": list(study.config.strategies),
        "primary_outcome": as_dict(study.config.primary),
        "margin": study.config.margin,
        "regression": study.config.regression,
        "experiment": {**experiment_values(study.job.experiment), "seed": None},
        "manifests": manifests,
    }
    path = out / STUDY_FILE
    if path.exists():
        _refuse_another(path, design)
    record = {
        **design,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "design": digest(design),
        "seeds": list(study.config.seeds),
        "folders": {str(seed): seed_folder(seed) for seed in study.config.seeds},
    }
    write_text(path, json.dumps(record, indent=1) + "\n")


def _refuse_another(path: Path, design: dict[str, Any]) -> None:
    """More seeds may join a study; nothing else about it may change once it has begun."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        differing = [key for key in design if found[key] != design[key]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: damaged ({error}); run the study into a new folder") from error
    if differing:
        raise ConfigError(
            f"{path}: this folder holds a study with another {', '.join(differing)}; runs of the "
            "two cannot be compared: take a new folder"
        )
