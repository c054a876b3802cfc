"""Which reader sees what, in which order and on which side: drawn once, from a seed.

Nothing here knows pictures or files. All readers judge the same cases, each in an order of their
own, so that readers can be compared with each other.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fedi2i.errors import ConfigError

TURING = "turing"
PREFERENCE = "preference"
TASKS = (TURING, PREFERENCE)
"""In the order in which readers do them: targets shown as such must not be seen before."""
CLOSER = "closer"
BETTER = "better"
QUESTIONS = (CLOSER, BETTER)
"""Which of two pictures is closer to the target, which is shown; which is better, without it."""
TARGET = "target"
MOST_READERS = 50
LARGEST_SHARE = 0.5
_TRIES = 200
_LETTER = {TURING: "T", PREFERENCE: "P"}


@dataclass(frozen=True, order=True)
class Patient:
    """A test patient whose pictures are judged.

    Attributes:
        site: name of the site.
        subject: the patient's identifier, as in the run's files.
    """

    site: str
    subject: str


@dataclass(frozen=True)
class Case:
    """What is judged, whoever judges it.

    Attributes:
        task: ``turing`` or ``preference``.
        patient: whose pictures.
        shown: of the visual Turing test one name, ``target`` or an arm's; of the preference two
            arms, in the order in which the study names them.
    """

    task: str
    patient: Patient
    shown: tuple[str, ...]


@dataclass(frozen=True)
class Item:
    """A case at its place on one reader's sheet.

    Attributes:
        number: as on the sheet, ``T001`` or ``P001``.
        case: what is judged.
        swapped: whether the second picture of the case is on the left.
        repeats: number of the item that shows the same case before; None at its first showing.
    """

    number: str
    case: Case
    swapped: bool = False
    repeats: str | None = None

    @property
    def shown(self) -> tuple[str, ...]:
        """What the reader sees, from left to right."""
        return self.case.shown[::-1] if self.swapped else self.case.shown


@dataclass(frozen=True)
class Plan:
    """What a study is to be, decided before anything is seen.

    Attributes:
        arms: names of rows of the results table: one or more for the visual Turing test, two or
            more for a preference.
        readers: names of the readers; a reader's sheet does not depend on how many follow.
        seed: of everything drawn.
        tasks: some of ``TASKS``.
        question: of the preference, one of ``QUESTIONS``.
        repeated: share of the cases of each task that is shown again, at most one half.
        sites: whose patients are shown; all sites where empty.
        patients: largest number of each site, or None for all.
    """

    arms: tuple[str, ...]
    readers: tuple[str, ...]
    seed: int
    tasks: tuple[str, ...] = TASKS
    question: str = CLOSER
    repeated: float = 0.2
    sites: tuple[str, ...] = ()
    patients: int | None = None

    def __post_init__(self) -> None:
        """Refuse what no study can be.

        Raises:
            ConfigError: a number is out of range, or there are too few arms.
        """
        if not 1 <= len(self.readers) <= MOST_READERS:
            raise ConfigError(
                f"--readers {len(self.readers)}: give a number from 1 to {MOST_READERS}"
            )
        if self.patients is not None and self.patients < 1:
            raise ConfigError(f"--patients {self.patients}: give 1 or more")
        if self.seed < 0:
            raise ConfigError(f"--seed {self.seed}: give 0 or more")
        if not 0 <= self.repeated <= LARGEST_SHARE:
            raise ConfigError(
                f"--repeated {self.repeated:g}: give a share from 0 to {LARGEST_SHARE:g}"
            )
        if PREFERENCE in self.tasks and len(self.arms) < 2:
            raise ConfigError("a preference needs two arms: name another --arm, or --task turing")


def draw_sheets(patients: Sequence[Patient], plan: Plan) -> dict[str, tuple[Item, ...]]:
    """Draw every reader's items.

    Args:
        patients: who is shown; two or more.
        plan: of the study.

    Returns:
        Reader to items, in the order in which they are judged.
    """
    cases = {
        TURING: turing_cases(patients, plan.arms, np.random.default_rng([plan.seed, 0])),
        PREFERENCE: preference_cases(patients, plan.arms),
    }
    return {
        reader: tuple(
            item
            for task in TASKS
            if task in plan.tasks
            for item in _items(task, cases[task], plan, place)
        )
        for place, reader in enumerate(plan.readers)
    }


def turing_cases(
    patients: Sequence[Patient], arms: Sequence[str], random: np.random.Generator
) -> tuple[Case, ...]:
    """Every patient's target and one translation, so that one half of the pictures is real.

    The arms are dealt to the patients of each site in turn: their numbers of patients differ by one
    at most, over all sites as well.
    """
    by_site: dict[str, list[Patient]] = {}
    for patient in patients:
        by_site.setdefault(patient.site, []).append(patient)
    shuffled = [
        members[index] for members in by_site.values() for index in random.permutation(len(members))
    ]
    first = int(random.integers(len(arms)))
    dealt = itertools.islice(itertools.cycle(arms), first, None)
    translated = [
        Case(TURING, patient, (arm,)) for patient, arm in zip(shuffled, dealt, strict=False)
    ]
    return (*(Case(TURING, patient, (TARGET,)) for patient in shuffled), *translated)


def preference_cases(patients: Sequence[Patient], arms: Sequence[str]) -> tuple[Case, ...]:
    """Every pair of arms for every patient."""
    return tuple(
        Case(PREFERENCE, patient, pair)
        for pair in itertools.combinations(arms, 2)
        for patient in patients
    )


def sides(cases: Sequence[Case], random: np.random.Generator) -> dict[Case, bool]:
    """For each case whether its second picture is on the left.

    Of each pair of arms, either is on the left for half of the patients; of an odd number, the
    pairs take turns in which arm has one more.
    """
    pairs: dict[tuple[str, ...], list[Case]] = {}
    for case in cases:
        pairs.setdefault(case.shown, []).append(case)
    drawn: dict[Case, bool] = {}
    for place, members in enumerate(pairs.values()):
        for turn, index in enumerate(random.permutation(len(members))):
            drawn[members[index]] = bool((turn + place) % 2)
    return drawn


def drawn_order(
    cases: Sequence[Case], repeats: int, random: np.random.Generator
) -> list[tuple[Case, bool]]:
    """An order of all cases with some of them again, each with whether it is a repetition.

    What is repeated is drawn from the first half of the order and comes back somewhere in the
    second. Of up to 200 such orders the first without neighbours of one patient is taken, else the
    one with the fewest.
    """
    best: list[tuple[Case, bool]] = []
    fewest = math.inf
    for _ in range(_TRIES):
        order = _shuffled(cases, repeats, random)
        neighbours = sum(
            one.patient == other.patient for (one, _), (other, _) in itertools.pairwise(order)
        )
        if neighbours < fewest:
            best, fewest = order, neighbours
        if fewest == 0:
            break
    return best


def repeated_count(cases: int, share: float) -> int:
    """How many of so many cases are shown twice: the share of them, rounded to the nearest."""
    return min(math.floor(share * cases + 0.5), cases // 2)


def _shuffled(
    cases: Sequence[Case], repeats: int, random: np.random.Generator
) -> list[tuple[Case, bool]]:
    order = [cases[index] for index in random.permutation(len(cases))]
    middle = len(order) // 2
    again = random.choice(middle, size=repeats, replace=False).tolist() if repeats else []
    second = [(case, False) for case in order[middle:]] + [(order[i], True) for i in again]
    mixed = [second[index] for index in random.permutation(len(second))]
    return [*((case, False) for case in order[:middle]), *mixed]


def _items(task: str, cases: Sequence[Case], plan: Plan, reader: int) -> Iterable[Item]:
    """One reader's items of a task; a repetition has its pictures on the other sides."""
    stream = TASKS.index(task) + 1
    order = drawn_order(
        cases,
        repeated_count(len(cases), plan.repeated),
        np.random.default_rng([plan.seed, stream, reader]),
    )
    swapped = _reader_sides(task, cases, plan.seed, reader)
    numbers: dict[Case, str] = {}
    for place, (case, again) in enumerate(order, start=1):
        number = f"{_LETTER[task]}{place:03d}"
        if again:
            yield Item(number, case, task == PREFERENCE and not swapped[case], numbers[case])
        else:
            numbers[case] = number
            yield Item(number, case, swapped[case])


def _reader_sides(task: str, cases: Sequence[Case], seed: int, reader: int) -> Mapping[Case, bool]:
    """The sides of one reader; of two readers in turn, the second has those of the first mirrored.

    So the sides of every single case are balanced over readers, too.
    """
    if task == TURING:
        return dict.fromkeys(cases, False)
    drawn = sides(cases, np.random.default_rng([seed, len(TASKS) + 1, reader // 2]))
    return {case: on_left ^ bool(reader % 2) for case, on_left in drawn.items()}
