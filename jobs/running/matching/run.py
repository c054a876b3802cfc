"""Run a matching study: train and measure what is not there yet, and write the table."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch

from fedi2i import __version__
from fedi2i.cores import available_cores
from fedi2i.digest import digest
from fedi2i.errors import ConfigError, DataError
from fedi2i.files import write_csv, write_text
from fedi2i.typed_config import as_dict
from jobs.running.matching.kept import COLUMNS, Row, keep_rows, kept_rows
from jobs.running.matching.merging import bench_of, control_rows, merge_rows
from jobs.running.matching.plan import INDEPENDENT, Cell, MatchingStudy, Start
from jobs.running.matching.rounds import round_rows
from jobs.running.matching.training import Data, Training, train, trainings_of
from jobs.running.prepared_data import prepared_manifests, refuse_nobody_in
from jobs.running.studies.begun import begun_record
from partitions.processes import side_by_side

RECORD_FILE = "matching.json"
RESULTS_FILE = "matching.csv"
MERGES, ROUNDS, CONTROLS = "merges", "rounds", "controls"


@dataclass(frozen=True)
class Measurement:
    """One piece of measuring.

    Attributes:
        cell: whose models.
        what: ``merges``, ``rounds`` or ``controls``.
        begun_with: of rounds: what they begin with.
    """

    cell: Cell
    what: str
    begun_with: str = ""

    @property
    def name(self) -> str:
        """Its file below the study's folder, without the ending."""
        return "/".join(filter(None, (self.cell.name, self.what, self.begun_with)))

    def path(self, out: Path) -> Path:
        """Its file."""
        return out / "measured" / f"{self.name}.csv"

    def key(self, study: MatchingStudy, data: Data) -> str:
        """Changes with everything that its rows depend on."""
        config = study.config
        settings = {
            MERGES: [config.merges, config.path_points],
            ROUNDS: [config.merges, as_dict(config.rounds), self.begun_with],
            CONTROLS: [config.merges],
        }
        models = [one.key(data) for one in trainings_of(study, self.cell).values()]
        used = [settings[self.what], config.activation_slices, models, data.manifests]
        return digest([__version__, self.what, used])


def run_matching_study(
    study: MatchingStudy, data: Path, out: Path, at_once: int | None = None
) -> None:
    """Do what is not done yet, and write ``matching.csv``.

    Args:
        study: what to do.
        data: folder that holds one folder per site.
        out: the study's folder.
        at_once: processes at the same time, one thread each; by default the number of cores.
            Results do not depend on it.

    Raises:
        UserError: data or settings that cannot be used, or a folder that holds another study; the
            same command goes on from there.
    """
    workers = available_cores() if at_once is None else at_once
    if workers < 1:
        raise ConfigError(f"--at-once {workers}: write 1 or more processes")
    study, opened = _begin(study, data, out)
    for stage in _stages(study):
        untrained = [one for one in stage if one.kept(opened, out) is None]
        _told("trained", stage, untrained)
        _all(partial(_train, data=opened, out=out), untrained, workers)
    measurements = _measurements(study)
    left = [one for one in measurements if kept_rows(one.path(out), one.key(study, opened)) is None]
    _told("measured", measurements, left)
    _all(partial(_measure, study=study, data=opened, out=out), left, workers)
    rows = [row for one in measurements for row in _rows(one, study, opened, out)]
    write_csv(out / RESULTS_FILE, COLUMNS, [[getattr(r, name) for name in COLUMNS] for r in rows])


def _stages(study: MatchingStudy) -> list[list[Training]]:
    """Models that others go on from come first; the longest last processes are the widest ones."""
    found = {
        training.name: training
        for cell in (*study.cells, *study.rounds_cells)
        for training in trainings_of(study, cell).values()
    }
    members = sorted(found.values(), key=_amount, reverse=True)
    commons = {one.after.name: one.after for one in members if one.after}
    return [list(commons.values()), members]


