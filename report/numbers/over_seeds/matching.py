"""What a matching study says: differences of two ways, paired by seed.

The unit is the seed: all models of one are trained anew. A seed's two ways have the same models, so
that their difference is taken within it, and the interval is Student's over the seeds' differences.
Merges were chosen on validation patients; everything here is of test patients.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from report.numbers.statistics import CONFIDENCE
from report.run.matching import (
    BEST_SINGLE,
    CHOSEN,
    ENSEMBLE,
    INDEPENDENT,
    MEAN_SINGLE,
    PLAIN,
    MatchingStudy,
    merge_label,
    start_label,
)

FEWEST_SEEDS = 3
TEST = "test"


@dataclass(frozen=True)
class PairedDifference:
    """One way minus another one, seed by seed.

    Attributes:
        question: which question it answers, the same for a group of lines.
        one: the first way.
        other: the second way.
        per_seed: seed to the difference; negative where the first has the smaller error.
    """

    question: str
    one: str
    other: str
    per_seed: Mapping[int, float]

    @property
    def mean(self) -> float:
        """Over seeds."""
        return float(np.mean(list(self.per_seed.values())))

    @property
    def interval(self) -> tuple[float, float] | None:
        """Student's 95 % interval of the mean; None below three seeds."""
        values = np.asarray(list(self.per_seed.values()))
        if len(values) < FEWEST_SEEDS:
            return None
        error = values.std(ddof=1) / math.sqrt(len(values))
        half = float(stats.t.ppf(0.5 + CONFIDENCE / 2, len(values) - 1) * error)
        return self.mean - half, self.mean + half

    @property
    def lower(self) -> int:
        """In how many seeds the first way has the smaller error."""
        return sum(value < 0 for value in self.per_seed.values())

    @property
    def higher(self) -> int:
        """In how many seeds it has the larger error."""
        return sum(value > 0 for value in self.per_seed.values())

    @property
    def held(self) -> bool:
        """Whether one sign held in every seed, of three or more: the one thing that is claimed."""
        return max(self.lower, self.higher) == len(self.per_seed) >= FEWEST_SEEDS


@dataclass(frozen=True)
class MergeTable:
    """Means over seeds of the merges and rivals of one start.

    Attributes:
        start: the start.
        width: factor of the generator's channels.
        models: how many were merged.
        lines: way of merging or rival -> quantity -> mean over seeds, on test patients.
    """

    start: str
    width: float
    models: int
    lines: Mapping[str, Mapping[str, float]]


QUANTITIES = ("l1", "psnr", "excess", "barrier", "moved", "similarity", "seconds")
_WITHOUT_PATIENTS = ("moved", "similarity", "seconds")


def merge_tables(study: MatchingStudy) -> list[MergeTable]:
    """A table for every start, width and number of models, in the order of the study."""
    shown = study.table[
        ((study.table["split"] == TEST) | study.table["quantity"].isin(_WITHOUT_PATIENTS))
        & study.table["quantity"].isin(QUANTITIES)
    ]
    tables = []
    for (start, width, models), part in shown.groupby(["start", "width", "sites"], sort=False):
        means = part.groupby(["merge", "quantity"])["value"].mean()
        names = _in_order(list(part["merge"].unique()))
        lines = {name: {q: float(v) for q, v in means[name].items()} for name in names}
        tables.append(MergeTable(str(start), float(width), int(models), lines))
    return tables


def differences(study: MatchingStudy) -> list[PairedDifference]:
    """The answers to the study's questions, question by question."""
    found = [*_common(study), *_rounds(study), *_matching(study), *_rivals(study)]
    return [one for one in found if one.per_seed]


def last_round(study: MatchingStudy) -> int | None:
    """The number of the last round after the merge; None where no rounds were run."""
    numbers = round_numbers(study)
    return numbers[-1] if numbers and numbers[-1] else None


def round_numbers(study: MatchingStudy) -> list[int]:
    """The rounds that were measured, the merge itself being 0."""
    names = study.table["quantity"].unique()
    return sorted(int(n.partition("@")[2]) for n in names if n.startswith("round_l1@"))


