"""What a reader study found: visual Turing rates, preferences, and how far readers agree."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from fedi2i.errors import DataError
from report.readers.agreement import Agreement, cohen, fleiss
from report.readers.bradley_terry import Matrix, Strengths, clustered_errors, fit
from report.readers.design import PREFERENCE, TARGET, TURING, Case, Patient
from report.readers.key import EQUAL, LEFT, REAL, TRANSLATED, Key
from report.readers.proportions import LEVEL, Proportion, proportion
from report.readers.sheets import Judgement, Sheets

Judgements = Sequence[Judgement]


@dataclass(frozen=True)
class TuringScores:
    """The visual Turing test, of all readers together or of one.

    Attributes:
        rate: translated pictures that were taken for real ones.
        arms: the same by arm.
        sensitivity: translated pictures that were called translated.
        specificity: real pictures that were called real.
        correct: answers that were right, among all.
    """

    rate: Proportion
    arms: Mapping[str, Proportion]
    sensitivity: Proportion
    specificity: Proportion
    correct: Proportion


@dataclass(frozen=True)
class Pair:
    """How two arms did against each other.

    Attributes:
        first, second: the arms.
        preferred: judgements for the first one, among those for either.
        equal: judgements without a difference.
    """

    first: str
    second: str
    preferred: Proportion
    equal: int


@dataclass(frozen=True)
class Strength:
    """One arm of the fitted model of preferences.

    Attributes:
        arm: its name.
        share: its strength; all add up to 1.
        log: logarithm of its strength over the first arm's.
        error: standard error of it, the larger of the model's own and the one that counts
            judgements of one patient as alike.
        low, high: ends of its 95 % interval.
    """

    arm: str
    share: float
    log: float
    error: float
    low: float
    high: float


@dataclass(frozen=True)
class PreferenceScores:
    """The preferences.

    Attributes:
        pairs: every two arms.
        strengths: every arm, in the order of the study; empty where none can be fitted.
        no_strengths: why there are none, or "".
        left: judgements for the picture on the left, among those for either.
    """

    pairs: tuple[Pair, ...]
    strengths: tuple[Strength, ...]
    no_strengths: str
    left: Proportion


@dataclass(frozen=True)
class ReaderScores:
    """One reader.

    Attributes:
        reader: the reader.
        answered: task to items with an answer, repetitions included.
        items: task to items.
        seconds: task to the median time of an item, where it was recorded.
        turing: the reader's visual Turing test, or None.
        left: as in ``PreferenceScores``, or None.
        repeats: task to agreement with oneself over the items shown twice.
    """

    reader: str
    answered: Mapping[str, int]
    items: Mapping[str, int]
    seconds: Mapping[str, float | None]
    turing: TuringScores | None
    left: Proportion | None
    repeats: Mapping[str, Agreement]


@dataclass(frozen=True)
class Scores:
    """All of it.

    Attributes:
        key: of the study.
        readers: those whose sheets can be used.
        turing: the visual Turing test over all readers, or None.
        preference: the preferences over all readers, or None.
        agreement: task to agreement of all readers over the cases that all of them judged.
        agreement_of_pairs: task and two readers to theirs.
        gaps: a sentence for everything that is missing, damaged or foreign.
    """

    key: Key
    readers: tuple[ReaderScores, ...]
    turing: TuringScores | None
    preference: PreferenceScores | None
    agreement: Mapping[str, Agreement]
    agreement_of_pairs: Mapping[tuple[str, str, str], Agreement]
    gaps: tuple[str, ...]

    @property
    def unanswered(self) -> int:
        """Items without an answer on the sheets that were used."""
        return sum(
            reader.items[task] - reader.answered[task]
            for reader in self.readers
            for task in reader.items
        )


def score(sheets: Sheets, key: Key, gaps: Sequence[str] = ()) -> Scores:
    """Compute everything.

    Rates, preferences and agreement between readers count each case once a reader, at its first
    showing.

    Args:
        sheets: what came back.
        key: what was shown.
        gaps: what else is to be said of the study.
    """
    first = {
        reader: [one for one in given if one.item.repeats is None and one.answer is not None]
        for reader, given in sheets.judgements.items()
    }
    everything = list(itertools.chain.from_iterable(first.values()))
    arms = tuple(key.labels)
    verdicts = {task: _verdicts(first, task) for task in key.tasks}
    return Scores(
        key=key,
        readers=tuple(
            _reader(reader, given, first[reader], arms, key.tasks)
            for reader, given in sheets.judgements.items()
        ),
        turing=turing_scores(everything, arms) if TURING in key.tasks else None,
        preference=preference_scores(everything, arms) if PREFERENCE in key.tasks else None,
        agreement={task: _all_readers(given) for task, given in verdicts.items() if len(given) > 1},
        agreement_of_pairs={
            (task, one, other): _two_readers(given[one], given[other])
            for task, given in verdicts.items()
            for one, other in itertools.combinations(given, 2)
        },
        gaps=(*gaps, *sheets.gaps),
    )


def turing_scores(judgements: Iterable[Judgement], arms: Sequence[str]) -> TuringScores:
    """The visual Turing test.

    Args:
        judgements: answered ones; those of other tasks are left out.
        arms: names of the arms.
    """
    own = [one for one in judgements if one.item.case.task == TURING]
    real = [one for one in own if one.item.shown[0] == TARGET]
    translated = [one for one in own if one.item.shown[0] != TARGET]

    def taken_for_real(one: Judgement) -> bool:
        return one.answer == REAL

    return TuringScores(
        rate=_share(translated, taken_for_real),
        arms={
            arm: _share([one for one in translated if one.item.shown[0] == arm], taken_for_real)
            for arm in arms
        },
        sensitivity=_share(translated, lambda one: one.answer == TRANSLATED),
        specificity=_share(real, taken_for_real),
        correct=_share(own, lambda one: (one.answer == REAL) == (one.item.shown[0] == TARGET)),
    )


def preference_scores(judgements: Iterable[Judgement], arms: Sequence[str]) -> PreferenceScores:
    """The preferences, and the strengths that explain them.

    Args:
        judgements: answered ones; those of other tasks are left out.
        arms: names of the arms; the first has the strength that others are compared with.
    """
    own = [one for one in judgements if one.item.case.task == PREFERENCE]
    clusters: dict[Patient, Matrix] = {}
    for one in own:
        wins = clusters.setdefault(one.item.case.patient, np.zeros((len(arms), len(arms))))
        wins += _wins(one, arms)
    try:
        strengths, why = _strengths(arms, list(clusters.values())), ""
    except DataError as error:
        strengths, why = (), str(error)
    return PreferenceScores(
        pairs=tuple(_pair(own, *pair) for pair in itertools.combinations(arms, 2)),
        strengths=strengths,
        no_strengths=why,
        left=_left(own),
    )


def _wins(judgement: Judgement, arms: Sequence[str]) -> Matrix:
    """One judgement as a matrix: row preferred to column, halves without a difference."""
    wins = np.zeros((len(arms), len(arms)))
    one, other = (arms.index(arm) for arm in judgement.item.case.shown)
    if judgement.verdict == EQUAL:
        wins[one, other] = wins[other, one] = 0.5
    elif judgement.verdict == arms[one]:
        wins[one, other] = 1.0
    else:
        wins[other, one] = 1.0
    return wins


def _strengths(arms: Sequence[str], clusters: Sequence[Matrix]) -> tuple[Strength, ...]:
    if not clusters:
        raise DataError("no preference was given")
    fitted = fit(np.sum(clusters, axis=0))
    errors = _larger_errors(fitted, clusters)
    reach = float(norm.ppf((1 + LEVEL) / 2))
    return tuple(
        Strength(arm, share, log, error, log - reach * error, log + reach * error)
        for arm, share, log, error in zip(arms, fitted.shares, fitted.logs, errors, strict=True)
    )


def _larger_errors(fitted: Strengths, clusters: Sequence[Matrix]) -> list[float]:
    """The larger of both standard errors; with one patient there is the model's own alone."""
    if len(clusters) < 2:
        return list(fitted.errors)
    pairs = zip(fitted.errors, clustered_errors(fitted, clusters), strict=True)
    return [max(pair) for pair in pairs]


