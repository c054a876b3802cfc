"""Files of tensors: written as a whole or not at all, read without pickle or refused by name."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from fedi2i.errors import DataError
from fedi2i.files import not_written, replacing

Content = TypeVar("Content")

ENCRYPTED_SUFFIX = ".encrypted"
"""Of files that hold a model as sites encrypted it (``lightning_modules.privacy``)."""
_ENCRYPTED = "encrypted_model"


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
        raise DataError(not_written(path, error, f"for {buffer.tell()} bytes")) from error


def read_tensors(path: Path, refusal: str, convert: Callable[[Any], Content]) -> Content:
    """What ``write_tensors`` wrote, on the CPU; nothing in the file is executed.

    Args:
        path: an existing file.
        refusal: what the error says after the path: what is wrong and what to do.
        convert: makes of the content what the caller needs. Whatever it raises means that the file
            holds something else, and is refused in the same way.

    Raises:
        DataError: the file is damaged or holds something else.
    """
    try:
        return convert(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # torch raises many unrelated types on damaged files
        # Not torch's own text: it has many lines and recommends loading without safety.
        raise DataError(f"{path}: {refusal}") from error


def read_model_state(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """The wanted tensors of a model file; further ones in it are ignored.

    Args:
        path: file with a state_dict under ``model``, as a server or a training run writes it.
        shapes: wanted keys and their shapes.

    Raises:
        DataError: the file is missing, damaged or holds another model.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such model file; correct the path")
    if path.suffix == ENCRYPTED_SUFFIX:
        raise DataError(
            f"{path}: encrypted; whoever has the kit of a site opens it with "
            "'fedi2i provision open-model'"
        )
    state = read_tensors(
        path, "damaged, or no model file of this project", lambda content: dict(content["model"])
    )
    for key, shape in shapes.items():
        found = state.get(key)
        if not isinstance(found, Tensor):
            raise DataError(f"{path}: holds another model, without '{key}'; name the right file")
        if tuple(found.shape) != shape:
            raise DataError(
                f"{path}: holds another model: '{key}' has shape {list(found.shape)} there, here "
                f"{list(shape)}; name the right file"
            )
    return {key: state[key] for key in shapes}


def write_encrypted_model(path: Path, message: Mapping[str, np.ndarray]) -> None:
    """Write an encrypted model as it travels.

    Raises:
        DataError: the file cannot be written.
    """
    tensors = {key: torch.from_numpy(np.array(value)) for key, value in message.items()}
    write_tensors(path, {_ENCRYPTED: tensors})


def read_encrypted_model(path: Path) -> dict[str, np.ndarray]:
    """What ``write_encrypted_model`` wrote.

    Raises:
        DataError: the file is missing, damaged or something else.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; name a model file that ends in {ENCRYPTED_SUFFIX}")
    return read_tensors(
        path,
        "damaged, or no encrypted model",
        lambda content: {key: value.numpy() for key, value in content[_ENCRYPTED].items()},
    )
