"""Update-level differential privacy: clip what training changed and add Gaussian noise to it.

The Gaussian mechanism on an update, per network, as DP-FedAvg does it (McMahan et al., ICLR 2018,
arXiv:1710.06963), but with the noise drawn at the site: the server sees no update without it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from scipy.special import ndtri

from fedi2i.errors import DataError

State = Mapping[str, np.ndarray]
Noise = Callable[[int], np.ndarray]
"""Draws a number of independent values of one distribution, as float64."""


@dataclass(frozen=True)
class NoisedUpdate:
    """What may leave the site, and what may not.

    Attributes:
        state: the received weights with the clipped and noised update on top; the arrays have the
            types of those that were trained.
        norms: network to the Euclidean norm of its update before clipping. It is data of the
            site's patients and stays there.
    """

    state: dict[str, np.ndarray]
    norms: dict[str, float]


def noised_update(
    received: State,
    trained: State,
    clipping: Mapping[str, float],
    noise_multiplier: float,
    noise: Noise | None = None,
) -> NoisedUpdate:
    """Clip the update of each network to its norm C, and add noise of ``noise_multiplier`` x C.

    Args:
        received: the weights that the round started from; keys begin with the network's name.
        trained: the weights after it, of the same keys and shapes.
        clipping: network to C, in the units of the weights.
        noise_multiplier: standard deviation of the noise as a multiple of C; 0 clips alone.
        noise: draws the noise; by default from the operating system's entropy, because noise that
            a seed could repeat would protect nobody.

    Raises:
        DataError: keys or shapes differ, a network has no C, an array is no floating-point weight
            (running statistics and counters are data that nothing here bounds), or the update is
            not finite.
    """
    _check(received, trained, clipping)
    drawn = noise or system_noise()
    state: dict[str, np.ndarray] = {}
    norms: dict[str, float] = {}
    for network, bound in clipping.items():
        keys = [key for key in trained if key.partition(".")[0] == network]
        if not keys:
            continue
        updates = {k: trained[k].astype(np.float64) - received[k] for k in keys}
        norm = math.sqrt(sum(float(np.square(update).sum()) for update in updates.values()))
        if not math.isfinite(norm):
            raise DataError(f"the update of '{network}' is not finite: nothing of it may leave")
        norms[network] = norm
        scale = min(1.0, bound / norm) if norm > 0 else 1.0
        for key, update in updates.items():
            update *= scale
            update += noise_multiplier * bound * drawn(update.size).reshape(update.shape)
            # Rounded to the weights' own type after all sums: the last bits of a float64 tell
            # values apart that the noise should make alike (Mironov, CCS 2012).
            state[key] = (received[key] + update).astype(trained[key].dtype)
    return NoisedUpdate({key: state[key] for key in trained}, norms)


def system_noise() -> Noise:
    """Standard normal values from the operating system's entropy, see ``system_uniform``.

    The inverse of the normal distribution function makes them of uniform ones.
    """
    uniform = system_uniform()

    def draw(count: int) -> np.ndarray:
        values: np.ndarray = ndtri(uniform(count))
        return values

    return draw


def system_uniform() -> Noise:
    """Values between 0 and 1 from a cipher's stream whose key the operating system draws.

    The stream is ChaCha20's (RFC 8439); 53 bits make a value, which is never 0 nor 1.
    """
    stream = Cipher(algorithms.ChaCha20(os.urandom(32), os.urandom(16)), mode=None).encryptor()

    def draw(count: int) -> np.ndarray:
        words = np.frombuffer(stream.update(bytes(8 * count)), dtype=np.uint64) >> np.uint64(11)
        return (words.astype(np.float64) + 0.5) * 2.0**-53

    return draw


def _check(received: State, trained: State, clipping: Mapping[str, float]) -> None:
    if received.keys() != trained.keys():
        raise DataError("what was trained has not the arrays of what was received")
    for key, value in trained.items():
        if value.shape != received[key].shape:
            raise DataError(f"'{key}' was received as {received[key].shape}, not {value.shape}")
        if not np.issubdtype(value.dtype, np.floating):
            raise DataError(f"'{key}' is no weight but {value.dtype}: no clipping bounds it")
        if key.partition(".")[0] not in clipping:
            raise DataError(f"'{key}' belongs to a network without a clipping norm")
