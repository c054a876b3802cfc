"""One site's update, and what is refused before anything is combined."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

Weights = dict[str, np.ndarray]


@dataclass(frozen=True)
class SiteUpdate:
    """One site's answer in one round.

    Attributes:
        site: its name.
        weights: parameter name to array.
        samples: its number of training slices.
        arrays: what its strategy sent besides, as ``name/key``.
    """

    site: str
    weights: Mapping[str, np.ndarray]
    samples: float
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)

    def of(self, network: str) -> SiteUpdate:
        """The part that belongs to one network; no array is copied."""
        return replace(self, weights=_OneNetwork(self.weights, network))


class _OneNetwork(Mapping[str, np.ndarray]):
    """The arrays of one network among others; each is looked up when it is asked for."""

    def __init__(self, weights: Mapping[str, np.ndarray], network: str) -> None:
        self._weights = weights
        self._keys = {key: None for key in weights if network_of(key) == network}

    def __getitem__(self, key: str) -> np.ndarray:
        """Look one array up."""
        if key not in self._keys:
            raise KeyError(key)
        return self._weights[key]

    def __iter__(self) -> Iterator[str]:
        """Names in the order of the update."""
        return iter(self._keys)

    def __len__(self) -> int:
        """Number of arrays."""
        return len(self._keys)


class UpdateRefusedError(ValueError):
    """An update that must not be averaged; says why."""


def network_of(key: str) -> str:
    """The network that a key belongs to: its first dotted part."""
    return key.split(".", 1)[0]


def networks_of(keys: Collection[str]) -> list[str]:
    """The networks of some keys, sorted."""
    return sorted({network_of(key) for key in keys})


def check_update(
    update: SiteUpdate, anchor: Weights, kinds: Collection[str] = (), partial: bool = False
) -> None:
    """Refuse an update that cannot be combined with the global model.

    Args:
        update: the update.
        anchor: the global model that was sent out.
        kinds: names of the arrays that this strategy's sites send besides the model.
        partial: whether a site may leave out whole networks that it could not train.

    Raises:
        UpdateRefusedError: keys, shapes or types differ, a value is not finite, or the stated
            number of samples is not a finite number above 0.
    """
    expected = anchor
    if partial:
        sent = networks_of(update.weights)
        expected = {key: value for key, value in anchor.items() if network_of(key) in sent}
    if not update.weights or set(update.weights) != set(expected):
        odd = min(set(update.weights) ^ set(anchor), key=str)
        raise UpdateRefusedError(f"its keys differ from the global model's, e.g. '{odd}'")
    for key, value in update.weights.items():
        _check_array(key, value, anchor[key])
    for name, value in update.arrays.items():
        kind, _, key = name.partition("/")
        if kind not in kinds or key not in update.weights:
            raise UpdateRefusedError(f"its array '{name}' is none of this strategy's")
        _check_array(name, value, anchor[key])
    if not 0 < update.samples < np.inf:
        raise UpdateRefusedError(f"it states {update.samples} training samples")


def _check_array(key: str, value: object, like: np.ndarray) -> None:
    if not isinstance(value, np.ndarray) or value.dtype != like.dtype:
        raise UpdateRefusedError(f"'{key}' is not an array of {like.dtype}")
    if value.shape != like.shape:
        raise UpdateRefusedError(f"'{key}' has shape {value.shape}, the global model {like.shape}")
    if not np.isfinite(value).all():
        raise UpdateRefusedError(f"'{key}' holds NaN or infinity")
