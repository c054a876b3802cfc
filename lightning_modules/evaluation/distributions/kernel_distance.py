"""The kernel distance (KID) of two sets of slices, and how far other patients would change it.

The squared maximum mean discrepancy with the polynomial kernel (a·b / d + 1)³ of features with d
dimensions: Binkowski, Sutherland, Arbel, Gretton, Demystifying MMD GANs, ICLR 2018
(arXiv:1801.01401). There the slices are drawn one by one. Here patients are: slices of one patient
resemble each other, and a translation resembles its own target, so that such pairs would move the
estimate however good the model. Only pairs of slices of two different people count, as Gretton et
al. (JMLR 13, 2012, equation 4) leave out pairs of equal index; with one slice a person and
different people in the two sets this is the published estimator.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torchmetrics.image.kid import poly_kernel

Features = NDArray[np.float64]
"""(slices, dimensions)."""
_DEGREE = 3
_OFFSET = 1.0


@dataclass(frozen=True)
class Estimate:
    """A value and its jackknife standard error over people; both NaN where a model diverged."""

    value: float
    standard_error: float


def kernel_distance(
    real: Features, other: Features, real_people: Sequence[str], other_people: Sequence[str]
) -> Estimate:
    """The unbiased squared distance of two sets of slices; it may fall below 0.

    Args:
        real: features of the slices of one set.
        other: features of the other set.
        real_people: whose slice each of ``real`` is; two people or more.
        other_people: whose each of ``other`` is.

    Returns:
        0 where the sets are the same slices of the same people; no unit.
    """
    names = list(dict.fromkeys((*real_people, *other_people)))
    place = {name: number for number, name in enumerate(names)}
    x, y = (np.array([place[one] for one in people]) for people in (real_people, other_people))
    people = len(names)
    terms = [
        (1.0, *_sums(real, real, x, x, people)),
        (1.0, *_sums(other, other, y, y, people)),
        (-2.0, *_sums(real, other, x, y, people)),
    ]
    value = sum(weight * total.sum() / pairs.sum() for weight, total, pairs in terms)
    left_out = sum(weight * _without(total) / _without(pairs) for weight, total, pairs in terms)
    return Estimate(float(value), jackknife_error(np.asarray(left_out)))


def jackknife_error(left_out: NDArray[np.float64]) -> float:
    """The standard error of an estimate from its values without each person in turn."""
    people = len(left_out)
    spread = ((left_out - left_out.mean()) ** 2).sum()
    return math.sqrt((people - 1) / people * spread)


def jackknifed(people: Sequence[str], measure: Callable[[NDArray[np.bool_]], float]) -> Estimate:
    """An estimate and its standard error, computed anew without each person.

    Args:
        people: whose slice each one is.
        measure: of the slices that a mask keeps.
    """
    owners = np.array(people)
    value = measure(np.ones(len(owners), dtype=bool))
    left_out = np.array([measure(owners != one) for one in dict.fromkeys(people)])
    return Estimate(value, jackknife_error(left_out))


def _sums(
    one: Features, other: Features, owners: NDArray[np.intp], others: NDArray[np.intp], people: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """By two people: the kernel's sum over pairs of their slices, and how many; 0 of one person."""
    kernel = poly_kernel(
        torch.from_numpy(one), torch.from_numpy(other), degree=_DEGREE, coef=_OFFSET
    ).numpy()
    belongs, belongs_other = (np.eye(people)[of] for of in (owners, others))
    sums = belongs.T @ kernel @ belongs_other
    pairs = np.outer(belongs.sum(axis=0), belongs_other.sum(axis=0))
    different = 1.0 - np.eye(people)
    return sums * different, pairs * different


def _without(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sum of a table without each person's row and column; its diagonal is 0."""
    rest: NDArray[np.float64] = table.sum() - table.sum(axis=0) - table.sum(axis=1)
    return rest
