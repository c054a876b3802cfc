"""Sums of vectors that whoever adds them cannot read: the CKKS scheme, by TenSEAL.

CKKS (Cheon, Kim, Kim and Song, ASIACRYPT 2017, doi:10.1007/978-3-319-70694-8_15) encrypts vectors
of real numbers so that sums of ciphertexts decrypt to sums of vectors, up to a small error. Here
sums are all that is computed: the mean is divided out after decryption. NVFlare's defaults keep
room for one multiplication (moduli of 60, 40 and 40 bits, scale 2^40). Without it one modulus of 60
bits serves, besides the one that SEAL keeps for its keys: a value takes 32 bytes instead of 58, a
sum is right to a few 1e-7 instead of 7e-7 of the value, and it may reach 2^27 instead of 2^19.

A sum beyond the modulus comes out wrong by any amount and without an error, so values are held
against ``LARGEST_SUM`` before they are encrypted. Security is at least 128 bits by the table of
homomorphicencryption.org (8192 coefficients allow moduli of 218 bits; here are 120).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fedi2i.errors import ConfigError, UserError

DEGREE = 8192
"""Coefficients of a ciphertext's polynomials."""
MODULUS_BITS = (60, 60)
"""One modulus for data, one for keys."""
SCALE_BITS = 32
"""A value is rounded to multiples of 2 to the minus this, and gets noise of about 1e-7."""
BLOCK = DEGREE // 2
"""Values in a ciphertext."""
LARGEST_SUM = 2.0 ** (MODULUS_BITS[0] - 2 - SCALE_BITS)
"""Sums up to this, 6.7e7, come out right, with one bit to spare."""

_LENGTH = np.dtype("<u4")
_MOST_BLOCK_BYTES = 2 * DEGREE * 8 + 1024
"""Two polynomials in words of 64 bits, and a header."""


class EncryptionError(UserError):
    """Something cannot be encrypted, added up or decrypted as it is."""


