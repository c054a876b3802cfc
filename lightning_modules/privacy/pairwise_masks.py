"""Secure aggregation: integers under masks that cancel in the sum over all sites and nowhere else.

Bonawitz et al., CCS 2017 (doi:10.1145/3133956.3133982). Every two sites agree on a secret
(X25519), from which both derive the same stream of integers (HKDF-SHA256, ChaCha20); the site whose
name comes first adds it, the other subtracts it, modulo 2^bits. Each site adds one more stream of
its own, the *own mask*, and gives the seed of it away only when all answers of the round are there.
In the paper that seed is shared out among the sites, so that a round survives a site that is lost.
Here such a round is repeated without the site (``mask_turns``), which needs no shares: a site opens
one set of sites in each round, and what came too late for it stays masked for ever.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fedi2i.errors import DataError

LEAST_SITES = 3
"""With two sites each subtracts its own part from the sum and holds the other's."""
SECRET_BYTES = 32
_NO_NONCE = bytes(16)
"""Every key makes one stream, so that no nonce has to tell two of them apart."""


class MaskError(DataError):
    """Keys, sets or answers that must not be used."""


@dataclass(frozen=True)
class MaskRound:
    """What tells one set of masks from every other.

    Attributes:
        job: NVFlare's id of the job.
        number: the round, counted from 0.
        sites: names of the sites in the sum, sorted; at least three.

    Raises:
        MaskError: fewer than three sites, a name twice, or not in order.
    """

    job: str
    number: int
    sites: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse sets whose sum would tell a single site's part."""
        if len(self.sites) < LEAST_SITES:
            raise MaskError(
                f"a sum over {len(self.sites)} site(s) hides nobody; secure aggregation needs at "
                f"least {LEAST_SITES}"
            )
        if list(self.sites) != sorted(set(self.sites)):
            raise MaskError(f"the sites {', '.join(self.sites)} are not sorted, or named twice")

    def info(self, use: str, network: str = "") -> bytes:
        """The text that a key is derived for; no two uses have the same.

        Args:
            use: what the key is for.
            network: the network that it masks.
        """
        named = [use, self.job, self.number, network, list(self.sites)]
        return json.dumps(["fedi2i secure_sum 1", *named], ensure_ascii=True).encode()


@dataclass(frozen=True)
class SiteSecrets:
    """What one site knows for the time of one job.

    Attributes:
        site: its name.
        private: its X25519 private key, 32 bytes.
        own: what the seeds of its own masks are derived from, 32 bytes.
        public: the checked public keys of all sites of the job, its own among them, by name.
    """

    site: str
    private: bytes
    own: bytes
    public: Mapping[str, bytes]

    def opening(self, round_: MaskRound) -> bytes:
        """The seed of the site's own masks in one round, 32 bytes; it tells no other round's."""
        return _derived(self.own, round_.info(f"opening of {self.site}"))


def new_private_key() -> bytes:
    """A new X25519 private key, from the operating system's entropy."""
    return X25519PrivateKey.generate().private_bytes_raw()


def public_key(private: bytes) -> bytes:
    """The public key of a private one."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def masked(
    words: np.ndarray, network: str, round_: MaskRound, secrets: SiteSecrets, model: str
) -> np.ndarray:
    """A site's integers under all its masks: every word is uniform and tells nothing.

    Args:
        words: the site's integers, flat, uint32 or uint64.
        network: the network that they belong to.
        round_: the round and the set of sites whose sum is wanted.
        secrets: the site's.
        model: digest of the model that the site received. Sites that were given different ones
            share no mask: a server could else give all but one a model on which training changes
            nothing, and read the one's update from the sum (Pasquini et al., CCS 2022,
            arXiv:2111.07380).

    Raises:
        MaskError: the site is not in the set, a site's key is not known, or a key that makes every
            secret the same.
    """
    if secrets.site not in round_.sites:
        raise MaskError(f"site '{secrets.site}' is not among the sites of the sum")
    total: np.ndarray = words + own_mask(
        secrets.opening(round_), network, round_, words.size, words.dtype
    )
    for other in round_.sites:
        if other == secrets.site:
            continue
        stream = _stream(
            _pair_key(other, round_.info(f"pair on {model}", network), secrets),
            words.size,
            words.dtype,
        )
        if secrets.site < other:
            total += stream
        else:
            total -= stream
    return total


def own_mask(
    opening: bytes, network: str, round_: MaskRound, size: int, kind: np.dtype
) -> np.ndarray:
    """The mask that a site's opening stands for; whoever has the opening can take it off.

    Args:
        opening: the site's seed for this round, 32 bytes.
        network: the network that it masks.
        round_: the round and the set of sites.
        size: number of words.
        kind: uint32 or uint64.
    """
    return _stream(_derived(opening, round_.info("own mask", network)), size, kind)


def opened(
    total: np.ndarray, network: str, round_: MaskRound, openings: Mapping[str, bytes]
) -> np.ndarray:
    """The sum of all sites' integers, from the sum of what they sent.

    Args:
        total: the sum of the masked words of all sites of the set, modulo 2^bits.
        network: the network that they belong to.
        round_: the round and the set of sites.
        openings: the opening of each site.

    Raises:
        MaskError: the opening of a site of the set is missing.
    """
    missing = [site for site in round_.sites if site not in openings]
    if missing:
        raise MaskError(f"the sum stays closed: no opening from {', '.join(missing)}")
    result = total.copy()
    for site in round_.sites:
        result -= own_mask(openings[site], network, round_, total.size, total.dtype)
    return result


def keys_digest(public: Mapping[str, bytes]) -> bytes:
    """Tells one set of public keys from another, 32 bytes."""
    listed = sorted((name, key.hex()) for name, key in public.items())
    return hashlib.sha256(json.dumps(listed, ensure_ascii=True).encode()).digest()


def words_digest(parts: Mapping[str, np.ndarray]) -> str:
    """Tells one answer of a site from another, whatever the order of its networks."""
    content = hashlib.sha256()
    for piece in _pieces(parts):
        content.update(piece)
    return content.hexdigest()


def _pieces(parts: Mapping[str, np.ndarray]) -> Iterator[bytes]:
    for name in sorted(parts):
        yield f"{name}\0{parts[name].dtype}{parts[name].shape}\0".encode()
        yield np.ascontiguousarray(parts[name]).tobytes()


def _pair_key(other: str, info: bytes, secrets: SiteSecrets) -> bytes:
    if other not in secrets.public:
        raise MaskError(f"site '{other}' has given no key for this job")
    own = X25519PrivateKey.from_private_bytes(secrets.private)
    try:
        shared = own.exchange(X25519PublicKey.from_public_bytes(secrets.public[other]))
    except ValueError as error:  # a point of small order: the secret would be zero for everybody
        raise MaskError(f"the key of site '{other}' is none that may be used") from error
    # The salt holds the keys of all sites: two sites that were told different ones share no mask.
    return _derived(shared, info, keys_digest(secrets.public))


def _derived(secret: bytes, info: bytes, salt: bytes | None = None) -> bytes:
    return HKDF(algorithm=SHA256(), length=SECRET_BYTES, salt=salt, info=info).derive(secret)


def _stream(key: bytes, size: int, kind: np.dtype) -> np.ndarray:
    little = np.dtype(kind).newbyteorder("<")
    cipher = Cipher(algorithms.ChaCha20(key, _NO_NONCE), mode=None).encryptor()
    stream = np.frombuffer(cipher.update(bytes(size * little.itemsize)), little)
    return stream.astype(kind)
