"""Compress arrays for their way between server and sites, and restore them.

``fp16`` and ``bf16`` round to nearest, ties to even. ``int8`` takes chunks of 256 values, each with
one scale, its largest magnitude / 127 (Dettmers et al., ICLR 2022, arXiv:2110.02861, with a linear
code). Arrays of other types than float32, counters and permutations among them, are left as they
are.

NVFlare 2.9's ``ModelQuantizer`` does not serve: it changes the server's own model in place, refuses
integer buffers, needs bitsandbytes, and for 8 bits a GPU on the server too.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

Arrays = dict[str, np.ndarray]

KINDS = ("none", "fp16", "bf16", "int8")
CHUNK = 256
"""Values that share a scale."""
SCALES = "scales/"
"""Prefix of the arrays with the scales of ``int8``."""
_BITS = np.uint32(16)


class CompressionError(ValueError):
    """The arrays are not what the kind of compression makes."""


def compress(arrays: Mapping[str, np.ndarray], kind: str) -> Arrays:
    """Compress arrays; the originals are not changed.

    Values beyond 65504 become infinite in ``fp16``, and the receiver refuses them by name.
    """
    sent: Arrays = {}
    for key, value in arrays.items():
        if kind == "none" or value.dtype != np.float32:
            sent[key] = value
        elif kind == "fp16":
            with np.errstate(over="ignore"):
                sent[key] = value.astype(np.float16)
        elif kind == "bf16":
            sent[key] = _to_bf16(value)
        else:
            sent[key], sent[SCALES + key] = _to_int8(value)
    return sent


def restore(arrays: Mapping[str, np.ndarray], kind: str) -> Arrays:
    """Undo ``compress``: the arrays are float32 again.

    Raises:
        CompressionError: an unknown kind, or arrays that do not belong to it.
    """
    if kind not in KINDS:
        raise CompressionError(f"unknown kind of compression '{kind}'")
    named = {key: value for key, value in arrays.items() if not key.startswith(SCALES)}
    if kind == "int8":
        return {key: _scaled(key, value, arrays.get(SCALES + key)) for key, value in named.items()}
    if len(named) != len(arrays):
        raise CompressionError(f"scales among arrays in {kind}")
    return {key: _widened(value, kind) for key, value in named.items()}


def travelling_bytes(arrays: Mapping[str, object], kind: str) -> float:
    """Compute, from the originals, how many bytes arrays have after ``compress``."""
    sizes = (
        value.nbytes if key.startswith(SCALES) else _size(value, kind)
        for key, value in arrays.items()
        if isinstance(value, np.ndarray)
    )
    return float(sum(sizes))


def _size(value: np.ndarray, kind: str) -> int:
    if kind == "none" or value.dtype != np.float32:
        return value.nbytes
    return 2 * value.size if kind != "int8" else value.size + 4 * -(-value.size // CHUNK)


def _widened(value: np.ndarray, kind: str) -> np.ndarray:
    if kind == "fp16" and value.dtype == np.float16:
        return value.astype(np.float32)
    if kind == "bf16" and value.dtype == np.uint16:
        return (value.astype(np.uint32) << _BITS).view(np.float32)
    return value


def _to_bf16(value: np.ndarray) -> np.ndarray:
    """Round to the upper half of every float32; NumPy lacks the type, so its bits are in uint16."""
    bits = np.ascontiguousarray(value).view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> _BITS) & np.uint32(1))
    # Rounding must not carry a NaN's payload into the sign: it stays a NaN.
    quiet = np.where(np.isnan(value), bits | np.uint32(0x400000), rounded)
    return (quiet >> _BITS).astype(np.uint16)


def _to_int8(value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    chunks = _chunks(value.reshape(-1))
    scales = (np.abs(chunks).max(axis=1) / np.float32(127)).astype(np.float32)
    # NaN and infinity travel as the scale, so that the receiver sees and refuses them.
    divisors = np.where((scales > 0) & np.isfinite(scales), scales, np.float32(1))
    steps = np.nan_to_num(np.rint(chunks / divisors[:, None]), nan=1, posinf=1, neginf=-1)
    levels = np.clip(steps, -127, 127).astype(np.int8)
    return levels.reshape(-1)[: value.size].reshape(value.shape), scales


def _scaled(key: str, value: np.ndarray, scales: np.ndarray | None) -> np.ndarray:
    if scales is None:
        return value
    expected = -(-value.size // CHUNK)
    if value.dtype != np.int8 or scales.shape != (expected,) or scales.dtype != np.float32:
        raise CompressionError(f"array '{key}' and its scales do not belong together")
    with np.errstate(invalid="ignore"):  # an infinite scale: the receiver refuses what comes of it
        chunks = _chunks(value.reshape(-1).astype(np.float32)) * scales[:, None]
    return np.asarray(chunks.reshape(-1)[: value.size].reshape(value.shape), dtype=np.float32)


def _chunks(flat: np.ndarray) -> np.ndarray:
    padding = -flat.size % CHUNK
    return np.pad(flat, (0, padding)).reshape(-1, CHUNK)
