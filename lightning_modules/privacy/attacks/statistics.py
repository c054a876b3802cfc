"""What a membership attack is worth: AUC, its interval, its p-value, and rates at few false alarms.

The randomisation that gave the trials is repeated to get the null: in every model half of the
patients are members, drawn at random, and a model's partner has the other half. Patients, not
slices, are resampled, because slices of one patient are alike. An interval that leaves out 0.5
proves nothing on its own: with few patients a split of members against members reached 0.70.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from fedi2i.errors import DataError

Scores = NDArray[np.float64]
Members = NDArray[np.bool_]

CONFIDENCE = 0.95
FEWEST_NON_MEMBERS = 100
"""Below this number of non-member trials, 1 % of false alarms is less than one of them."""


@dataclass(frozen=True)
class Trials:
    """The scores of one attack.

    Attributes:
        scores: (models, patients); the higher, the more the attack takes a patient for a member.
        members: same shape; whether the patient was among the model's training patients. Models 2k
            and 2k + 1 are partners: each trained on the patients that the other was not.
    """

    scores: Scores
    members: Members

    def __post_init__(self) -> None:
        """Refuse what is no such table.

        Raises:
            DataError: shapes differ, a score is not finite, or models without members or others.
        """
        if self.scores.shape != self.members.shape or self.scores.ndim != 2:
            raise DataError("scores and members are no tables (models, patients) of one shape")
        if not np.isfinite(self.scores).all():
            raise DataError("a score of an attack is not finite; did a model diverge?")
        inside = self.members.sum(axis=1)
        if not ((inside > 0) & (inside < self.members.shape[1])).all():
            raise DataError("every model needs a member and a non-member among the patients")

    @property
    def non_members(self) -> int:
        """Number of trials with a patient that the model was not trained on."""
        return int((~self.members).sum())


@dataclass(frozen=True)
class Separation:
    """How well an attack tells members from others.

    Attributes:
        auc: probability that a member scores above a non-member of the same model, ties half;
            mean over the models. 0.5 is guessing.
        low: lower end of the interval by bootstrap over patients.
        high: its upper end.
        null_low: lower end of where the AUC of permuted memberships lies.
        null_high: its upper end.
        p: how often permuted memberships reach the AUC, (1 + times) / (1 + permutations).
    """

    auc: float
    low: float
    high: float
    null_low: float
    null_high: float
    p: float


@dataclass(frozen=True)
class FewAlarms:
    """How many members are found where few others are taken for members.

    Attributes:
        at: the false-positive rate that was asked for; 0 where there are too few trials for 1 %.
        found: share of member trials found.
        low: lower end of the interval by bootstrap over patients.
        high: its upper end.
        bound: with ``at`` 0: the largest false-positive rate that no false alarm in so many trials
            still allows (one-sided, 95 %, trials taken as independent).
    """

    at: float
    found: float
    low: float
    high: float
    bound: float


def separation(trials: Trials, permutations: int, rng: np.random.Generator) -> Separation:
    """AUC with its interval, its null interval and its p-value.

    Args:
        trials: the attack's scores.
        permutations: of membership, and resamples of patients; 1,000 or more for a report.
        rng: draws both.
    """
    above = _comparisons(trials.scores)
    auc = _mean_auc(above, trials.members)
    resampled = [
        _mean_auc(above, trials.members, weights)
        for weights in _resampled_patients(trials, permutations, rng)
    ]
    permuted = [_mean_auc(above, drawn) for drawn in _permuted(trials, permutations, rng)]
    return Separation(
        auc,
        *_interval(resampled),
        *_interval(permuted),
        p=_p_value(auc, permuted),
    )


def p_of_largest(attacks: list[Trials], permutations: int, rng: np.random.Generator) -> float:
    """The p-value of the largest AUC of several attacks, corrected for choosing it.

    Every permutation takes the largest AUC of all attacks, too (Westfall and Young 1993): whoever
    looks at many scores and reports the best one finds a leak where there is none.

    Args:
        attacks: their trials, with the same memberships.
        permutations: see ``separation``.
        rng: draws them.

    Raises:
        DataError: memberships differ.
    """
    members = attacks[0].members
    if any((other.members != members).any() for other in attacks):
        raise DataError("attacks on different memberships cannot be compared")
    tables = [_comparisons(attack.scores) for attack in attacks]
    largest = max(_mean_auc(above, members) for above in tables)
    permuted = [
        max(_mean_auc(above, drawn) for above in tables)
        for drawn in _permuted(attacks[0], permutations, rng)
    ]
    return _p_value(largest, permuted)


def few_alarms(trials: Trials, resamples: int, rng: np.random.Generator) -> FewAlarms:
    """Members found at 1 % false alarms, or at none where there are too few trials for 1 %."""
    at = 0.01 if trials.non_members >= FEWEST_NON_MEMBERS else 0.0
    found = [
        _found_at(trials, at, weights) for weights in _resampled_patients(trials, resamples, rng)
    ]
    bound = 1 - (1 - CONFIDENCE) ** (1 / trials.non_members) if at == 0 else at
    ones = np.ones(trials.members.shape[1])
    return FewAlarms(at, _found_at(trials, at, ones), *_interval(found), bound=bound)


def found_at(trials: Trials, rate: float) -> float:
    """The share of member trials found at a false-positive rate, over the trials of all models.

    Raises:
        DataError: there are too few non-member trials to speak of that rate.
    """
    if rate > 0 and trials.non_members < FEWEST_NON_MEMBERS:
        raise DataError(
            f"{trials.non_members} non-member trials say nothing of a false-positive rate of "
            f"{rate:g}; train more models, or take {FEWEST_NON_MEMBERS} or more trials"
        )
    return _found_at(trials, rate, np.ones(trials.members.shape[1]))


def _found_at(trials: Trials, rate: float, weights: Scores) -> float:
    """With patients counted ``weights`` times."""
    weight = np.broadcast_to(weights, trials.members.shape)
    outside = ~trials.members & (weight > 0)
    inside = trials.members & (weight > 0)
    if not inside.any() or not outside.any():
        return 0.0
    order = np.argsort(-trials.scores[outside])
    alarms = np.cumsum(weight[outside][order]) / weight[outside].sum()
    # Members above the first non-member that would be one false alarm too many are found.
    stopping = int(np.searchsorted(alarms, rate + 1e-12, side="right"))
    if stopping == len(order):
        return 1.0
    threshold = trials.scores[outside][order[stopping]]
    return float(weight[inside & (trials.scores > threshold)].sum() / weight[inside].sum())


def _comparisons(scores: Scores) -> Scores:
    """(models, patients, patients): 1 where the first scores above the second, 0.5 for ties."""
    # Ranks, as differences of scores could round to ties.
    ranks = np.stack([rankdata(row) for row in scores])
    above: Scores = 0.5 * (1.0 + np.sign(ranks[:, :, None] - ranks[:, None, :]))
    return above


def _mean_auc(above: Scores, members: Members, weights: Scores | None = None) -> float:
    """Mean over the models; those whose resample has no member or no other are passed over."""
    weight = np.ones(members.shape[1]) if weights is None else weights
    inside, outside = members * weight, ~members * weight
    pairs = inside.sum(axis=1) * outside.sum(axis=1)
    won = np.einsum("mi,mij,mj->m", inside, above, outside, optimize=True)
    return float(np.mean(won[pairs > 0] / pairs[pairs > 0])) if (pairs > 0).any() else 0.5


def _resampled_patients(trials: Trials, count: int, rng: np.random.Generator) -> Scores:
    patients = trials.members.shape[1]
    return rng.multinomial(patients, np.full(patients, 1 / patients), count).astype(np.float64)


def _permuted(trials: Trials, count: int, rng: np.random.Generator) -> list[Members]:
    """Memberships drawn anew as the real ones were: partners stay partners."""
    drawn = []
    for _ in range(count):
        members = trials.members.copy()
        for first in range(0, len(members), 2):
            order = rng.permutation(members.shape[1])
            members[first : first + 2] = members[first : first + 2][:, order]
        drawn.append(members)
    return drawn


def _interval(values: list[float]) -> tuple[float, float]:
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)


def _p_value(observed: float, permuted: list[float]) -> float:
    reached = sum(value >= observed - 1e-12 for value in permuted)
    return (1 + reached) / (1 + len(permuted))
