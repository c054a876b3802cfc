"""A translating network as an ONNX file, for programs that know neither torch nor FedI2I.

The file holds the network alone, from prepared slices to slices; what comes before and after it is
described in its metadata. It appears only after ONNX Runtime has opened it and computed the same.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fedi2i.errors import ConfigError, DataError
from fedi2i.files import replacing
from fedi2i.typed_config import as_dict
from lightning_modules.translation.model_card import NOTICE, ModelCard
from lightning_modules.translation.model_file import ModelFile, build_network

TOLERANCE = 1e-4
"""Largest difference between torch and ONNX Runtime, in the network's range [-1, 1]."""
_TRIED_BATCHES = (1, 2, 5)
_INPUT, _OUTPUT = "source", "target"


def export_onnx(model: ModelFile, path: Path) -> float:
    """Write a model's network; any number of slices of the trained size go in together.

    Input ``source`` has shape (slices, channels, rows, columns) with the channels of
    ``SourceView``, output ``target`` (slices, 1, rows, columns); their range is [-1, 1].

    Args:
        model: as it was read.
        path: ends in ``.onnx``.

    Returns:
        The largest difference from torch on random slices.

    Raises:
        ConfigError: a package is missing, or it is a network of volumes.
        DataError: ONNX Runtime computes something else; nothing is written.
    """
    refuse_volumes(model.card, path)
    onnx, runtime = _packages()
    network = build_network(model.card, model.weights)
    with replacing(path) as temporary:
        with _quiet():
            torch.onnx.export(
                network,
                (example_slices(model.card, 2),),
                temporary,
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("slices")},),
                input_names=[_INPUT],
                output_names=[_OUTPUT],
                external_data=False,
                verbose=False,
            )
        content = onnx.load(temporary)
        for key, value in described(model.card).items():
            content.metadata_props.add(key=key, value=value)
        onnx.save(content, temporary)
        session = runtime.InferenceSession(temporary, providers=["CPUExecutionProvider"])
        apart = _difference(session, network, model.card)
        if not apart <= TOLERANCE:
            raise DataError(
                f"{path}: not written, as ONNX Runtime differs from torch by {apart:.2g}, and "
                f"{TOLERANCE:g} is the most; another version of both packages may agree"
            )
    return apart


def refuse_volumes(card: ModelCard, path: Path) -> None:
    """Refuse a network of volumes: another program would have to know how patches are joined.

    Raises:
        ConfigError: naming the file and the command that translates.
    """
    if card.network.patch:
        raise ConfigError(
            f"{path}: not written, as the model translates {card.network.view.text}, and exports "
            "hold networks of slices; use 'fedi2i translate', which joins the patches"
        )


def example_slices(card: ModelCard, count: int) -> torch.Tensor:
    """Empty slices of the shape that a model's network takes."""
    return torch.zeros(count, card.network.view.channels, *card.preparation.size)


def described(card: ModelCard) -> dict[str, str]:
    """What an ONNX file or a bundle says of a model, as texts."""
    view = card.network.view
    return {
        **({"channels": _channels(card)} if view.channels > 1 else {}),
        "notice": NOTICE,
        "task": card.task,
        "model": card.name,
        "weights": card.weights,
        "preparation": json.dumps(as_dict(card.preparation)),
        "network": json.dumps(as_dict(card.network)),
        "range": "input and output are in [-1, 1]: 2 * intensity - 1; intensities by 'preparation'",
    }


def _channels(card: ModelCard) -> str:
    """What the channels of a network of slices are, where there are several."""
    view = card.network.view
    if view.contrasts == 1:
        return view.text
    names = ", ".join(card.preparation.contrasts.values())
    return f"{view.text}: {names}; a missing one is -1 everywhere"


def _packages() -> tuple[Any, Any]:
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401  # torch's exporter writes with it
    except ImportError as error:
        raise ConfigError(
            f"export to ONNX needs the package '{error.name}'; install it with "
            "pip install 'fedi2i[onnx]'"
        ) from error
    return onnx, onnxruntime


def _difference(session: Any, network: nn.Module, card: ModelCard) -> float:
    random = np.random.default_rng(2026)
    largest = 0.0
    for batch in _TRIED_BATCHES:
        shape = tuple(example_slices(card, batch).shape)
        slices = random.uniform(-1.0, 1.0, shape).astype(np.float32)
        (found,) = session.run([_OUTPUT], {_INPUT: slices})
        with torch.inference_mode():
            expected = network(torch.from_numpy(slices)).numpy()
        largest = max(largest, float(np.abs(found - expected).max()))
    return largest


@contextmanager
def _quiet() -> Iterator[None]:
    """Torch's exporter prints its progress, and warns of a package that we do not need."""
    log = logging.getLogger("torch.onnx")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        with redirect_stdout(StringIO()):
            yield
    finally:
        log.setLevel(before)
