"""Preferences between pairs as strengths of single arms: the model of Bradley and Terry.

An arm i is preferred to an arm j with the probability p_i / (p_i + p_j) (Bradley and Terry 1952,
doi:10.2307/2334029). "No difference" counts as half a preference for either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.sparse.csgraph import connected_components
from scipy.special import expit

from fedi2i.errors import DataError

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Strengths:
    """The fitted model.

    Attributes:
        shares: strength of each arm; they add up to 1.
        logs: natural logarithm of the strength over that of the first arm, which has 0.
        errors: standard error of each of ``logs``; 0 for the first arm.
    """

    shares: tuple[float, ...]
    logs: tuple[float, ...]
    errors: tuple[float, ...]


def fit(wins: Matrix) -> Strengths:
    """Maximum likelihood, and standard errors from the observed information.

    Args:
        wins: (arms, arms), row preferred to column; halves where there was no difference.

    Raises:
        DataError: no finite strengths maximise the likelihood.
    """
    _refuse_separated(wins)
    found = minimize(
        _loss, np.zeros(len(wins) - 1), args=(wins,), jac=_gradient, method="BFGS", tol=1e-10
    )
    logs = np.concatenate([[0.0], found.x])
    shares = np.exp(logs - logs.max())
    inverse = np.linalg.inv(information(logs, wins)[1:, 1:])
    return Strengths(
        tuple((shares / shares.sum()).tolist()),
        tuple(logs.tolist()),
        (0.0, *np.sqrt(np.diag(inverse)).tolist()),
    )


def clustered_errors(strengths: Strengths, clusters: Sequence[Matrix]) -> tuple[float, ...]:
    """Standard errors that count judgements of one patient as alike.

    The sandwich estimator with clusters (Liang and Zeger 1986, doi:10.1093/biomet/73.1.13), times
    C / (C - 1) for C clusters.

    Args:
        strengths: fitted to the sum of the clusters.
        clusters: a matrix of wins for each patient, two or more.

    Returns:
        One for each of ``strengths.logs``; 0 for the first arm.
    """
    logs = np.array(strengths.logs)
    bread = np.linalg.inv(information(logs, np.sum(clusters, axis=0))[1:, 1:])
    scores = np.stack([-_gradient(logs[1:], wins) for wins in clusters])
    meat = len(clusters) / (len(clusters) - 1) * scores.T @ scores
    return (0.0, *np.sqrt(np.diag(bread @ meat @ bread)).tolist())


def information(logs: Matrix, wins: Matrix) -> Matrix:
    """Second derivatives of the negative log-likelihood by the logarithms of strengths."""
    probability = expit(logs[:, None] - logs[None, :])
    weights = (wins + wins.T) * probability * probability.T
    second: Matrix = np.diag(weights.sum(axis=1)) - weights
    return second


def _loss(free: Matrix, wins: Matrix) -> float:
    logs = np.concatenate([[0.0], free])
    return float((wins * np.logaddexp(0.0, logs[None, :] - logs[:, None])).sum())


def _gradient(free: Matrix, wins: Matrix) -> Matrix:
    logs = np.concatenate([[0.0], free])
    probability = expit(logs[:, None] - logs[None, :])
    expected = (wins + wins.T) * probability
    gradient: Matrix = (expected - wins).sum(axis=1)[1:]
    return gradient


def _refuse_separated(wins: Matrix) -> None:
    """Refuse wins from which no finite strengths follow (Ford 1957, doi:10.2307/2308513).

    From every arm there must be a chain of arms, each preferred to the next at least once, to every
    other arm.
    """
    groups, _ = connected_components(wins > 0, directed=True, connection="strong")
    if groups > 1:
        raise DataError(
            "some arm was preferred in all of its comparisons with some others, or in none, so "
            "that no finite strengths fit; more patients or readers would tell"
        )
