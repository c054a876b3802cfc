"""One way to give settings, manifests and files a name that changes whenever they change."""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

from fedi2i.errors import DataError


def digest(value: Any) -> str:
    """SHA-256 of a value as JSON with sorted keys, in hexadecimal.

    Args:
        value: what ``json`` can write; sets and other iterables count as lists.
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=list).encode()).hexdigest()


def keyed_digest(key: str, text: str) -> str:
    """A stand-in for a patient's name: nobody without the key can tell whose it is by trying names.

    Args:
        key: a secret, in hexadecimal.
        text: the name.

    Returns:
        HMAC-SHA-256, its first 32 hexadecimal digits.
    """
    return hmac.new(bytes.fromhex(key), text.encode(), hashlib.sha256).hexdigest()[:32]


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}); check its permissions and the disk"
        ) from error
