"""Sign the ``startup`` folder of a kit, and verify it.

NVFlare 2.9 signs kits only for confidential computing and homomorphic encryption. Where it finds
``startup/signature.json`` it refuses to start from a file that was changed, so we sign every kit.
``local`` is not signed: it is the participant's to edit.
"""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from nvflare.lighter.utils import sign_folders, verify_folder_signature

SIGNATURE = "signature.json"


def sign_startup(startup: Path, root_key: RSAPrivateKey) -> None:
    """Write ``signature.json`` for all files of a kit's ``startup`` folder."""
    sign_folders(str(startup), root_key, signature_file=SIGNATURE)


def startup_is_genuine(startup: Path) -> bool:
    """Whether every file is as it was signed by the authority whose certificate lies beside it."""
    root = startup / "rootCA.pem"
    return bool(
        verify_folder_signature(
            str(startup), str(root), single_signer=True, signature_file=SIGNATURE
        )
    )
