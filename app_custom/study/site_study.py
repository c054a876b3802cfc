"""Measure a study's models on a site's own test patients; rows and pictures stay in its folder.

What is returned, for the gates to check and the server to collect, is number, mean and standard
deviation per metric. Nothing else of a test patient leaves.
"""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from torch import Tensor, nn

from app_custom.gates.job_limits import JobLimits, rounded
from app_custom.gates.study_numbers import LOCAL, PATIENTS, SharedStudies, study_numbers
from app_custom.study.site_record import arm_entries, now, run_record, site_design
from app_custom.study.task import STUDY_FILE, StudyTask
from fedi2i.digest import digest
from fedi2i.errors import DataError
from fedi2i.files import PRIVATE_FILE, private_folder, replacing, write_csv, write_text
from lightning_modules.configuration import ExperimentConfig
from lightning_modules.evaluation.baselines import UNTRAINED_ARMS
from lightning_modules.evaluation.results import (
    COLUMNS,
    RESULTS_FILE,
    SLICES_FILE,
    Row,
    evaluate,
)
from lightning_modules.evaluation.summaries import summaries
from lightning_modules.evaluation.validation import load_translator
from lightning_modules.networks.building import build_translator
from lightning_modules.training.hardware import Hardware
from lightning_modules.training.learner import Report
from partitions.preparation import PreparedSite

logger = logging.getLogger(__name__)

RUN_FILE, ARM_FILE = "run.json", "arm.json"
ARMS = "arms"
"""In a seed's folder: what each job has left of its arm."""
ALONE = "alone"
"""In a seed's folder: the training of the site's own arm."""

Models = Mapping[str, Mapping[str, Tensor]]


class SiteStudy:
    """A site's part of one job of a study.

    Args:
        folder: of this study alone, in the site's folder for studies, see ``study_folder``.
        task: what the job says of the study.
        experiment: the job's.
        prepared: this site's data, with their manifest.
        own: the site's word on studies.
        limits: the site's, by which numbers are rounded.
        sends: whether numbers may leave in this job.
    """

    def __init__(
        self,
        folder: Path,
        task: StudyTask,
        experiment: ExperimentConfig,
        prepared: PreparedSite,
        own: SharedStudies,
        limits: JobLimits,
        sends: bool,
    ) -> None:
        self._folder = folder
        self._task = task
        self._experiment = experiment
        self._prepared = prepared
        self._own = own
        self._limits = limits
        self._sends = sends

    def numbers(
        self, models: Models, hardware: Hardware, report: Report | None = None
    ) -> dict[str, float]:
        """Measure what the job ends with, write rows and pictures, and return what may leave.

        Args:
            models: by which of ``study_numbers.MODELS`` it is: states with the whole translator.
                The site's own arm is trained here, where the job asks for it.
            hardware: where.
            report: hears of that training, and may end it.

        Returns:
            Numbers by name, rounded as the site says; none where it shares none, or has fewer test
            patients than it asks for.

        Raises:
            UserError: data or a model that cannot be used.
            OSError: a file that cannot be written.
        """
        if not self._prepared.split("test").subjects:
            logger.warning("study '%s': this site has no test patients", self._task.study)
            return {}
        private_folder(self._folder)
        named = self._named(self._with_own_arm(models, hardware, report))
        rows = self._measure({arm: state for arm, _, state in named}, hardware)
        with FileLock(self._folder / "study.lock"):
            self._compose()
        if not self._sends:
            return {}
        leaving: dict[str, float] = {}
        for arm, model, _ in named:
            found = summaries(rows, arm, self._own.least_patients)
            leaving |= study_numbers(model, found)
        if not leaving:
            logger.warning(
                "study '%s': fewer than %d test patients have a value, so no number leaves",
                self._task.study,
                self._own.least_patients,
            )
        counts = {name: value for name, value in leaving.items() if name.endswith(f"/{PATIENTS}")}
        return rounded(self._limits, leaving) | counts

    @property
    def _seed_folder(self) -> Path:
        return self._folder / f"seed-{self._experiment.seed}"

    def _with_own_arm(self, models: Models, hardware: Hardware, report: Report | None) -> Models:
        """The models, and the one that this site trains alone with the same seed and steps."""
        if not self._task.local:
            return models
        # Imported here: a job that only measures needs nothing that trains.
        from lightning_modules.sharing.tensor_file import read_tensors
        from lightning_modules.training.training_run import Arm, train_arm

        site, steps = self._prepared.site, self._experiment.training.steps
        arm = Arm(site, [self._prepared], steps)
        path = train_arm(self._experiment, arm, hardware, self._seed_folder / ALONE, report)
        state = read_tensors(path, "damaged; delete it", lambda content: dict(content["model"]))
        return {**models, LOCAL: state}

    def _named(self, models: Models) -> list[tuple[str, str, Mapping[str, Tensor]]]:
        """Name of the arm, which of the site's models it is, and its state."""
        entries = arm_entries(self._task, self._experiment, self._prepared.site)
        return [
            (str(entry["name"]), model, state)
            for entry, (model, state) in zip(entries, models.items(), strict=True)
        ]

    def _measure(self, states: Models, hardware: Hardware) -> list[Row]:
        """Write rows and pictures of this job's arms, and what ``run.json`` will say of them."""
        experiment = self._experiment
        place = self._seed_folder / ARMS / self._task.arm
        generators = {arm: self._generator(state) for arm, state in states.items()}
        evaluate(
            generators,
            [self._prepared],
            replace(hardware, threads=1),  # no processes beside those of a job
            place,
            preset=experiment.preset,
            view=experiment.model.view,
        )
        entries = arm_entries(self._task, experiment, self._prepared.site)
        write_text(place / ARM_FILE, json.dumps(entries, indent=1) + "\n", PRIVATE_FILE)
        return read_rows(place / RESULTS_FILE)

    def _generator(self, state: Mapping[str, Tensor]) -> nn.Module:
        model = self._experiment.model
        generator = build_translator(model)
        load_translator(generator, state, model.described.translator)
        return generator

    def _compose(self) -> None:
        """Put the arms of this seed together in the files that ``fedi2i report`` reads."""
        seed = self._seed_folder
        design = site_design(self._task, self._experiment, self._prepared)
        places = arm_places(seed, self._task.reference)
        rows = joined_rows(places)
        entries = joined_entries(places)
        untrained = {row[0] for row in rows} & set(UNTRAINED_ARMS)
        record = run_record(design, self._experiment, self._prepared, untrained, entries)
        write_csv(seed / RESULTS_FILE, COLUMNS, rows)
        with replacing(seed / SLICES_FILE, PRIVATE_FILE) as temporary:
            np.savez_compressed(temporary, **joined_pictures(places))  # type: ignore[arg-type]
        write_text(seed / RUN_FILE, json.dumps(record, indent=1) + "\n", PRIVATE_FILE)
        self._add_seed(design)

    def _add_seed(self, design: Mapping[str, Any]) -> None:
        path, begun = self._folder / STUDY_FILE, {}
        if path.exists():
            begun = _read_json(path)
        folders = {**begun.get("folders", {})}
        folders[str(self._experiment.seed)] = self._seed_folder.name
        record = {"created": begun.get("created", now()), "design": design, "folders": folders}
        write_text(path, json.dumps(record, indent=1) + "\n", PRIVATE_FILE)


