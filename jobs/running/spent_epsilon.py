"""The epsilon of a study: trainings on the same patients, each with its own, spend together.

Seeds, points of a grid and strategies that are compared are all trained on the same patients, and
whoever holds their models holds them all. What a run's record says each training has released is
composed by the accountant, which is less than the sum of the epsilons.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedi2i.digest import digest
from fedi2i.epsilon import epsilon_text
from fedi2i.errors import ConfigError, DataError
from lightning_modules.evaluation.baselines import UNTRAINED_ARMS
from lightning_modules.privacy.accountant import Release, epsilon

OTHER_SITES = (
    "these trainings were not all at the same sites, which are told apart by their names alone: "
    "a patient who stands in two of them under other names, as in two divisions of the same "
    "people, has spent more than any line says"
)
EARLIER = "earlier"
"""Key of a run's record: trainings whose models later ones have replaced."""
RUN_FILE, TUNING_FILE, STUDY_FILE = "run.json", "tuning.json", "study.json"
LEVELS_FILE = "levels.json"
"""Of a study at several levels, whose folders are studies."""
EVERY_UNIT = "one patient, under all of these together"
"""What holds site and patient alike: noise on a site's whole update covers each of its patients.

It is promised for a patient who is added or removed, no more: noise by patient is accounted for
that, and a site's data with and without a patient are other data in place of each other.
"""
EVERY_RELATION = "added or removed"


@dataclass(frozen=True)
class Training:
    """One training of a study.

    Attributes:
        run: folder of its run.
        name: of its job in the run.
        sites: the sites that trained.
        unit: whose data its epsilon is about; empty where no epsilon is promised.
        relation: what the promise compares.
        delta: at which its epsilon is stated.
        releases: what a site has released; empty where no epsilon is promised.
        simulated: whether its ledgers were a simulation's.
    """

    run: str
    name: str
    sites: tuple[str, ...]
    unit: str = ""
    relation: str = ""
    delta: float = 0.0
    releases: tuple[Release, ...] = ()
    simulated: bool = False

    @property
    def epsilon(self) -> float:
        """What it spends by itself."""
        return epsilon(self.releases, self.delta)


@dataclass(frozen=True)
class Spent:
    """What trainings of one unit spend together at some sites.

    Attributes:
        sites: the sites that took part in all of these trainings and in no others.
        unit: whose data it is about.
        relation: what it compares.
        trainings: how many.
        delta: at which it is stated.
        epsilon: composed by the accountant.
        added_up: the trainings' epsilons at this delta, one added to the other.
    """

    sites: tuple[str, ...]
    unit: str
    relation: str
    trainings: int
    delta: float
    epsilon: float
    added_up: float

    def text(self) -> str:
        """It in one sentence."""
        return (
            f"{', '.join(self.sites)}: {self.trainings} trainings spend epsilon "
            f"{epsilon_text(self.epsilon)} together at delta {self.delta:g}, for {self.unit} "
            f"({self.relation}); added up, their epsilons would be {epsilon_text(self.added_up)}"
        )


def read_trainings(folder: Path) -> list[Training]:
    """The trainings of a run folder, with and without a mechanism; of a study, all of them.

    Raises:
        DataError: no record of a comparison, a tuning or a study is there, or it cannot be counted.
    """
    for joining in (LEVELS_FILE, STUDY_FILE):
        if (folder / joining).is_file():
            names = _folders_of(folder / joining)
            return [one for name in names for one in read_trainings(folder / name)]
    found = [folder / name for name in (RUN_FILE, TUNING_FILE) if (folder / name).is_file()]
    if not found:
        raise DataError(
            f"{folder}: neither {RUN_FILE} nor {TUNING_FILE}; name folders that 'fedi2i compare', "
            "'fedi2i jobs tune' or 'fedi2i study' has finished"
        )
    try:
        return [
            training
            for path in found
            for training in trainings_of(json.loads(path.read_text("utf-8")), str(folder))
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{found[0]}: no record of a run ({error!r}); run it again") from error


def _folders_of(path: Path) -> list[str]:
    try:
        return list(json.loads(path.read_text("utf-8"))["folders"].values())
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path}: damaged ({error!r}); run it again") from error


def trainings_of(about: Mapping[str, Any], run: str) -> list[Training]:
    """The trainings that a run's record names, each once, whatever models it ended with.

    An arm may name sites of its own, and whatever tells its training from another of its name.

    Raises:
        DataError: an epsilon without what it was counted from, as earlier releases wrote it.
    """
    everywhere = [site["name"] for site in about.get("sites", ()) if not site["unseen"]]
    arms = [
        {"sites": everywhere, **arm, "name": str(arm["name"]).partition("@")[0]}
        for arm in (*about.get(EARLIER, ()), *about["arms"])
        if arm["name"] not in UNTRAINED_ARMS
    ]
    told_apart = {
        digest([arm["name"], arm["sites"], arm.get("privacy") or {}, arm.get("key")]): arm
        for arm in arms
    }
    return [
        _training(run, arm["name"], tuple(arm["sites"]), arm.get("privacy") or {})
        for arm in told_apart.values()
    ]


