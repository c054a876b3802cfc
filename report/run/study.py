"""Read a study: a run folder for every seed, and what was said before the first of them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedi2i.digest import digest
from fedi2i.errors import DataError
from report.run.folder import read_run
from report.run.records import PrimaryOutcome, Run

STUDY_FILE = "study.json"
FEDERATED, UNSEEN = PATIENTS = ("federated", "unseen")


@dataclass(frozen=True)
class StudyDescription:
    """The content of ``study.json``, written before the first run.

    Attributes:
        title: heading of the page.
        created: when the study was begun.
        design: digest of all that may not change; every run of the study names it.
        release: of this software.
        reference: the arm that all others are compared with.
        primary: the outcome that the study is about.
        margin: of equivalence, in the primary metric's unit; positive.
        experiment: all settings; its seed is None.
        manifests: site to the hash of its data.
        folders: seed to the name of its run folder, in the order of the runs.
    """

    title: str
    created: str
    design: str
    release: str
    reference: str
    primary: PrimaryOutcome
    margin: float
    experiment: Mapping[str, Any]
    manifests: Mapping[str, str]
    folders: Mapping[int, str]


@dataclass(frozen=True)
class Study:
    """A study, as far as it has been run.

    Attributes:
        folder: where it was read from.
        about: what was said before.
        runs: the run of every seed that is finished and belongs to the study.
        gaps: a sentence for every seed that is missing, damaged or not of this study.
    """

    folder: Path
    about: StudyDescription
    runs: Mapping[int, Run]
    gaps: tuple[str, ...]

    @property
    def first(self) -> Run:
        """The run whose arms, sites and metrics are those of all."""
        return next(iter(self.runs.values()))


def is_study(folder: Path) -> bool:
    """Whether a folder holds a study."""
    return (folder / STUDY_FILE).is_file()


def read_study(folder: Path) -> Study:
    """Read ``study.json`` and the runs that it names.

    A run that cannot be read, or that is another study's, is left out and named in ``gaps``.

    Raises:
        DataError: ``study.json`` is damaged, or no run can be used.
    """
    about = _description(folder / STUDY_FILE)
    runs: dict[int, Run] = {}
    gaps = []
    for seed, name in about.folders.items():
        try:
            run = read_run(folder / name)
            _refuse_foreign(run, about, seed)
            _refuse_other_arms(run, runs)
            runs[seed] = run
        except DataError as error:
            gaps.append(f"Seed {seed} is left out: {error}.")
    if not runs:
        raise DataError(f"{folder}: no run of this study can be used; {gaps[0]}")
    return Study(folder, about, runs, tuple(gaps))


def _refuse_foreign(run: Run, about: StudyDescription, seed: int) -> None:
    """Refuse a run with other data, settings or release, or of a study of another design.

    The design's digest covers the rest: federation, strategies, privacy, outcome and margin. An
    outcome or a margin that is written into ``study.json`` afterwards therefore fits no run.
    """
    settings = {key: value for key, value in about.experiment.items() if key != "seed"}
    comparable = {
        "seed": (run.about.seed, seed),
        "data": (dict(run.about.manifests), dict(about.manifests)),
        "release": (run.about.versions.get("fedi2i"), about.release),
        "settings": ({key: run.about.experiment.get(key) for key in settings}, settings),
        "design": (run.about.design, about.design),
    }
    differing = [name for name, (found, expected) in comparable.items() if found != expected]
    if differing:
        raise DataError(
            f"{run.folder} differs from the study in its {' and its '.join(differing)}; run the "
            "study again"
        )


def _refuse_other_arms(run: Run, accepted: Mapping[int, Run]) -> None:
    """Refuse a run that lacks an arm or a metric of the runs before it, or has one more.

    The design names strategies; the baselines and what was measured show in the runs alone.
    """
    for first in list(accepted.values())[:1]:
        for what, column in (("arms", "arm"), ("metrics", "metric")):
            expected, found = (set(one.test_rows[column]) for one in (first, run))
            if expected != found:
                names = ", ".join(sorted(expected ^ found))
                raise DataError(
                    f"{run.folder} differs from {first.folder.name} in its {what} ({names}); run "
                    "the study again"
                )


def _description(path: Path) -> StudyDescription:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        design = content["design"]
        primary, margin = design["primary_outcome"], float(design["margin"])
        if primary["patients"] not in PATIENTS:
            raise ValueError(f"patients '{primary['patients']}'")
        if not 0 < margin < math.inf:
            raise ValueError(f"margin {margin:g}")
        if not content["folders"]:
            raise ValueError("no seeds")
        return StudyDescription(
            title=str(design["title"]),
            created=str(content["created"]),
            design=digest(design),
            release=str(design["release"]),
            reference=str(design["reference"]),
            primary=PrimaryOutcome(str(primary["metric"]), primary["patients"] == UNSEEN),
            margin=margin,
            experiment=dict(design["experiment"]),
            manifests=dict(design["manifests"]),
            folders={int(seed): str(name) for seed, name in content["folders"].items()},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: damaged ({error}); run the study again") from error