def _amount(training: Training) -> float:
    return training.steps * float(sum(training.experiment.model.generator.channels)) ** 2


def _measurements(study: MatchingStudy) -> list[Measurement]:
    rounds = [
        Measurement(cell, ROUNDS, begun_with)
        for cell in study.rounds_cells
        for begun_with in study.config.rounds.merges
    ]
    merges = [Measurement(cell, MERGES) for cell in study.cells]
    widths = (study.config.width, *study.config.other_widths)
    controls = [
        Measurement(Cell(seed, Start(INDEPENDENT), width, 2), CONTROLS)
        for seed in study.config.seeds
        for width in widths
        if Cell(seed, Start(INDEPENDENT), width, 2) in study.cells
    ]
    return [*rounds, *merges, *controls]


def _train(training: Training, data: Data, out: Path) -> str:
    torch.set_num_threads(1)
    train(training, data, out)
    return training.name


def _measure(one: Measurement, study: MatchingStudy, data: Data, out: Path) -> str:
    torch.set_num_threads(1)
    bench = bench_of(study, one.cell, data, out)
    found: Iterable[Row]
    if one.what == MERGES:
        found = merge_rows(study, bench)
    elif one.what == ROUNDS:
        found = round_rows(study, bench, data, out, one.begun_with)
    else:
        found = control_rows(bench, study.config.merges)
    keep_rows(one.path(out), one.key(study, data), list(found))
    return one.name


def _rows(one: Measurement, study: MatchingStudy, data: Data, out: Path) -> list[Row]:
    rows = kept_rows(one.path(out), one.key(study, data))
    if rows is None:
        raise DataError(f"{one.path(out)}: cannot be read back; run the same command again")
    return rows


def _told(done: str, stage: Sequence[Any], left: Sequence[Any]) -> None:
    if len(stage) > len(left):
        print(f"{len(stage) - len(left)} of {len(stage)} are {done} already", flush=True)


def _all(work: Callable[[Any], str], left: Sequence[Any], workers: int) -> None:
    started = time.perf_counter()
    for done, name in enumerate(side_by_side(work, left, workers), start=1):
        seconds = (time.perf_counter() - started) / done * (len(left) - done)
        print(f"[{done}/{len(left)}] {name}; about {seconds / 60:.0f} minutes left", flush=True)


def _begin(study: MatchingStudy, data: Path, out: Path) -> tuple[MatchingStudy, Data]:
    """Write ``matching.json`` before the first model, or refuse a folder of another study.

    Returns:
        The study with all its seeds, those of earlier calls first; and its data.
    """
    manifests = prepared_manifests(study.job, data)
    refuse_nobody_in("train", study.job, manifests, "on whom its models would be trained")
    refuse_nobody_in("val", study.job, manifests, "on whom models and merges are chosen")
    opened = Data(data.resolve(), tuple((m.site, m.content_hash()) for m in manifests))
    written = json.dumps(study.design(dict(opened.manifests)))
    design: dict[str, Any] = json.loads(written)
    path = out / RECORD_FILE
    created, seeds = datetime.now(UTC).isoformat(timespec="seconds"), study.config.seeds
    if path.exists():
        why = "its models cannot be put beside others"
        known = begun_record(path, design, {"seeds": _seeds}, why)
        created, begun = str(known["created"]), _seeds(known["seeds"])
        # What has been run stays part of the study: nobody chooses among its seeds afterwards.
        seeds = (*begun, *(seed for seed in seeds if seed not in begun))
    computed = all(manifest.computed for manifest in manifests)
    record = {"created": created, "computed": computed, "design": design, "seeds": list(seeds)}
    write_text(path, json.dumps(record, indent=1) + "\n")
    return replace(study, config=replace(study.config, seeds=seeds)), opened


def _seeds(value: Iterable[object]) -> tuple[int, ...]:
    return tuple(int(str(seed)) for seed in value)
