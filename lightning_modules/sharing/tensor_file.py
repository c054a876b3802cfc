"""Write tensors to a file: all of it, or a sentence that says where room is lacking."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from fedi2i.errors import DataError
from fedi2i.files import lacks_room, replacing


def write_tensors(path: Path, content: Mapping[str, Any]) -> None:
    """Write what ``torch.load(..., weights_only=True)`` reads; the old file stays until then.

    It is put together in memory first: on a full disk torch's own writer fails with a text about
    stream positions that says nothing of the disk.

    Raises:
        DataError: the file cannot be written, for want of room or otherwise.
    """
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(buffer.getbuffer())
    except OSError as error:
        if lacks_room(error):
            raise DataError(
                f"{path.parent}: no space left on device for {buffer.tell()} bytes; make room and "
                "start the job again, finished rounds are kept"
            ) from error
        raise DataError(
            f"{path.parent}: cannot be written ({error.strerror}); correct its permissions"
        ) from error