def tenseal() -> Any:
    """The package TenSEAL, which only encrypted averaging needs.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import tenseal
    except ImportError as error:
        raise ConfigError(
            "encrypted averaging needs the package tenseal: pip install 'fedi2i[he]', or "
            "pip install -r requirements-extras.txt"
        ) from error
    return tenseal


def open_keys(content: bytes) -> Any:
    """A TenSEAL context, as a kit holds it.

    Raises:
        ConfigError: TenSEAL is not installed.
        EncryptionError: it is damaged, or was made with other parameters.
    """
    library = tenseal()
    try:
        keys = library.context_from(content)
        made = (_degree(keys), keys.seal_context().data.first_context_data())
        bits = made[1].total_coeff_modulus_bit_count()
    except (ValueError, RuntimeError, TypeError) as error:
        raise EncryptionError("the keys for encrypted averaging are damaged") from error
    if (made[0], bits, keys.global_scale) != (DEGREE, MODULUS_BITS[0], 2.0**SCALE_BITS):
        raise EncryptionError(
            "the keys for encrypted averaging were made with other parameters; make the kits "
            "with 'encryption: true' in the project file (provision/README.md)"
        )
    return keys


def encrypt(values: np.ndarray, keys: Any) -> np.ndarray:
    """Encrypt a vector.

    Args:
        values: shape (n,), floating; every one at most ``LARGEST_SUM`` in magnitude.
        keys: of ``open_keys``, with the secret key.

    Returns:
        Bytes as an array of uint8: ``ceil(n / BLOCK)`` ciphertexts, each after its length.

    Raises:
        EncryptionError: a value is not finite or too large.
    """
    if not np.isfinite(values).all():
        raise EncryptionError("a value to encrypt is NaN or infinite")
    if values.size and float(np.abs(values).max()) > LARGEST_SUM:
        raise EncryptionError(f"a value to encrypt is beyond {LARGEST_SUM:g}")
    library = tenseal()
    padded = np.zeros(blocks_of(values.size) * BLOCK)
    padded[: values.size] = values
    # Vector by vector: TenSEAL prints a warning about longer ones.
    return _framed(
        [library.ckks_vector(keys, part).serialize() for part in padded.reshape(-1, BLOCK)]
    )


def decrypt(sealed: np.ndarray, size: int, keys: Any) -> np.ndarray:
    """Decrypt a vector or a sum of vectors.

    Args:
        sealed: what ``encrypt`` or ``EncryptedSum`` returned.
        size: the number of values, n.
        keys: of ``open_keys``, with the secret key.

    Returns:
        Shape (n,), float64. With another key than the one that encrypted they mean nothing.

    Raises:
        EncryptionError: it does not hold so many values, or is no ciphertext.
    """
    vectors = _opened(sealed, size, keys)
    values = np.concatenate([np.asarray(vector.decrypt()) for vector in vectors])
    return np.asarray(values[:size], dtype=np.float64)


class EncryptedSum:
    """Adds up encrypted vectors without reading them.

    Args:
        size: the number of values of each.
        keys: of ``open_keys``; no secret key is needed.
    """

    def __init__(self, size: int, keys: Any) -> None:
        self._size = size
        self._keys = keys
        self._vectors: list[Any] = []

    def opened(self, sealed: np.ndarray) -> list[Any]:
        """Check one vector before it is added.

        Raises:
            EncryptionError: it has another length, or is no ciphertext of this federation's.
        """
        return _opened(sealed, self._size, self._keys)

    def add(self, vectors: list[Any]) -> None:
        """Add what ``opened`` returned. Sums do not depend on the order."""
        if not self._vectors:
            self._vectors = vectors
            return
        for own, other in zip(self._vectors, vectors, strict=True):
            own.add_(other)

    def sealed(self) -> np.ndarray:
        """The sum so far, as ``encrypt`` returns vectors."""
        return _framed([vector.serialize() for vector in self._vectors])


def blocks_of(size: int) -> int:
    """The number of ciphertexts that so many values need."""
    return -(-size // BLOCK)


def _framed(blocks: list[bytes]) -> np.ndarray:
    parts = [part for block in blocks for part in (_LENGTH.type(len(block)).tobytes(), block)]
    return np.frombuffer(b"".join(parts), dtype=np.uint8)


def _blocks(sealed: np.ndarray) -> Iterator[bytes]:
    if not isinstance(sealed, np.ndarray) or sealed.dtype != np.uint8 or sealed.ndim != 1:
        raise EncryptionError("an encrypted vector is no array of bytes")
    start = 0
    while start < sealed.size:
        head = sealed[start : start + _LENGTH.itemsize].tobytes()
        length = int.from_bytes(head, "little")
        start += _LENGTH.itemsize
        if not 0 < length <= min(_MOST_BLOCK_BYTES, sealed.size - start):
            raise EncryptionError("an encrypted vector is cut off or damaged")
        yield sealed[start : start + length].tobytes()
        start += length


def _opened(sealed: np.ndarray, size: int, keys: Any) -> list[Any]:
    blocks = list(_blocks(sealed))
    if len(blocks) != blocks_of(size):
        raise EncryptionError(
            f"an encrypted vector has {len(blocks)} ciphertexts; {blocks_of(size)} hold its "
            f"{size} values"
        )
    return [_loaded(block, keys) for block in blocks]


def _loaded(block: bytes, keys: Any) -> Any:
    """One ciphertext; SEAL itself checks that its polynomials belong to the parameters."""
    try:
        vector = tenseal().ckks_vector_from(keys, block)
        (cipher,) = vector.ciphertext()
    except (ValueError, RuntimeError, TypeError) as error:
        raise EncryptionError("a ciphertext is none of this federation's") from error
    # Whatever could not be added to others would be noticed with the next site, and blamed on it.
    found = (vector.size(), _value(cipher.size), cipher.scale)
    if found != (BLOCK, 2, 2.0**SCALE_BITS) or _parameters(cipher) != _first_parameters(keys):
        raise EncryptionError("a ciphertext has another size, scale or modulus than the others")
    if _value(cipher.is_transparent):
        raise EncryptionError("what should be a ciphertext is not encrypted")
    return vector


def _parameters(cipher: Any) -> list[int]:
    return list(_value(cipher.parms_id))


def _first_parameters(keys: Any) -> list[int]:
    return list(keys.seal_context().data.first_parms_id())


def _degree(keys: Any) -> int:
    parameters = keys.seal_context().data.first_context_data().parms()
    return int(_value(parameters.poly_modulus_degree))


def _value(attribute: Any) -> Any:
    """TenSEAL gives some of SEAL's properties as methods."""
    return attribute() if callable(attribute) else attribute
