"""Keys for encrypted averaging as kits hold them, without provisioning a whole project."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from nvflare.fuel.sec.security_content_service import (
    SecurityContentManager,
    SecurityContentService,
)

from lightning_modules.privacy.encrypted_sums import MODULUS_BITS, SCALE_BITS, open_keys
from provision import encryption
from provision.encryption import KeyFiles
from provision.startup_folder import sign_startup


@dataclass(frozen=True)
class Keys(KeyFiles):
    """One federation's keys, opened."""

    @property
    def site(self) -> Any:
        return open_keys(self.site_file)

    @property
    def server(self) -> Any:
        return open_keys(self.server_file)


def new_keys(bits: tuple[int, ...] = MODULUS_BITS, scale_bits: int = SCALE_BITS) -> Keys:
    """The keys that provisioning would make; NVFlare's defaults are (60, 40, 40) and 40."""
    pytest.importorskip("tenseal", exc_type=ImportError)
    made = encryption.new_keys(bits, scale_bits)
    return Keys(made.site_file, made.server_file)


def signed_startup(folder: Path, files: dict[str, bytes]) -> Path:
    """A kit's ``startup`` folder with some files, signed by an authority of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "authority")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    (folder / "rootCA.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    for file, content in files.items():
        (folder / file).write_bytes(content)
    sign_startup(folder, key)
    return folder


def install(patch: pytest.MonkeyPatch, startup: Path) -> None:
    """Have this process read its keys from a ``startup`` folder, as NVFlare's processes do."""
    manager = SecurityContentManager(str(startup))
    patch.setattr(SecurityContentService, "security_content_manager", manager)
