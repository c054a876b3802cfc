"""Find out all that concerns one patient at a site, with or without its kit, and remove it."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from app_custom.nvflare_files import GLOBAL_MODEL, PERSONAL_MODEL
from app_custom.participant.site_configuration import (
    SiteConfig,
    path_for_site,
    read_site_config,
    state_folder,
)
from app_custom.participant.used_data import Use, UsedData
from app_custom.study.task import STUDY_FILE
from fedi2i.errors import ConfigError
from fedi2i.typed_config import choose
from partitions.layouts.table_rows import remove_rows, rows_of
from partitions.preparation.cache_folders import half_removed, remove_folder
from partitions.withdrawal import Holding, UnknownPatientError, holding_of, withdraw
from provision.removal.prune import is_state

TRAIN, VAL = "train", "val"
_LOGS = "*log*.txt*"


@dataclass(frozen=True)
class Place:
    """Where a site keeps what concerns one data set.

    Attributes:
        folder: the site folder, with the manifest.
        caches: folders in which its prepared slices lie.
        state: the site's state folder; None without a kit.
        kit: the kit or workspace; None without one.
        studies: the site's folder for studies; None where it takes part in none.
    """

    folder: Path
    caches: tuple[Path, ...]
    state: Path | None = None
    kit: Path | None = None
    studies: Path | None = None


@dataclass(frozen=True)
class Withdrawal:
    """All that is known of a patient at one site, before anything is changed.

    Attributes:
        place: where the site keeps things.
        holding: what the site folder holds.
        uses: the jobs that used the patient, and in which splits.
        states: state folders of runs that were trained with the patient.
        models: models at the site that were trained with the patient.
        logs: log files of the kit that name the patient.
        studies: folders of studies on the data that the patient was part of.
        rows: table to the lines that go.
    """

    place: Place
    holding: Holding
    uses: tuple[tuple[Use, tuple[str, ...]], ...]
    states: tuple[Path, ...]
    models: tuple[Path, ...]
    logs: tuple[Path, ...]
    rows: dict[Path, tuple[int, ...]]
    studies: tuple[Path, ...] = ()


def places_of(kit: Path, site: str | None, dataset: str | None) -> Iterator[Place]:
    """The site folders that a kit maps, with the folders that belong to them.

    Args:
        kit: a kit, or a simulator's workspace.
        site: its name; needed where the paths stand for several.
        dataset: one data set; None for all.

    Raises:
        ConfigError: the kit's file cannot be read, or does not say which site or data set.
    """
    config = read_site_config(kit / "local")
    if dataset is not None:
        choose(dataset, config.datasets, "--dataset")
    if not config.datasets:
        raise ConfigError(f"{kit / 'local'}: its fedi2i.yaml maps no data set")
    for name, path in config.datasets.items():
        if dataset in (None, name):
            if site is None and "{site}" in f"{path}{config.cache}{config.state}":
                raise ConfigError(f"{kit}: is a workspace of several sites; say which with --site")
            yield _place(kit, config, path, site)


def _place(kit: Path, config: SiteConfig, path: str, site: str | None) -> Place:
    folder = path_for_site(path, site or "")
    cache = path_for_site(config.cache, site or "") if config.cache else folder / "prepared"
    state = state_folder(config, site or "", kit.resolve())
    own = config.studies.folder
    studies = path_for_site(own, site or "") if own else None
    return Place(folder, (cache,), state, kit, studies)


def only_plan(places: Sequence[Place], patient: str, tables: Sequence[Path]) -> Withdrawal:
    """The plan of the one data set that knows the patient.

    Two data sets may call two persons alike, so where both do, a person says which is meant.

    Args:
        places: the site folders.
        patient: the patient's name.
        tables: tables with rows of the patient, besides the manifest.

    Raises:
        UnknownPatientError: no data set knows the patient.
        ConfigError: several do.
        DataError: a record of the site cannot be read.
    """
    plans, refusals = [], []
    for place in places:
        try:
            plans.append(plan_of(place, patient, tables))
        except UnknownPatientError as error:
            refusals.append(error)
    if len(plans) > 1:
        names = ", ".join(f"'{plan.holding.manifest.dataset}'" for plan in plans)
        raise ConfigError(f"data sets {names} each have a '{patient}'; say which with --dataset")
    if not plans:
        raise refusals[0]
    return plans[0]


def plan_of(place: Place, patient: str, tables: Sequence[Path]) -> Withdrawal:
    """Find out all that concerns a patient at a site; nothing is changed.

    Raises:
        DataError: nobody is called like that, or a record of the site cannot be read.
    """
    holding = holding_of(place.folder, patient, place.caches)
    site = holding.manifest.site
    state = place.state / site if place.state else None
    uses = tuple(
        (use, splits)
        for use, splits in (UsedData(state).of(patient) if state else ())
        if use.dataset == holding.manifest.dataset
    )
    trained = [use for use, splits in uses if TRAIN in splits]
    runs = sorted({state / use.run for use in trained}) if state else []
    names = (PERSONAL_MODEL, GLOBAL_MODEL)
    models = [place.kit / use.job / name for use in trained for name in names] if place.kit else []
    return Withdrawal(
        place,
        holding,
        uses,
        states=tuple(folder for folder in runs if is_state(folder)),
        models=tuple(path for path in models if path.is_file()),
        logs=tuple(_naming(place.kit, holding.names)) if place.kit else (),
        rows={path: rows_of(path, holding.names, site) for path in tables},
        studies=tuple(_studies(place.studies, site, {use.content_hash for use, _ in uses})),
    )


def carry_out(plan: Withdrawal, with_scans: bool) -> None:
    """Remove everything that a plan names as going.

    Raises:
        DataError: a job is using the data; nothing has been changed then.
    """
    withdraw(plan.holding, with_scans, plan.place.caches)
    for folder in plan.states:
        remove_folder(folder)
    if plan.place.state is not None:
        for left in half_removed(plan.place.state / plan.holding.manifest.site):
            remove_folder(left)
    for path, numbers in plan.rows.items():
        if numbers:
            remove_rows(path, numbers)


def _studies(folder: Path | None, site: str, used: Collection[str]) -> Iterator[Path]:
    """The folders of studies on data with one of these hashes; one that cannot be read counts."""
    for path in sorted(folder.glob(f"*/{STUDY_FILE}")) if folder else ():
        try:
            found = json.loads(path.read_text(encoding="utf-8"))["design"]["manifests"][site]
        except (OSError, ValueError, KeyError, TypeError):
            yield path.parent
            continue
        if found in used:
            yield path.parent


def _naming(kit: Path, names: frozenset[str]) -> Iterator[Path]:
    """Log files of a kit, and of jobs in it, that hold one of these names as a word."""
    words = "|".join(re.escape(name) for name in sorted(names))
    pattern = re.compile(rf"(?<![\w-])(?:{words})(?![\w-])".encode())
    for path in sorted({*kit.glob(_LOGS), *kit.glob(f"*/{_LOGS}")}):
        with path.open("rb") as stream:
            if any(pattern.search(line) for line in stream):
                yield path
