"""One site's update, and what is refused before anything is combined."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
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
        extras: what its strategy sent besides, as ``kind/key``.
    """

    site: str
    weights: Mapping[str, np.ndarray]
    samples: float
    extras: Mapping[str, np.ndarray] = field(default_factory=dict)

    def for_network(self, network: str) -> SiteUpdate:
        """The part that belongs to one network; no array is copied."""
        keys = (key for key in self.weights if network_of(key) == network)
        return replace(self, weights=LazyArrays(keys, self.weights.__getitem__))


class LazyArrays(Mapping[str, np.ndarray]):
    """Arrays by name, each looked up, read or reordered when it is asked for.

    So that a server need not hold what it goes through array by array.

    Args:
        keys: the names, in order.
        get: gives the array of a name.
    """

    def __init__(self, keys: Iterable[str], get: Callable[[str], np.ndarray]) -> None:
        self._keys = dict.fromkeys(keys)
        self._get = get

    def __getitem__(self, key: str) -> np.ndarray:
        """Get one array."""
        if key not in self._keys:
            raise KeyError(key)
        return self._get(key)

    def __iter__(self) -> Iterator[str]:
        """The names in order."""
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
    for name, value in update.extras.items():
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
