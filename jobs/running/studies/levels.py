"""A study at several levels: the same arms and seeds again, each time with something changed.

"How robust is a strategy?" is asked along an axis: sites that miss more and more rounds, scanners
that differ more and more. Every level is an ordinary study in a folder of its own, with its own
test and page; what joins them is where each stands on the axes.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fedi2i.errors import ConfigError, DataError
from fedi2i.files import write_csv, write_text
from fedi2i.typed_config import as_dict, choose, merged, read_yaml, record_from, switch
from jobs.running.spent_epsilon import LEVELS_FILE, STUDY_FILE
from jobs.running.studies.study import RESULTS_FILE, Study, joined_tables, run_study, study_from
from partitions.manifest import read_manifest

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class Axis:
    """What levels are drawn along.

    Attributes:
        label: as the figure shows it, with its unit.
        log: whether it is drawn to a logarithmic scale; its places are above 0 then.
    """

    label: str
    log: bool = switch(False)


@dataclass(frozen=True)
class Level:
    """One level: what differs from the study's experiment, and where it stands.

    Attributes:
        at: axis to place; one level may stand on several axes. An infinite place is drawn as a
            line across.
        settings: nested values of ``experiment``.
        federation: values of ``federation``.
        privacy: values of ``privacy``.
        data: folder beside the study's, by default the study's own.
    """

    at: dict[str, float]
    settings: dict[str, Any] = field(default_factory=dict)
    federation: dict[str, Any] = field(default_factory=dict)
    privacy: dict[str, Any] = field(default_factory=dict)
    data: str = ""

    def folder(self, data: Path) -> Path:
        """Its data, where ``data`` is the study's folder."""
        return data.resolve().parent / self.data if self.data else data


@dataclass(frozen=True)
class LevelledStudy:
    """A study at several levels, checked and ready to run.

    Attributes:
        title: heading of the page.
        axes: by name.
        levels: by name, in the order of the file.
        studies: level to its study.
    """

    title: str
    axes: Mapping[str, Axis]
    levels: Mapping[str, Level]
    studies: Mapping[str, Study]


def level_folder(name: str) -> str:
    """The name of a level's folder."""
    return f"level-{name}"


def has_levels(path: Path) -> bool:
    """Whether a study's file names levels.

    Raises:
        ConfigError: the file cannot be read.
    """
    return bool({"axes", "levels"} & read_yaml(path).keys())


def read_levels(path: Path, seeds: Sequence[int] = ()) -> LevelledStudy:
    """Read a study's file that names levels.

    Args:
        path: the YAML file.
        seeds: take these in the place of the file's.

    Raises:
        ConfigError: an axis or a level that cannot be, or a level whose study cannot be run.
    """
    content = read_yaml(path)
    axes = {
        name: record_from(Axis, values, f"{path}: axes.{name}")
        for name, values in _mapping(content.pop("axes", None), f"{path}: axes").items()
    }
    levels = {
        name: record_from(Level, values, f"{path}: levels.{name}")
        for name, values in _mapping(content.pop("levels", None), f"{path}: levels").items()
    }
    _check(axes, levels, str(path))
    studies = {name: _study_at(level, name, content, path, seeds) for name, level in levels.items()}
    title = next(iter(studies.values())).config.title.rpartition(": ")[0]
    return LevelledStudy(title, axes, levels, studies)


def _mapping(values: Any, where: str) -> dict[str, dict[str, Any]]:
    if not isinstance(values, Mapping) or not values:
        raise ConfigError(f"{where} names nothing; a study at levels needs 'axes' and 'levels'")
    for name, value in values.items():
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where}.{name} is '{value}'; write 'key: value' lines below it")
    return {str(name): dict(value) for name, value in values.items()}


def _check(axes: Mapping[str, Axis], levels: Mapping[str, Level], where: str) -> None:
    for name, level in levels.items():
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"{where}: levels.{name} becomes a folder's name; take letters, digits, '-', '_'"
            )
        if not level.at:
            raise ConfigError(f"{where}: levels.{name}.at is empty; say where on which axis it is")
        for place in level.at:
            choose(place, axes, f"{where}: levels.{name}.at")
    for name, axis in axes.items():
        _check_places([lv.at[name] for lv in levels.values() if name in lv.at], name, axis, where)


def _check_places(places: Sequence[float], name: str, axis: Axis, where: str) -> None:
    if len(places) < 2:
        raise ConfigError(f"{where}: {len(places)} level(s) on axis '{name}'; a curve takes two")
    if len(set(places)) < len(places):
        raise ConfigError(f"{where}: two levels stand at one place of axis '{name}'")
    for place in places:
        if math.isnan(place) or (axis.log and place <= 0) or place == -math.inf:
            raise ConfigError(
                f"{where}: a level is at {place:g} on axis '{name}'; take a number"
                f"{' above 0' if axis.log else ''}, or .inf"
            )