def earlier_trainings(path: Path, record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What trainings have spent that a run's folder held before, and of which no model is left.

    Args:
        path: the record that is to be replaced, if there is one.
        record: the new one.

    Returns:
        Each with an epsilon that is none of the new record's, for the new record's ``earlier``.

    Raises:
        DataError: the file at ``path`` is damaged, so that nobody knows what was spent.
    """
    if not path.is_file():
        return []
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        known = [*before.get(EARLIER, ()), *_accounted(before)]
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{path}: damaged ({error!r}), so what was spent here is not known; take a new folder"
        ) from error
    new = _accounted(json.loads(json.dumps(record)))
    return [one for n, one in enumerate(known) if one not in new and one not in known[:n]]


def _accounted(about: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The trainings of a record that have an epsilon, each with what it was trained on."""
    settings = {k: v for k, v in about["experiment"].items() if k != "strategies"}
    found: list[dict[str, Any]] = []
    for arm in about["arms"]:
        if (arm.get("privacy") or {}).get("epsilon") is not None:
            entry = {
                "name": str(arm["name"]).partition("@")[0],
                "sites": [site["name"] for site in about["sites"] if not site["unseen"]],
                "privacy": arm["privacy"],
                "key": digest([settings, about["manifests"]])[:12],
            }
            found += [] if entry in found else [entry]
    return found


def spent_together(trainings: Iterable[Training], delta: float | None = None) -> Iterator[Spent]:
    """Compose what is spent on the same patients, unit by unit; nothing for a single training.

    Trainings count for every site that took part. Which of its patients a site used is not asked:
    one patient may have been in all of them.

    Args:
        trainings: of one or several runs.
        delta: at which all is stated; by default the smallest of the trainings'.

    Raises:
        ConfigError: a delta that is no probability.
    """
    accounted = [training for training in trainings if training.releases]
    by_sites: dict[tuple[Training, ...], list[str]] = {}
    for site in sorted({site for training in accounted for site in training.sites}):
        own = tuple(training for training in accounted if site in training.sites)
        by_sites.setdefault(own, []).append(site)
    for own, sites in by_sites.items():
        at = min(training.delta for training in own) if delta is None else delta
        yield from _spent(own, tuple(sites), at)


def study_sentences(trainings: Sequence[Training], delta: float | None = None) -> Iterator[str]:
    """What is to be said of a study, training by training and together.

    Raises:
        ConfigError: a delta that is no probability.
    """
    accounted = [training for training in trainings if training.releases]
    if len({frozenset(training.sites) for training in accounted}) > 1:
        yield OTHER_SITES
    for training in accounted:
        yield (
            f"{training.run} {training.name}: epsilon {epsilon_text(training.epsilon)} at delta "
            f"{training.delta:g}, for {training.unit} ({training.relation})"
            f"{'; its ledgers are simulated' if training.simulated else ''}"
        )
    for spent in spent_together(accounted, delta):
        yield spent.text()
    plain = [f"{t.run} {t.name}" for t in trainings if not t.releases]
    if plain:
        yield (
            f"without an epsilon: {', '.join(plain)}; whoever gets one of these models is bounded "
            "by none of the numbers above"
        )
    if accounted:
        yield (
            "counted are all planned rounds, once; rounds that were repeated after an interruption "
            "stand in the sites' ledgers and come on top"
        )


def _spent(own: Sequence[Training], sites: tuple[str, ...], delta: float) -> Iterator[Spent]:
    units = dict.fromkeys((training.unit, training.relation) for training in own)
    groups = [
        (unit, relation, [t for t in own if (t.unit, t.relation) == (unit, relation)])
        for unit, relation in units
    ]
    if len(groups) > 1:
        groups.append((EVERY_UNIT, EVERY_RELATION, list(own)))
    for unit, relation, group in groups:
        if len(group) > 1:
            together = epsilon([r for training in group for r in training.releases], delta)
            alone = sum(epsilon(training.releases, delta) for training in group)
            yield Spent(sites, unit, relation, len(group), delta, together, alone)


def _training(run: str, name: str, sites: tuple[str, ...], privacy: Mapping[str, Any]) -> Training:
    if privacy.get("epsilon") is None:
        return Training(run, name, sites)
    if not privacy.get("releases"):
        raise DataError(
            f"{run}: '{name}' names an epsilon, but not what it was counted from; give the run's "
            "command again, which repeats no finished training and writes its record anew"
        )
    try:
        releases = tuple(Release(**release) for release in privacy["releases"])
    except ConfigError as error:
        raise DataError(f"{run}: '{name}': {error}") from error
    return Training(
        run,
        name,
        sites,
        str(privacy["unit"]),
        str(privacy["relation"]),
        float(privacy["delta"]),
        releases,
        bool(privacy.get("simulated")),
    )