def _pair(judgements: Judgements, first: str, second: str) -> Pair:
    own = [one for one in judgements if one.item.case.shown == (first, second)]
    decided = [one for one in own if one.verdict != EQUAL]
    return Pair(
        first,
        second,
        preferred=_share(decided, lambda one: one.verdict == first),
        equal=len(own) - len(decided),
    )


def _left(judgements: Judgements) -> Proportion:
    decided = [one for one in judgements if one.answer != EQUAL]
    return _share(decided, lambda one: one.answer == LEFT)


def _share(judgements: Judgements, is_true: Callable[[Judgement], bool]) -> Proportion:
    counts: dict[object, tuple[int, int]] = {}
    for one in judgements:
        true, total = counts.get(one.item.case.patient, (0, 0))
        counts[one.item.case.patient] = (true + is_true(one), total + 1)
    return proportion(counts)


def _reader(
    reader: str, given: Judgements, first: Judgements, arms: Sequence[str], tasks: Sequence[str]
) -> ReaderScores:
    of_task = {task: [one for one in given if one.item.case.task == task] for task in tasks}
    preferences = [one for one in first if one.item.case.task == PREFERENCE]
    return ReaderScores(
        reader=reader,
        answered={
            task: sum(one.answer is not None for one in own) for task, own in of_task.items()
        },
        items={task: len(own) for task, own in of_task.items()},
        seconds={task: _median_seconds(own) for task, own in of_task.items()},
        turing=turing_scores(first, arms) if TURING in tasks else None,
        left=_left(preferences) if PREFERENCE in tasks else None,
        repeats={task: _with_oneself(own) for task, own in of_task.items()},
    )


def _median_seconds(judgements: Judgements) -> float | None:
    known = [one.seconds for one in judgements if one.answer and one.seconds is not None]
    return statistics.median(known) if known else None


def _with_oneself(judgements: Judgements) -> Agreement:
    verdicts = {one.item.number: one.verdict for one in judgements}
    pairs = [
        (before, one.verdict)
        for one in judgements
        if one.item.repeats is not None
        and one.verdict is not None
        and (before := verdicts[one.item.repeats]) is not None
    ]
    return cohen([before for before, _ in pairs], [after for _, after in pairs])


def _verdicts(first: Mapping[str, Judgements], task: str) -> dict[str, dict[Case, str]]:
    return {
        reader: {
            one.item.case: one.verdict
            for one in given
            if one.item.case.task == task and one.verdict is not None
        }
        for reader, given in first.items()
    }


def _all_readers(given: Mapping[str, Mapping[Case, str]]) -> Agreement:
    """Cohen's kappa of two readers, Fleiss' of more."""
    if len(given) == 2:
        one, other = given.values()
        return _two_readers(one, other)
    shared = [case for case in next(iter(given.values())) if all(case in r for r in given.values())]
    return fleiss([[reader[case] for reader in given.values()] for case in shared])


def _two_readers(one: Mapping[Case, str], other: Mapping[Case, str]) -> Agreement:
    shared = [case for case in one if case in other]
    return cohen([one[case] for case in shared], [other[case] for case in shared])