def _study_at(
    level: Level, name: str, content: Mapping[str, Any], path: Path, seeds: Sequence[int]
) -> Study:
    """The ordinary study of one level."""
    own = {"title": f"{content.get('title', 'FedI2I study')}: {name}", "settings": level.settings}
    changes = {"federation": level.federation, "privacy": level.privacy}
    try:
        return study_from(merged(content, own), path, seeds, changes)
    except ConfigError as error:
        raise ConfigError(f"{path}: level '{name}': {error}") from error


def run_levels(
    study: LevelledStudy,
    data: Path,
    out: Path,
    at_once: int | None = None,
    launcher: str = "",
) -> None:
    """Run what is not finished, level by level, and write ``levels.json`` and ``results.csv``.

    Args:
        study: the study.
        data: folder that holds one folder per site; levels with other data name folders beside it.
        out: the run folder.
        at_once: processes that train, or jobs of a launcher, at the same time.
        launcher: see ``run_study``.

    Raises:
        UserError: data or settings that cannot be used, a folder that holds another study, or an
            arm that failed; the same command goes on from there.
    """
    for name in study.levels:
        _check_data(study, name, data)
    folders = _begin(study, out)
    for number, (name, one) in enumerate(study.studies.items(), start=1):
        print(f"[study] level {name}, {number} of {len(study.studies)}", flush=True)
        place = study.levels[name].folder(data), out / level_folder(name)
        run_study(one, *place, at_once, launcher)
    # Also of levels that an earlier file named: what has been run stays in the table.
    paths = {name: out / folder / RESULTS_FILE for name, folder in folders.items()}
    tables = {name: path for name, path in paths.items() if path.exists()}
    columns, rows = joined_tables("level", tables)
    write_csv(out / RESULTS_FILE, columns, rows)


def _check_data(study: LevelledStudy, name: str, data: Path) -> None:
    """Refuse before the first run what would fail after hours."""
    federation, folder = study.studies[name].job.federation, study.levels[name].folder(data)
    for site in (*federation.sites, *federation.unseen):
        try:
            read_manifest(folder / site, expected_site=site)
        except DataError as error:
            raise DataError(f"level '{name}': {error}") from error


def _begin(study: LevelledStudy, out: Path) -> dict[str, str]:
    """Write ``levels.json``; what has been run stays in it, whatever the file names later.

    Returns:
        Every level of the study, also of earlier files, and its folder.
    """
    path = out / LEVELS_FILE
    if (out / STUDY_FILE).exists():
        raise ConfigError(f"{out}: holds a study without levels; take a new folder")
    begun = _begun(path) if path.exists() else {}
    described = dict(_described(study))
    if begun:
        _refuse_other_levels(path, begun, study.title, described)
    levels = {**begun.get("levels", {}), **described}
    folders = {name: level_folder(name) for name in levels}
    record = {
        "title": study.title,
        "created": begun.get("created", datetime.now(UTC).isoformat(timespec="seconds")),
        "axes": {**begun.get("axes", {}), **{k: as_dict(axis) for k, axis in study.axes.items()}},
        "levels": levels,
        "folders": folders,
    }
    write_text(path, json.dumps(record, indent=1) + "\n")
    return folders


def _refuse_other_levels(
    path: Path, begun: Mapping[str, Any], title: str, described: Mapping[str, Mapping[str, Any]]
) -> None:
    """Refuse before anything is written; where a level stands on an axis may be corrected."""
    if begun.get("title") != title:
        raise ConfigError(
            f"{path}: this folder holds the study '{begun.get('title')}'; take a new folder"
        )
    for name in described.keys() & begun["levels"].keys():
        one, other = (
            {key: value for key, value in levels[name].items() if key != "at"}
            for levels in (begun["levels"], json.loads(json.dumps(described)))
        )
        if one != other:
            raise ConfigError(
                f"{path}: level '{name}' was begun with other settings; give it another name, or "
                "take a new folder"
            )


def _described(study: LevelledStudy) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, level in study.levels.items():
        # JSON knows no infinity, so places are texts.
        at = {axis: repr(float(place)) for axis, place in level.at.items()}
        yield name, {**as_dict(level), "at": at}


def _begun(path: Path) -> dict[str, Any]:
    try:
        found = dict(json.loads(path.read_text(encoding="utf-8")))
        dict(found["levels"]), dict(found["axes"]), str(found["created"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: damaged ({error}); run the study into a new folder") from error
    return found
