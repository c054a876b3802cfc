"""Read a study at several levels: a study per level, and where each stands on which axis."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedi2i.errors import DataError
from report.run.study import Study, read_study

LEVELS_FILE = "levels.json"


@dataclass(frozen=True)
class Axis:
    """What levels are drawn along.

    Attributes:
        label: with its unit.
        log: whether it is drawn to a logarithmic scale.
    """

    label: str
    log: bool


@dataclass(frozen=True)
class Level:
    """One level.

    Attributes:
        at: axis to place; infinite where it is drawn as a line across.
        differs: what differs from the study's experiment, by key.
        folder: the name of its folder.
    """

    at: Mapping[str, float]
    differs: Mapping[str, Any]
    folder: str


@dataclass(frozen=True)
class LevelledStudy:
    """A study at several levels, as far as it has been run.

    Attributes:
        folder: where it was read from.
        title: heading of the page.
        created: when it was begun.
        axes: by name.
        levels: by name, those without a study included.
        studies: level to what has been run of it.
        gaps: a sentence for every level or seed that is missing or not of this study.
    """

    folder: Path
    title: str
    created: str
    axes: Mapping[str, Axis]
    levels: Mapping[str, Level]
    studies: Mapping[str, Study]
    gaps: tuple[str, ...]

    @property
    def first(self) -> Study:
        """The study whose outcome and arms are those of all."""
        return next(iter(self.studies.values()))


def has_levels(folder: Path) -> bool:
    """Whether a folder holds a study at several levels."""
    return (folder / LEVELS_FILE).is_file()


def read_levels(folder: Path) -> LevelledStudy:
    """Read ``levels.json`` and the studies that it names.

    A level that cannot be read, or that has another primary outcome than the first one, is left
    out and named in ``gaps``.

    Raises:
        DataError: ``levels.json`` is damaged, or no level can be used.
    """
    title, created, axes, levels = _description(folder / LEVELS_FILE)
    studies: dict[str, Study] = {}
    gaps: list[str] = []
    for name, level in levels.items():
        try:
            study = read_study(folder / level.folder)
        except DataError as error:
            gaps.append(f"Level {name} is left out: {error}.")
            continue
        if studies and study.about.primary != next(iter(studies.values())).about.primary:
            gaps.append(f"Level {name} is left out: its primary outcome is another one.")
            continue
        studies[name] = study
        gaps += [f"Level {name}: {gap}" for gap in study.gaps]
    if not studies:
        raise DataError(f"{folder}: no level of this study can be used; {gaps[0]}")
    return LevelledStudy(folder, title, created, axes, levels, studies, tuple(gaps))


def _description(path: Path) -> tuple[str, str, dict[str, Axis], dict[str, Level]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        axes = {
            str(name): Axis(str(axis["label"]), bool(axis["log"]))
            for name, axis in content["axes"].items()
        }
        levels = {
            str(name): Level(
                at={axis: float(place) for axis, place in level["at"].items() if axes[axis]},
                differs={k: v for k, v in level.items() if k != "at" and v},
                folder=str(content["folders"][name]),
            )
            for name, level in content["levels"].items()
        }
        if not levels:
            raise ValueError("no levels")
        return str(content["title"]), str(content["created"]), axes, levels
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: damaged ({error}); run the study again") from error
