"""Model files: what a server or a training run writes and others start from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from fedi2i.errors import DataError


def read_model_state(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """The wanted tensors of a model file; further ones in it are ignored.

    Args:
        path: file with a state_dict under ``model``.
        shapes: wanted keys and their shapes.

    Raises:
        DataError: the file is missing, damaged or holds another model.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such model file")
    try:
        state = dict(torch.load(path, map_location="cpu", weights_only=True)["model"])
    except Exception as error:  # torch raises many unrelated types on foreign files
        raise DataError(f"{path}: damaged, or no model file of this project") from error
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
