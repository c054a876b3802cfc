"""The file of a model that others can run: weights as safetensors, everything else as JSON.

It stands beside ``FL_global_model.pt`` and does not replace it: that is NVFlare's own file, which a
run continues from, with networks that no translation needs; and ``torch.save`` is pickle, however
carefully it is read. A safetensors file holds arrays and one JSON text, and nothing in it can be
run. The card is inside, so that it cannot get lost, and once more beside it, for people.
"""

from __future__ import annotations

import hashlib
import json
import logging
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from fedi2i.errors import ConfigError, DataError
from fedi2i.files import not_written, replacing, write_text
from fedi2i.typed_config import as_dict, record_from
from lightning_modules.model_configuration import ModelConfig
from lightning_modules.networks.building import build_translator
from lightning_modules.networks.generators.catalogue import build_generator
from lightning_modules.networks.modulation import for_pair
from lightning_modules.networks.own_network import WithoutMemory
from lightning_modules.translation.model_card import (
    ModelCard,
    NetworkCode,
    check_card,
    code_digest,
)
from partitions.preparation.configuration import PreparationConfig

if TYPE_CHECKING:
    from torch import nn

logger = logging.getLogger(__name__)

SUFFIX = ".safetensors"
CARD_SUFFIX = ".json"
KEPT_ROUNDS = 3
"""How many of a run's last global models its file holds, for ``translate --uncertainty``."""
_CARD, _MODEL, _ROUND = "fedi2i", "model", "round"

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class ModelFile:
    """A model as it is on the disk.

    Attributes:
        card: what it is.
        weights: state_dict of the network that translates.
        earlier: the same of the run's last global models, by their number of rounds.
    """

    card: ModelCard
    weights: Weights
    earlier: Mapping[int, Weights] = field(default_factory=dict)


def write_model(path: Path, model: ModelFile, mode: int = 0o644) -> Path:
    """Write a model and its card beside it, each as a whole or not at all.

    Args:
        path: ends in ``.safetensors``.
        model: digests in its card are filled in here.
        mode: permissions of both files.

    Returns:
        ``path``.

    Raises:
        DataError: there is no room, or the folder may not be written.
    """
    card = replace(
        model.card, weights=weights_digest(model.weights), earlier=tuple(sorted(model.earlier))
    )
    parts = {_MODEL: model.weights} | {f"{_ROUND}/{n}": w for n, w in model.earlier.items()}
    tensors = {
        # Copies, as the library refuses arrays that share memory.
        f"{part}/{key}": value.detach().cpu().clone().contiguous()
        for part, weights in parts.items()
        for key, value in weights.items()
    }
    text = json.dumps(as_dict(card), indent=1)
    try:
        with replacing(path, mode) as temporary:
            temporary.write_bytes(save(tensors, metadata={_CARD: text}))
        write_text(path.with_suffix(CARD_SUFFIX), text + "\n", mode)
    except OSError as error:
        raise DataError(not_written(path, error)) from error
    return path


def read_card(path: Path) -> ModelCard:
    """The card inside a model file; no weights are read.

    Raises:
        DataError: the file is missing, damaged or something else.
        ConfigError: its card cannot be used here, see ``check_card``.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such model file; correct the path")
    if path.suffix != SUFFIX:
        raise DataError(
            f"{path}: no file that can be translated with; a run writes one that ends in {SUFFIX} "
            "beside it, and 'fedi2i export model' makes one of an older run"
        )
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {})[_CARD]
        content = json.loads(text)
        _check_texts(path, content)
        card = _card_from(path, content)
    except (SafetensorError, OSError, KeyError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: damaged, or no model file of this project") from error
    check_card(card, str(path))
    return card


def _card_from(path: Path, content: dict[str, Any]) -> ModelCard:
    where = f"{path}: card"
    try:
        return record_from(ModelCard, content, where)
    except ConfigError as error:  # records that check themselves do not know their file
        text = str(error)
        raise ConfigError(text if text.startswith(where) else f"{where}: {text}") from error


def _check_texts(path: Path, content: Any) -> None:
    """Refuse texts that OmegaConf (references) or a terminal (control characters) acts on.

    It looks at the texts as they are read, since JSON can write every character as an escape.
    """
    if not isinstance(content, dict):
        raise DataError(f"{path}: damaged, or no model file of this project")
    for text in _texts(content):
        if "${" in text:
            # OmegaConf would replace it, by a variable of the environment for one.
            raise DataError(f"{path}: its card holds a reference '${{...}}', which no card needs")
        if any(unicodedata.category(one) in ("Cc", "Cf") for one in text):
            raise DataError(f"{path}: its card holds control characters, which no card needs")


def _texts(content: Any) -> Iterator[str]:
    """Every text in what JSON holds, keys too."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, dict):
        for key, value in content.items():
            yield key
            yield from _texts(value)
    elif isinstance(content, list):
        for value in content:
            yield from _texts(value)