def study_folder(
    folder: Path,
    task: StudyTask,
    experiment: ExperimentConfig,
    prepared: PreparedSite,
    submitter: str,
) -> Path:
    """The folder of one study at a site.

    Another design, other data or another submitter have a folder of their own, so that nobody's job
    replaces what another one left, and patients of two states of the data are not mixed.
    """
    parts = [task.study, digest(site_design(task, experiment, prepared))[:8]]
    return folder / "-".join([*parts, digest(submitter)[:8]] if submitter else parts)


def arm_places(seed: Path, reference: str) -> list[Path]:
    """The folders of the arms that have been measured, that of the reference first."""
    found = [path.parent for path in (seed / ARMS).glob(f"*/{ARM_FILE}")]
    return sorted(found, key=lambda place: (place.name != reference, place.name))


def joined_rows(places: Sequence[Path]) -> list[Row]:
    """The rows of all arms; what needs no network is taken once.

    Raises:
        DataError: a file is missing or damaged.
    """
    rows: dict[tuple[str, ...], Row] = {}
    for place in places:
        for row in read_rows(place / RESULTS_FILE):
            rows.setdefault(row[:6], row)
    return list(rows.values())


def joined_entries(places: Sequence[Path]) -> list[dict[str, Any]]:
    """What ``run.json`` says of all arms, each once.

    Raises:
        DataError: a file is missing or damaged.
    """
    entries: dict[str, dict[str, Any]] = {}
    for place in places:
        for entry in _read_json(place / ARM_FILE):
            entries.setdefault(str(entry["name"]), entry)
    return list(entries.values())


def joined_pictures(places: Sequence[Path]) -> dict[str, np.ndarray]:
    """The pictures of all arms by name."""
    pictures: dict[str, np.ndarray] = {}
    for place in places:
        with np.load(place / SLICES_FILE, allow_pickle=False) as archive:
            pictures |= {name: archive[name] for name in archive.files}
    return pictures


def read_rows(path: Path) -> list[Row]:
    """The rows of a ``results.csv``.

    Raises:
        DataError: it is missing or damaged.
    """
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            header, *rows = csv.reader(stream)
            if tuple(header) != COLUMNS:
                raise ValueError(f"its first line is not {','.join(COLUMNS)}")
            return [(a, s, p, u, e, m, float(value)) for a, s, p, u, e, m, value in rows]
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); run the job again") from error


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: damaged ({error}); delete it and run the job again") from error
