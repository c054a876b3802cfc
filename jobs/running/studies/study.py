"""Run a study: the comparison of one experiment again with every seed, and what it was made for.

A study says before its first run which outcome it is about and which difference would matter. Its
folder holds a comparison's folder for every seed, so that a page of one seed can be looked at while
the others run, and a finished arm of a finished seed is never run again.
"""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fedi2i import __version__
from fedi2i.digest import digest
from fedi2i.errors import ConfigError, DataError
from fedi2i.files import write_csv, write_text
from fedi2i.typed_config import as_dict, check_values, choose, number, read_yaml, record_from
from jobs.privacy.catalogue import privacy_values
from jobs.running.comparison import Comparison, run_comparison
from jobs.running.comparison_checks import (
    REFERENCE,
    check_arms,
    check_distributions,
    check_patients,
)
from jobs.running.launching.parts import launch_comparisons
from jobs.running.launching.resources import Resources
from jobs.running.prepared_data import prepared_manifests
from jobs.running.run_record import PrimaryOutcome
from jobs.running.spent_epsilon import RUN_FILE, STUDY_FILE
from jobs.running.studies.begun import begun_record
from jobs.writing.federation import (
    FederatedExperiment,
    read_federated_experiment,
)
from lightning_modules.configuration import experiment_values
from lightning_modules.evaluation.distributions.measured import DISTRIBUTIONS_FILE
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
        ensemble: whether the mean of the local-only models' outputs is an arm.
        fine_tuning: optimizer steps that FedAvg's final model takes at each site alone; 0 for none.
        leave_one_site_out: whether FedAvg is also run without each of the sites.
        distributions: whether sets of slices are measured as well (``distributions.csv``).
        resources: of one job, where a launcher runs the study. No part of its design.
    """

    title: str = "FedI2I study"
    experiment: str = "../experiments/demo.yaml"
    settings: dict[str, Any] = field(default_factory=dict)
    strategies: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (101, 102, 103, 104, 105, 106)
    primary: PrimaryOutcome = field(default_factory=PrimaryOutcome)
    margin: float = number(0.3, above=True, most=1e6)
    regression: bool = True
    ensemble: bool = False
    fine_tuning: int = number(0, most=10**9, meaning="steps at each site alone")
    leave_one_site_out: bool = False
    distributions: bool = False
    resources: Resources = field(default_factory=Resources)


@dataclass(frozen=True)
class Study:
    """A study that can be run.

    Attributes:
        config: what its file says.
        job: experiment and federation; the seed is replaced by each of the study's.
    """

    config: StudyConfig
    job: FederatedExperiment

    def design(self, manifests: Mapping[str, str]) -> dict[str, Any]:
        """What may not change once the first run has begun.

        Args:
            manifests: site to the hash of its data.
        """
        return {
            "title": self.config.title,
            "release": __version__,
            "strategies": list(self.config.strategies),
            "reference": REFERENCE,
            "primary_outcome": as_dict(self.config.primary),
            "margin": self.config.margin,
            "regression": self.config.regression,
            "experiment": {**experiment_values(self.job.experiment), "seed": None},
            "federation": as_dict(self.job.federation),
            "privacy": privacy_values(self.job.privacy),
            "manifests": dict(manifests),
            **{key: value for key, value in self._additions.items() if value},
        }

    @property
    def _additions(self) -> dict[str, Any]:
        """What a study need not have; studies without it keep the design they have had."""
        names = ("ensemble", "fine_tuning", "leave_one_site_out", "distributions")
        return {name: getattr(self.config, name) for name in names}

    def comparison(
        self, seed: int, data: Path, out: Path, at_once: int | None, design: str = ""
    ) -> Comparison:
        """The comparison of one seed; its record names the digest of the design."""
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
            **self._additions,
            design=design,
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
    return study_from(read_yaml(path), path, seeds)


def study_from(
    values: Mapping[str, Any],
    path: Path,
    seeds: Sequence[int] = (),
    changes: Mapping[str, Any] | None = None,
) -> Study:
    """The study that some values of a file make, see ``read_study``.

    Args:
        values: what the file says.
        path: the file.
        seeds: take these in the place of the file's.
        changes: what else differs from the experiment file, by its keys.
    """
    config = record_from(StudyConfig, values, str(path))
    check_values(config, str(path))
    if seeds:
        config = replace(config, seeds=tuple(seeds))
    _check(config, str(path))
    experiment = (path.parent / config.experiment).resolve()
    job = read_federated_experiment(experiment, {**(changes or {}), "experiment": config.settings})
    check_arms(
        job,
        config.strategies,
        ensemble=config.ensemble,
        fine_tuning=config.fine_tuning,
        leave_one_site_out=config.leave_one_site_out,
        where=str(path),
    )
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
    config.resources.check_names(where)
    for key, values in (("seeds", config.seeds), ("strategies", config.strategies)):
        twice = [value for value in values if values.count(value) > 1]
        if twice:
            raise ConfigError(f"{where}: {key} names {twice[0]} twice; name every one once")
        if not values:
            raise ConfigError(f"{where}: {key} is empty; name one or more")
    if REFERENCE not in config.strategies:
        raise ConfigError(
            f"{where}: strategies leave out '{REFERENCE}', with which all others are compared; "
            "name it"
        )
    if config.settings.get("seed") is not None or "strategy" in config.settings:
        raise ConfigError(
            f"{where}: settings name a seed or a strategy; write them under 'seeds' and "
            "'strategies'"
        )


def run_study(
    study: Study,
    data: Path,
    out: Path,
    at_once: int | None = None,
    launcher: str = "",
) -> None:
    """Run what is not finished, seed by seed, and write ``study.json`` and ``results.csv``.

    Args:
        study: what to run.
        data: folder that holds one folder per site.
        out: the study's folder.
        at_once: training processes, or jobs of a launcher, at the same time.
        launcher: runs the arms of all seeds as jobs, see ``jobs.running.launching``; without one
            this process runs one seed after the other.

    Raises:
        UserError: data or settings that cannot be used, a folder that holds another study, or an
            arm that failed; the same command goes on from there.
    """
    seeds, design = _begin(study, data, out)
    if launcher:
        # A job may start in another folder.
        place = (data.resolve(), out.resolve(), at_once, digest(design))
        parts = [study.comparison(seed, *place) for seed in seeds]
        launch_comparisons(parts, launcher, out.resolve(), study.config.resources, at_once)
    started = time.perf_counter()
    for done, seed in enumerate(seeds, start=1):
        print(f"[study] seed {seed}, {done} of {len(seeds)}", flush=True)
        run_comparison(study.comparison(seed, data, out, at_once, digest(design)))
        left = (time.perf_counter() - started) / done * (len(seeds) - done)
        print(f"[study] seed {seed} finished; about {left / 60:.0f} minutes left", flush=True)
    for name in (RESULTS_FILE, *([DISTRIBUTIONS_FILE] if study.config.distributions else [])):
        write_csv(out / name, *collected(out, seeds, name))


def collected(
    out: Path, seeds: Sequence[int], name: str = RESULTS_FILE
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The rows of a file that every seed's folder has, with the seed before each.

    Raises:
        DataError: a file is missing, or its columns differ from another's.
    """
    return joined_tables("seed", {str(seed): out / seed_folder(seed) / name for seed in seeds})


