"""A participant's key for encrypted averaging, as its startup kit holds it.

Provisioning writes it (``provision.encryption``) and signs it with the rest of ``startup``. NVFlare
checks the signature when it reads the file; nothing but a file with a valid one is used here, where
NVFlare's own reader is content without in insecure mode.
"""

from __future__ import annotations

from typing import Any

from nvflare.apis.fl_context import FLContext
from nvflare.fuel.sec.security_content_service import LoadResult, SecurityContentService
from nvflare.lighter.constants import ProvFileName

from app_custom.server.simulator import in_simulator
from fedi2i.errors import ConfigError
from lightning_modules.privacy.encrypted_sums import open_keys, tenseal

SITE_KEYS = ProvFileName.CLIENT_CONTEXT_TENSEAL
"""With the secret key, the same at every site."""
SERVER_KEYS = ProvFileName.SERVER_CONTEXT_TENSEAL
"""What sums need; it neither encrypts nor decrypts."""

_NO_KIT = (
    "encrypted averaging takes its keys from a startup kit, and the simulator has none; simulate "
    "the same strategy without privacy.mechanism, or submit this job to a federation whose project "
    "file says 'encryption: true' (provision/README.md)"
)


def site_keys(fl_ctx: FLContext) -> Any:
    """The TenSEAL context of a site.

    Raises:
        ConfigError: TenSEAL is not installed, or the kit has no such key.
    """
    keys = _keys(SITE_KEYS, fl_ctx)
    if not keys.has_secret_key():
        raise ConfigError(f"startup/{SITE_KEYS}: without the secret key; unpack the kit again")
    return keys


def server_keys(fl_ctx: FLContext) -> Any:
    """The TenSEAL context of the server.

    Raises:
        ConfigError: TenSEAL is not installed, the kit has no such key, or it could decrypt.
    """
    keys = _keys(SERVER_KEYS, fl_ctx)
    if keys.has_secret_key():
        raise ConfigError(
            f"startup/{SERVER_KEYS}: holds the sites' secret key, so that this server could read "
            "every update; make all kits anew"
        )
    return keys


def _keys(name: str, fl_ctx: FLContext) -> Any:
    if in_simulator(fl_ctx):
        raise ConfigError(_NO_KIT)
    tenseal()
    content, result = SecurityContentService.load_content(name)
    if result in (LoadResult.NOT_MANAGED, LoadResult.NO_SUCH_CONTENT):
        raise ConfigError(
            f"startup/{name}: missing, so nothing can be encrypted; ask the project admin for kits "
            "made with 'encryption: true' in the project file (provision/README.md)"
        )
    if result != LoadResult.OK:
        raise ConfigError(
            f"startup/{name}: not as the project's authority signed it; unpack the kit again"
        )
    return open_keys(content)
