"""Public keys of sites, signed with the keys of their kits and checked by every other site.

The server carries the keys from site to site and could put its own in their place; then it could
take off every mask. So a site signs its key with its kit's client key, together with the job and
the list of all invited sites, and sends its certificate along. Every site checks each certificate
against the root certificate of its own kit, its common name against the site's name, and that all
sites signed the same list. Nothing here knows NVFlare.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import NameOID

from lightning_modules.privacy.pairwise_masks import SECRET_BYTES, MaskError

PUBLIC_KEY, SIGNATURE, CERTIFICATE, SITES = "public_key", "signature", "certificate", "sites"
"""Names in a site's announcement."""
_MOST_SIGNATURE = 1024
_MOST_CERTIFICATE = 16 * 1024
_PADDING = padding.PSS(padding.MGF1(SHA256()), padding.PSS.DIGEST_LENGTH)

Announcement = Mapping[str, Any]


@dataclass(frozen=True)
class KitIdentity:
    """What a site proves its name with.

    Attributes:
        key: its kit's private key.
        certificate: its certificate.
    """

    key: RSAPrivateKey
    certificate: x509.Certificate


def kit_identity(startup: Path) -> KitIdentity:
    """Read the identity in a kit's ``startup`` folder.

    Raises:
        MaskError: a file is missing, damaged or of another kind than NVFlare's provisioning makes.
    """
    try:
        key = load_pem_private_key((startup / "client.key").read_bytes(), password=None)
        certificate = x509.load_pem_x509_certificate((startup / "client.crt").read_bytes())
    except (OSError, ValueError, TypeError) as error:
        raise _unreadable(startup, error) from error
    if not isinstance(key, RSAPrivateKey):
        raise MaskError(f"{startup}: client.key is no RSA key, as NVFlare 2.9 provisions them")
    return KitIdentity(key, certificate)


def kit_authority(startup: Path) -> x509.Certificate:
    """Read the certificate of the project's authority in a kit's ``startup`` folder.

    Raises:
        MaskError: it is missing or damaged.
    """
    try:
        return x509.load_pem_x509_certificate((startup / "rootCA.pem").read_bytes())
    except (OSError, ValueError) as error:
        raise _unreadable(startup, error) from error


def _unreadable(startup: Path, error: Exception) -> MaskError:
    return MaskError(
        f"{startup}: this kit's key and certificates cannot be read ({error}); secure aggregation "
        "signs with them, so take a whole kit, or the simulator"
    )


def announcement(
    job: str, site: str, public: bytes, sites: Sequence[str], identity: KitIdentity | None
) -> dict[str, Any]:
    """What a site says of its key for a job; unsigned where there is no identity (simulator).

    Args:
        job: NVFlare's id of the job.
        site: the site's name.
        public: its X25519 public key, 32 bytes.
        sites: names of all invited sites, sorted.
        identity: the site's kit.
    """
    said = {PUBLIC_KEY: public, SITES: list(sites), SIGNATURE: b"", CERTIFICATE: b""}
    if identity is None:
        return said
    text = _signed_text(job, site, public, sites)
    return {
        **said,
        SIGNATURE: identity.key.sign(text, _PADDING, SHA256()),
        CERTIFICATE: identity.certificate.public_bytes(Encoding.PEM),
    }


def checked_keys(
    announcements: Mapping[str, Announcement],
    job: str,
    sites: Sequence[str],
    root: x509.Certificate | None,
) -> dict[str, bytes]:
    """The public keys of all invited sites, once everything about them has been checked.

    Args:
        announcements: what the server says that each site has announced.
        job: NVFlare's id of the job.
        sites: the invited sites, sorted, as this site has signed them.
        root: the certificate of the project's authority from this site's own kit; None takes
            unsigned keys (simulator).

    Raises:
        MaskError: a key is missing or there twice, another list of sites, or a signature or
            certificate that is not in order; the site is named.
    """
    if sorted(announcements) != list(sites):
        raise MaskError(
            f"the keys are of {', '.join(sorted(announcements)) or 'nobody'}, and "
            f"{', '.join(sites)} are invited"
        )
    keys: dict[str, bytes] = {}
    for site, said in announcements.items():
        fault = announcement_fault(said) or _fault(said, job, site, sites, root)
        if fault:
            raise MaskError(f"the key of site '{site}' is refused: {fault}")
        keys[site] = said[PUBLIC_KEY]
    if len(set(keys.values())) < len(keys):
        raise MaskError("two sites are said to have the same key")
    return keys


def announcement_fault(said: object) -> str:
    """Say why something is no announcement by its form; empty if it is one.

    Gates ask here too: no other bytes can leave a site in an announcement's place.
    """
    if not isinstance(said, Mapping) or set(said) != {PUBLIC_KEY, SIGNATURE, CERTIFICATE, SITES}:
        return "it is no announcement of a key"
    public, signature, certificate = said[PUBLIC_KEY], said[SIGNATURE], said[CERTIFICATE]
    if not isinstance(public, bytes) or len(public) != SECRET_BYTES:
        return f"its public key has not {SECRET_BYTES} bytes"
    if not isinstance(signature, bytes) or len(signature) > _MOST_SIGNATURE:
        return "its signature is no short text of bytes"
    names = said[SITES]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return "its list of sites is no list of names"
    if certificate == b"":
        return ""
    if not isinstance(certificate, bytes) or len(certificate) > _MOST_CERTIFICATE:
        return "its certificate is no short text of bytes"
    try:
        parsed = x509.load_pem_x509_certificate(certificate)
    except ValueError:
        return "its certificate cannot be read"
    # Nothing may stand before, between or after the lines of the certificate.
    return "" if parsed.public_bytes(Encoding.PEM) == certificate else "more than its certificate"


def _fault(
    said: Announcement,
    job: str,
    site: str,
    sites: Sequence[str],
    root: x509.Certificate | None,
) -> str:
    if said[SITES] != list(sites):
        return f"it was made for the sites {', '.join(said[SITES])}"
    if root is None:
        return ""
    if not said[SIGNATURE] or not said[CERTIFICATE]:
        return "it is not signed"
    certificate = x509.load_pem_x509_certificate(said[CERTIFICATE])
    fault = _certificate_fault(certificate, site, root)
    if fault:
        return fault
    key = certificate.public_key()
    if not isinstance(key, RSAPublicKey):
        return "its certificate is of no RSA key"
    try:
        key.verify(
            said[SIGNATURE], _signed_text(job, site, said[PUBLIC_KEY], sites), _PADDING, SHA256()
        )
    except InvalidSignature:
        return "its signature is not of this key, job and site"
    return ""


def _certificate_fault(certificate: x509.Certificate, site: str, root: x509.Certificate) -> str:
    try:
        certificate.verify_directly_issued_by(root)
    except (InvalidSignature, ValueError, TypeError):
        return "its certificate is not of this project's authority"
    now = datetime.datetime.now(datetime.UTC)
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        return "its certificate is not valid today"
    names = [str(n.value) for n in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if names != [site]:
        return f"its certificate is of '{', '.join(names)}'"
    return ""


def _signed_text(job: str, site: str, public: bytes, sites: Sequence[str]) -> bytes:
    said = ["fedi2i secure_sum key 1", job, site, public.hex(), list(sites)]
    return json.dumps(said, ensure_ascii=True).encode()
