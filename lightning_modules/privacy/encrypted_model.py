"""A model as encrypted sums: one vector per network, and beside it what is in the vector.

A site multiplies its model by its number of samples, n_k w_k, and encrypts it. The server adds up
what the sites sent, and how many samples they are, and reads neither model nor sum. Sites decrypt
the sum and divide: sum_k n_k w_k / sum_k n_k, FedAvg's mean (McMahan et al., AISTATS 2017).

All arrays of a network are one vector, since a ciphertext takes 131 kB whether it holds one value
or 4096. Every vector ends in a 1, which becomes the number of samples: decrypted with another key,
or where the server states other samples than it added, the end is another number, and the model is
refused.

A message is arrays by name: ``encrypted/<network>``, and ``encrypted/layout`` with names, shapes
and samples as JSON. So it travels, and is saved, like any model.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lightning_modules.combining.updates import Weights, network_of, networks_of
from lightning_modules.privacy.encrypted_sums import (
    LARGEST_SUM,
    EncryptedSum,
    EncryptionError,
    decrypt,
    encrypt,
)

PREFIX = "encrypted/"
"""No network may be called so: keys of parameters start with a network's name and a dot."""
LAYOUT = f"{PREFIX}layout"
_MOST_LAYOUT_BYTES = 10_000_000
_END_TOLERANCE = 1e-3
"""The last value of a sum is a whole number, and right to about 1e-6."""


@dataclass(frozen=True)
class Part:
    """What one network's vector holds.

    Attributes:
        arrays: names and shapes, in the order of the vector.
        samples: the weight that its values are multiplied by, summed over sites.
    """

    arrays: tuple[tuple[str, tuple[int, ...]], ...]
    samples: int = 0

    @property
    def size(self) -> int:
        """Number of values, the end's 1 included."""
        return sum(math.prod(shape) for _, shape in self.arrays) + 1


Layout = dict[str, Part]


def is_encrypted(data: Mapping[str, Any]) -> bool:
    """Whether a message's arrays are encrypted."""
    return LAYOUT in data


def layout_of(arrays: Mapping[str, np.ndarray]) -> Layout:
    """The layout of a model: by network, in the order of names.

    Raises:
        EncryptionError: an array that is no float32, so that a mean would not be of its kind.
    """
    for key, value in arrays.items():
        if value.dtype != np.float32:
            raise EncryptionError(
                f"'{key}' is of type {value.dtype}; only means of float32 are encrypted"
            )
    shapes = {key: tuple(int(n) for n in arrays[key].shape) for key in sorted(arrays)}
    return {
        network: Part(tuple((k, shape) for k, shape in shapes.items() if network_of(k) == network))
        for network in networks_of(shapes)
    }


def encrypted_model(
    arrays: Mapping[str, np.ndarray], samples: int, sites: int, keys: Any
) -> Weights:
    """Encrypt a site's model, weighted.

    Args:
        arrays: float32 arrays by name.
        samples: the site's number of training samples, its weight.
        sites: number of sites whose models may be added up.
        keys: of ``encrypted_sums.open_keys``, with the secret key.

    Raises:
        EncryptionError: a value is not finite, or a sum of such values might not come out right.
    """
    layout = layout_of(arrays)
    sealed: Weights = {}
    for network, part in layout.items():
        for key, _ in part.arrays:
            _check_range(key, arrays[key], samples, sites)
        flat = [arrays[key].reshape(-1).astype(np.float64) for key, _ in part.arrays]
        vector = np.concatenate([*flat, np.ones(1)]) * samples
        sealed[PREFIX + network] = encrypt(vector, keys)
        layout[network] = Part(part.arrays, samples)
    return {**sealed, LAYOUT: _written(layout)}


def decrypted_model(message: Mapping[str, np.ndarray], keys: Any) -> Weights:
    """Decrypt the sum of the sites' models and divide it by their samples.

    Args:
        message: of ``EncryptedMean``. A network that no site has trained yet is plain in it.
        keys: of ``encrypted_sums.open_keys``, with the secret key.

    Returns:
        float32 arrays by name, equal to the plain mean in float64 to about 5e-7 / samples before
        they are rounded.

    Raises:
        EncryptionError: the vectors do not hold what the layout says, or another key, or other
            samples, are in them.
    """
    arrays = {key: value for key, value in message.items() if not key.startswith(PREFIX)}
    for network, part in read_layout(message).items():
        if part.samples < 1:
            raise EncryptionError(f"the encrypted '{network}' is the sum of no samples")
        values = decrypt(_vector(message, network), part.size, keys)
        if not abs(values[-1] - part.samples) <= _END_TOLERANCE:
            raise EncryptionError(
                f"the encrypted '{network}' does not decrypt to a mean: it was encrypted with "
                "another federation's key, or is the sum of other samples than the server says"
            )
        mean = (values[:-1] / values[-1].round()).astype(np.float32)
        start = 0
        for key, shape in part.arrays:
            stop = start + math.prod(shape)
            arrays[key] = mean[start:stop].reshape(shape)
            start = stop
    return arrays