def read_model(path: Path) -> ModelFile:
    """Read a model that this machine may build; nothing in the file is executed.

    Raises:
        DataError: the file is missing, damaged, or its weights do not fit its card.
        ConfigError: its card cannot be used here.
    """
    card = read_card(path)
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path}: damaged; take another copy of it") from error
    model = ModelFile(
        card,
        _part(tensors, _MODEL),
        {number: _part(tensors, f"{_ROUND}/{number}") for number in card.earlier},
    )
    _check_weights(path, model)
    return model


def build_network(card: ModelCard, weights: Weights) -> nn.Module:
    """The network of a model, without dropout, with weights that ``read_model`` has checked."""
    network = build_generator(card.network.generator, card.network.view)
    network.load_state_dict(weights)
    return network.eval()


def weights_digest(weights: Weights) -> str:
    """SHA-256 of names, types, shapes and values."""
    content = hashlib.sha256()
    for key, value in sorted(weights.items()):
        content.update(f"{key} {value.dtype} {tuple(value.shape)}\0".encode())
        flat = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        content.update(flat.numpy().data)
    return content.hexdigest()


def _part(tensors: Mapping[str, Tensor], name: str) -> Weights:
    prefix = f"{name}/"
    return {
        key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)
    }


def _check_weights(path: Path, model: ModelFile) -> None:
    empty = _empty(model.card.network)
    expected = {key: (value.shape, value.dtype) for key, value in empty.items()}
    for weights in (model.weights, *model.earlier.values()):
        if {key: (value.shape, value.dtype) for key, value in weights.items()} != expected:
            raise DataError(f"{path}: its weights do not fit the network that its card describes")
        if not all(bool(value.isfinite().all()) for value in weights.values()):
            raise DataError(f"{path}: holds weights that are no finite numbers; take another model")
    if weights_digest(model.weights) != model.card.weights:
        raise DataError(f"{path}: its weights are not those that its card was written for")
    network = model.card.network
    if code_digest(network.path) != network.digest:
        logger.warning(
            "%s: '%s' has changed since FedI2I %s trained this model; compare a translation with "
            "one of that release",
            path,
            network.path,
            model.card.training.release,
        )


def translator_weights(
    state: Mapping[str, Tensor],
    translator: str,
    model: ModelConfig,
    preparation: PreparationConfig,
) -> Weights | None:
    """The network that translates, out of a model's state.

    Args:
        state: state_dict of a model, or the part of it that a federation shares.
        translator: the network's name, see ``ModelNetworks.translator``.
        model: the model's settings.
        preparation: names the pair that a conditional model is to translate.

    Returns:
        None where sites keep parts of it to themselves, so that there is no global one.

    Raises:
        ConfigError: the state belongs to another network.
    """
    prefix = f"{translator}."
    weights = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    expected = {key: value.shape for key, value in _empty(model).items()}
    if set(expected) - set(weights):
        return None
    if {key: value.shape for key, value in weights.items()} != expected:
        raise ConfigError("the model holds another network than its experiment describes")
    return weights_of_pair(weights, model, preparation)


def weights_of_pair(
    weights: Weights, model: ModelConfig, preparation: PreparationConfig
) -> Weights:
    """The weights of what translates the pair of a preparation; see ``ModelConfig.of_pair``."""
    if not model.contrasts:
        return weights
    generator = build_translator(model)
    generator.load_state_dict(weights)
    pair: Weights = for_pair(generator, preparation.source, preparation.target).state_dict()
    return pair


def _empty(described: ModelConfig | NetworkCode) -> Mapping[str, Tensor]:
    """A network's weights without values: shapes and types, and no memory is taken for them."""
    with torch.random.fork_rng(devices=[]), WithoutMemory():
        if isinstance(described, ModelConfig):
            built = build_translator(described)
        else:
            built = build_generator(described.generator, described.view)
        state: Mapping[str, Tensor] = built.state_dict()
    return state