def control_values(study: MatchingStudy) -> pd.DataFrame:
    """The controls: a line per merge and quantity with the smallest and largest value of all."""
    ends = ("_moved", "_recovered", "_gap")
    found = study.table[study.table["quantity"].str.endswith(ends)]
    values = found.groupby(["merge", "quantity"], sort=False)["value"].agg(["min", "max"])
    return values.reset_index()


def _in_order(names: list[str]) -> list[str]:
    rivals = [MEAN_SINGLE, BEST_SINGLE, ENSEMBLE]
    first = [name for name in rivals if name in names]
    last = [name for name in (CHOSEN,) if name in names]
    return [*first, *(name for name in names if name not in (*rivals, CHOSEN)), *last]


def _settings(study: MatchingStudy) -> list[tuple[str, float, int]]:
    merged = study.table[study.table["quantity"] == "excess"]
    keys = merged[["start", "width", "sites"]].drop_duplicates()
    return [(str(s), float(w), int(n)) for s, w, n in keys.itertuples(index=False)]


def _matching(study: MatchingStudy) -> Iterator[PairedDifference]:
    for start, width, models in _settings(study):
        question = f"Does matching help? {start_label(start)}, width {width:g}, {models} models"
        for merge in _merges(study, start, width, models):
            if merge != PLAIN:
                yield _difference(
                    study, question, (start, width, models, merge), (start, width, models, PLAIN)
                )


def _common(study: MatchingStudy) -> Iterator[PairedDifference]:
    for start, width, models in _settings(study):
        if start == INDEPENDENT or width != study.width:
            continue
        yield _difference(
            study,
            f"Do common weights do more than matching? {models} models",
            (start, width, models, PLAIN),
            (INDEPENDENT, width, models, CHOSEN),
        )


def _rivals(study: MatchingStudy) -> Iterator[PairedDifference]:
    for start, width, models in _settings(study):
        question = f"Is a rival better? {start_label(start)}, width {width:g}, {models} models"
        for rival in (ENSEMBLE, BEST_SINGLE):
            place = (start, width, models)
            yield _difference(study, question, (*place, rival), (*place, CHOSEN))


def _rounds(study: MatchingStudy) -> Iterator[PairedDifference]:
    begun = study.table[study.table["quantity"] == "round_l1@0"]
    keys = begun[["start", "width", "sites"]].drop_duplicates()
    for start, width, models in keys.itertuples(index=False):
        of_start = begun[begun["start"] == start]["merge"].unique()
        for number in round_numbers(study)[1:]:
            question = f"Which start of the rounds? {start_label(start)}, after round {number}"
            for merge in [name for name in of_start if name != BEST_SINGLE]:
                place = (str(start), float(width), int(models))
                yield _difference(
                    study,
                    question,
                    (*place, BEST_SINGLE),
                    (*place, str(merge)),
                    f"round_l1@{number}",
                )


def _merges(study: MatchingStudy, start: str, width: float, models: int) -> list[str]:
    found = study.table[
        (study.table["start"] == start)
        & (study.table["width"] == width)
        & (study.table["sites"] == models)
        & (study.table["quantity"] == "excess")
    ]
    return _in_order([str(name) for name in found["merge"].unique()])


Place = tuple[str, float, int, str]
"""Start, width, number of models, and the merge or rival."""


def _difference(
    study: MatchingStudy, question: str, one: Place, other: Place, quantity: str = "l1"
) -> PairedDifference:
    values = [_of(study, place, quantity) for place in (one, other)]
    per_seed = (values[0] - values[1]).dropna()
    labels = [_label(place, one[0] != other[0]) for place in (one, other)]
    return PairedDifference(
        question, labels[0], labels[1], {int(str(s)): float(v) for s, v in per_seed.items()}
    )


def _of(study: MatchingStudy, place: Place, quantity: str) -> pd.Series:
    start, width, models, merge = place
    return study.values(
        start=start, width=width, sites=models, merge=merge, quantity=quantity, split=TEST
    )


def _label(place: Place, with_start: bool) -> str:
    label = merge_label(place[3])
    return f"{start_label(place[0])}, {label}" if with_start else label
