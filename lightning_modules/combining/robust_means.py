"""Rank-based means of the sites' values, coordinate by coordinate, in chunks of bounded size."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from lightning_modules.combining.chunks import chunks
from lightning_modules.combining.updates import SiteUpdate, Weights

Rule = Callable[[np.ndarray, np.ndarray | None], np.ndarray]
"""From sorted values (coordinates, sites) and their weights, or None where all are equal."""


def robust_weights(updates: Sequence[SiteUpdate], by_samples: bool) -> list[float] | None:
    """One weight per site, its samples; or None: all sites weigh the same."""
    return [update.samples for update in updates] if by_samples else None


def coordinatewise(
    updates: Sequence[SiteUpdate], weights: Sequence[float] | None, rule: Rule
) -> Weights:
    """Apply a rule to every coordinate of every array.

    Args:
        updates: the sites' updates.
        weights: a positive weight per site, or None for equal ones, which is faster.
        rule: gets each coordinate's values in rising order, and the weights in the same order.

    Returns:
        Arrays of the updates' types; integers are rounded.
    """
    shares = None if weights is None else np.asarray(weights, dtype=np.float64)
    return {
        key: _array([update.weights[key] for update in updates], shares, rule)
        for key in updates[0].weights
    }


def _array(values: Sequence[np.ndarray], weights: np.ndarray | None, rule: Rule) -> np.ndarray:
    flat = [value.reshape(-1) for value in values]
    result = np.empty(flat[0].shape, dtype=values[0].dtype)
    for part in chunks(result.size, side_by_side=len(flat)):
        chunk = np.stack([value[part] for value in flat], axis=1)
        if weights is None:
            found = rule(np.sort(chunk, axis=1), None)
        else:
            order = np.argsort(chunk, axis=1, kind="stable")
            found = rule(np.take_along_axis(chunk, order, axis=1), weights[order])
        whole = not np.issubdtype(result.dtype, np.floating)
        result[part] = np.rint(found) if whole else found
    return result.reshape(values[0].shape)
