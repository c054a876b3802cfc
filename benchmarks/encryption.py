"""Time and bytes of encrypted averaging, per million parameters, beside averaging in plain.

Usage: ``python benchmarks/encryption.py --millions 1 10``. Everything is computed one after the
other in this process: what a site and what the server do in a round. Times are of the processor,
so that a busy machine does not change them. NVFlare's own layout and parameters (an array at a
time, moduli of 60, 40 and 40 bits, the server divides) stand beside ours with ``--nvflare``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tenseal

from lightning_modules.combining.updates import SiteUpdate, Weights
from lightning_modules.combining.weighted_mean import weighted_mean
from lightning_modules.privacy.encrypted_model import (
    EncryptedMean,
    decrypted_model,
    encrypted_model,
    layout_of,
)
from lightning_modules.privacy.encrypted_sums import MODULUS_BITS, SCALE_BITS
from provision.encryption import new_keys

SAMPLES = (565, 291, 190, 79)
"""Training slices of the demo's four sites."""
NVFLARE_BITS, NVFLARE_SCALE = (60, 40, 40), 40
ARRAY = 50_000
"""Values in each of a model's large arrays; as many of 16 stand for biases."""


@dataclass(frozen=True)
class Row:
    """One measurement.

    Attributes:
        what: what was measured, in a few words.
        plain: without encryption.
        encrypted: with it.
        unit: of both.
    """

    what: str
    plain: float
    encrypted: float
    unit: str


def main() -> None:
    """Print a table per size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--millions", type=float, nargs="+", default=[1.0])
    parser.add_argument("--nvflare", action="store_true", help="NVFlare's own way, too")
    options = parser.parse_args()
    for millions in options.millions:
        print(f"{millions:g} M parameters, {len(SAMPLES)} sites")
        for row in encrypted_averaging(round(1e6 * millions)):
            print(f"  {row.what:<42}{row.plain:>12.4g}{row.encrypted:>12.4g} {row.unit}")
        if options.nvflare:
            for what, value in nvflare_way(round(1e6 * millions)).items():
                print(f"  NVFlare's own: {what:<27}{'':>12}{value:>12.4g}")


def encrypted_averaging(parameters: int) -> Iterator[Row]:
    """A round of averaging in plain and encrypted.

    Args:
        parameters: of the model.
    """
    site, server = keys_of(MODULUS_BITS, SCALE_BITS)
    models = [_model(parameters, seed) for seed in range(len(SAMPLES))]
    layout = layout_of(models[0])
    seconds: dict[str, float] = {}
    sealed = [
        _timed(seconds, "encrypt", lambda m=m, n=n: encrypted_model(m, n, len(SAMPLES), site))
        for m, n in zip(models, SAMPLES, strict=True)
    ]
    mean = EncryptedMean(layout, server)

    def added() -> Weights:
        for message, samples in zip(sealed, SAMPLES, strict=True):
            mean.add(message, samples)
        return mean.message(models[0])

    summed = _timed(seconds, "sum", added)
    opened = _timed(seconds, "decrypt", lambda: decrypted_model(summed, site))
    updates = [SiteUpdate(str(n), m, n) for m, n in zip(models, SAMPLES, strict=True)]
    plain = _timed(seconds, "plain", lambda: weighted_mean(updates))
    size = sum(value.nbytes for value in models[0].values())
    yield Row("a site encrypts", 0.0, seconds["encrypt"] / len(SAMPLES), "CPU s")
    yield Row("the server reads and adds", seconds["plain"], seconds["sum"], "CPU s")
    yield Row("a site decrypts", 0.0, seconds["decrypt"], "CPU s")
    yield Row("from site to server", size / 1e6, _bytes(sealed[0]) / 1e6, "MB")
    yield Row("from server to site", size / 1e6, _bytes(summed) / 1e6, "MB")
    largest = max(float(np.abs(opened[key] - plain[key]).max()) for key in plain)
    yield Row("largest difference of the means", 0.0, largest, "")
    parts = [np.mean(opened[key] != plain[key]) * plain[key].size for key in plain]
    yield Row("share of values that differ at all", 0.0, float(sum(parts)) / parameters, "")


def nvflare_way(parameters: int) -> dict[str, float]:
    """The same with NVFlare's defaults: arrays one by one, and a division at the server."""
    site, server = keys_of(NVFLARE_BITS, NVFLARE_SCALE)
    models = [_model(parameters, seed) for seed in range(len(SAMPLES))]
    seconds: dict[str, float] = {}

    def sealed(model: Weights, samples: int) -> dict[str, bytes]:
        return {
            key: tenseal.ckks_vector(site, value.ravel() * np.float64(samples)).serialize()
            for key, value in model.items()
        }

    messages = [
        _timed(seconds, "a site encrypts, CPU s", lambda m=m, n=n: sealed(m, n))
        for m, n in zip(models, SAMPLES, strict=True)
    ]

    def mean() -> dict[str, bytes]:
        found = {}
        for key in models[0]:
            total = tenseal.ckks_vector_from(server, messages[0][key])
            for other in messages[1:]:
                total = total + tenseal.ckks_vector_from(server, other[key])
            found[key] = (total * (1 / sum(SAMPLES))).serialize()
        return found

    summed = _timed(seconds, "the server adds, CPU s", mean)
    opened = _timed(
        seconds,
        "a site decrypts, CPU s",
        lambda: {
            k: np.array(tenseal.ckks_vector_from(site, v).decrypt()) for k, v in summed.items()
        },
    )
    updates = [SiteUpdate(str(n), m, n) for m, n in zip(models, SAMPLES, strict=True)]
    plain = weighted_mean(updates)
    seconds["a site encrypts, CPU s"] /= len(SAMPLES)
    return {
        **seconds,
        "from site to server, MB": sum(map(len, messages[0].values())) / 1e6,
        "from server to site, MB": sum(map(len, summed.values())) / 1e6,
        "largest difference": max(
            float(np.abs(opened[key] - plain[key].ravel()).max()) for key in plain
        ),
    }


def _model(parameters: int, seed: int) -> Weights:
    """Arrays of about a network's sizes and values."""
    rng = np.random.default_rng(seed)
    biases = parameters // ARRAY
    sizes = [16] * biases + [ARRAY] * ((parameters - 16 * biases) // ARRAY)
    sizes.append(parameters - sum(sizes))
    return {
        f"generator.{number:04d}": rng.normal(scale=0.3, size=size).astype(np.float32)
        for number, size in enumerate(sizes)
    }


def keys_of(bits: tuple[int, ...], scale_bits: int) -> tuple[Any, Any]:
    """TenSEAL contexts of the sites and of the server, which has no secret key."""
    made = new_keys(bits, scale_bits)
    return tenseal.context_from(made.site_file), tenseal.context_from(made.server_file)


def _timed(seconds: dict[str, float], name: str, run: Callable[[], Any]) -> Any:
    started = time.process_time()
    result = run()
    seconds[name] = seconds.get(name, 0.0) + time.process_time() - started
    return result


def _bytes(message: Weights) -> int:
    return sum(value.nbytes for value in message.values())


if __name__ == "__main__":
    main()