def joined_tables(
    key: str, paths: Mapping[str, Path]
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The columns and rows of several tables, with what tells them apart before each row.

    Args:
        key: name of the new first column.
        paths: its value to a table; one or more.

    Raises:
        DataError: a file is missing, or its columns differ from the first one's.
    """
    tables = {value: list(_rows(path)) for value, path in paths.items()}
    first, columns = next((value, table[0]) for value, table in tables.items())
    for value, (header, *_) in tables.items():
        if header != columns:
            raise DataError(
                f"{paths[value]}: columns {','.join(header)}, but {key} {first} has "
                f"{','.join(columns)}; another release wrote it: run the study into a new folder"
            )
    rows = [(value, *row) for value, table in tables.items() for row in table[1:]]
    return (key, *columns), rows


def _rows(path: Path) -> Iterator[tuple[str, ...]]:
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            yield from map(tuple, csv.reader(stream))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); run the study again") from error


def _begin(study: Study, data: Path, out: Path) -> tuple[list[int], dict[str, Any]]:
    """Write ``study.json`` before the first run, or refuse a folder that holds another study.

    Returns:
        All seeds of the study, those of earlier calls first; and its design, as it is written.
    """
    if (out / RUN_FILE).exists():
        raise ConfigError(f"{out}: holds the run of a comparison; take a new folder for the study")
    sites = prepared_manifests(study.job, data)
    check_patients(study.job, sites)
    if study.config.distributions:
        check_distributions(study.job, sites)
    written = json.dumps(study.design({site.site: site.content_hash() for site in sites}))
    design: dict[str, Any] = json.loads(written)
    path = out / STUDY_FILE
    begun: dict[str, Any] = {}
    if path.exists():
        begun = begun_record(path, design, {"folders": dict}, "runs of the two cannot be compared")
    # What has been run stays part of the study: nobody chooses among its seeds afterwards.
    folders = {**begun.get("folders", {}), **{str(s): seed_folder(s) for s in study.config.seeds}}
    created = begun.get("created", datetime.now(UTC).isoformat(timespec="seconds"))
    record = {"created": created, "design": design, "folders": folders}
    write_text(path, json.dumps(record, indent=1) + "\n")
    return [int(seed) for seed in folders], design