@dataclass
class EncryptedMean:
    """The sum of the sites' encrypted models, as the server keeps it during a round.

    Attributes:
        layout: of the global model.
        keys: of ``encrypted_sums.open_keys``, without the secret key.
        partial: whether a site may leave out whole networks that it could not train.
    """

    layout: Layout
    keys: Any
    partial: bool = False
    _sums: dict[str, EncryptedSum] = field(default_factory=dict)
    _samples: dict[str, int] = field(default_factory=dict)

    def add(self, message: Mapping[str, np.ndarray], samples: int) -> None:
        """Add one site's model, or nothing of it.

        Args:
            message: of ``encrypted_model``.
            samples: the number of samples that the site states beside it.

        Raises:
            EncryptionError: it is not encrypted, or is not of the global model's networks.
        """
        layout = read_layout(message)
        self._check(message, layout, samples)
        opened: dict[str, list[Any]] = {}
        for network in layout:
            own = EncryptedSum(self.layout[network].size, self.keys)
            opened[network] = self._sums.setdefault(network, own).opened(_vector(message, network))
        for network, vectors in opened.items():
            self._sums[network].add(vectors)
            self._samples[network] = self._samples.get(network, 0) + samples

    def message(self, sent_out: Mapping[str, np.ndarray]) -> Weights:
        """The new global model.

        Args:
            sent_out: the global model of this round; networks that no site has trained stay as
                they are in it.
        """
        before = read_layout(sent_out) if is_encrypted(sent_out) else {}
        message: Weights = {}
        layout: Layout = {}
        for network, part in self.layout.items():
            if network in self._samples:
                message[PREFIX + network] = self._sums[network].sealed()
                layout[network] = Part(part.arrays, self._samples[network])
            elif network in before:
                message[PREFIX + network] = sent_out[PREFIX + network]
                layout[network] = before[network]
            else:
                message |= {k: v for k, v in sent_out.items() if network_of(k) == network}
        return {**message, LAYOUT: _written(layout)}

    def _check(self, message: Mapping[str, Any], layout: Layout, samples: int) -> None:
        expected = {LAYOUT, *(PREFIX + network for network in layout)}
        if set(message) != expected:
            odd = min(set(message) ^ expected, key=str)
            raise EncryptionError(f"it holds '{odd}' beside or in place of encrypted networks")
        networks = set(layout)
        if not networks or not networks <= set(self.layout):
            raise EncryptionError("its networks are not the global model's")
        if networks != set(self.layout) and not self.partial:
            raise EncryptionError("it lacks networks of the global model")
        for network, part in layout.items():
            if part.arrays != self.layout[network].arrays:
                raise EncryptionError(f"its arrays of '{network}' are not the global model's")
            if part.samples != samples:
                raise EncryptionError(f"it weighs '{network}' by other samples than it states")


def read_layout(message: Mapping[str, Any]) -> Layout:
    """The layout that a message states.

    Raises:
        EncryptionError: it has none, or one that cannot be.
    """
    found = message.get(LAYOUT)
    if not isinstance(found, np.ndarray) or found.dtype != np.uint8:
        raise EncryptionError("it is not encrypted")
    if found.nbytes > _MOST_LAYOUT_BYTES:
        raise EncryptionError("the layout of its encrypted vectors is too large")
    try:
        content = json.loads(found.tobytes())
        return {str(network): _part(stated) for network, stated in content.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise EncryptionError("the layout of its encrypted vectors cannot be read") from error


def _part(stated: Mapping[str, Any]) -> Part:
    arrays = tuple((str(key), _shape(shape)) for key, shape in stated["arrays"])
    samples = stated["samples"]
    if type(samples) is not int or samples < 0:
        raise ValueError("samples")
    return Part(arrays, samples)


def _shape(stated: Sequence[Any]) -> tuple[int, ...]:
    if not all(type(length) is int and length >= 0 for length in stated):
        raise ValueError("shape")
    return tuple(stated)


def _written(layout: Layout) -> np.ndarray:
    content = {
        network: {"arrays": [[key, list(shape)] for key, shape in part.arrays], "samples": n}
        for network, part in layout.items()
        for n in [part.samples]
    }
    return np.frombuffer(json.dumps(content).encode(), dtype=np.uint8)


def _vector(message: Mapping[str, np.ndarray], network: str) -> np.ndarray:
    if PREFIX + network not in message:
        raise EncryptionError(f"the encrypted '{network}' is missing")
    return message[PREFIX + network]


def _check_range(key: str, values: np.ndarray, samples: int, sites: int) -> None:
    """Refuse what the receivers would decrypt to anything else without an error."""
    largest = float(np.abs(values).max(initial=0.0))
    if not math.isfinite(largest):
        raise EncryptionError(f"'{key}' holds NaN or infinity")
    if largest * samples * sites > LARGEST_SUM:
        raise EncryptionError(
            f"'{key}' holds {largest:g}: times {samples} samples and {sites} sites it is beyond "
            f"{LARGEST_SUM:g}, and the sum would be wrong without an error. Weights of this size "
            "mean that training has diverged; take a smaller learning rate"
        )
