"""A model as a MONAI bundle: metadata, configuration and weights; ``monai.bundle run`` executes it.

The network is an exported program (``torch.export``) and needs no code of ours. What comes before
and after it, in-mask percentiles, the foreground, the way back to the scan's grid, are no stock
transforms of MONAI's; the configuration names ours by their paths, so that a bundle computes what
``translate`` computes. A bundle is code, as its configuration is evaluated: FedI2I writes bundles
and never reads one.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import monai
import numpy as np
import torch

from fedi2i import __version__
from fedi2i.errors import ConfigError
from lightning_modules.translation.model_card import NOTICE, ModelCard
from lightning_modules.translation.model_file import SUFFIX, ModelFile, build_network, write_model
from lightning_modules.translation.onnx_file import described, example_slices, refuse_volumes

_TRANSFORMS = "lightning_modules.translation.bundle_transforms"
_SCHEMA = (
    "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/"
    "meta_schema_20240725.json"
)
_SLICES_AT_ONCE = 8
_EVALUATED = ("$", "@", "%")


def export_bundle(model: ModelFile, folder: Path) -> Path:
    """Write a bundle; the folder appears complete or not at all.

    Args:
        model: as it was read.
        folder: must not exist; its name is the bundle's.

    Returns:
        ``folder``.

    Raises:
        ConfigError: the folder exists, MONAI would evaluate a word of the model or its name, or it
            is a network of volumes or of several contrasts.
    """
    refuse_volumes(model.card, folder)
    if model.card.network.contrasts > 1:
        raise ConfigError(
            f"{folder}: not written, as the model reads {model.card.source}, and a bundle takes "
            "one scan of a patient; use 'fedi2i translate', or export ONNX"
        )
    if folder.exists():
        raise ConfigError(f"{folder}: exists; name a folder that does not")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".writing-") as temporary:
        root = Path(temporary) / folder.name
        for name in ("configs", "models", "docs"):
            (root / name).mkdir(parents=True)
        described_as = metadata(model.card, folder.name)
        _refuse_expressions(described_as, folder)
        _write_json(root / "configs" / "metadata.json", described_as)
        _write_json(root / "configs" / "inference.json", inference(model.card))
        (root / "docs" / "README.md").write_text(_readme(model.card), encoding="utf-8")
        write_model(root / "models" / f"model{SUFFIX}", model)
        torch.export.save(_program(model), root / "models" / "model.pt2")
        root.rename(folder)
    return folder


def metadata(card: ModelCard, name: str) -> dict[str, Any]:
    """``metadata.json``, with the fields that MONAI's schema asks for."""
    rows, columns = card.preparation.size
    slices = {
        "type": "image",
        "format": "magnitude",
        "num_channels": 1,
        "spatial_shape": [rows, columns],
        "dtype": "float32",
        "value_range": [-1, 1],
        "is_patch_data": False,
    }
    return {
        "schema": _SCHEMA,
        "version": __version__,
        "changelog": {__version__: f"exported from {card.name}"},
        "monai_version": monai.__version__,
        "pytorch_version": str(torch.__version__).partition("+")[0],
        "numpy_version": np.__version__,
        "required_packages_version": {"fedi2i": __version__, "fire": "0.7.1"},
        "name": name,
        "task": f"image translation: {card.task}",
        "description": f"{card.task}, trained by FedI2I. {NOTICE}",
        "authors": "see the training card in models/model.json",
        "copyright": "as the model's training data and its owners decide",
        "intended_use": NOTICE,
        "fedi2i": described(card),
        "network_data_format": {
            "inputs": {"image": {**slices, **_source_channels(card)}},
            "outputs": {"pred": {**slices, "channel_def": {"0": card.preparation.target}}},
        },
    }


def _source_channels(card: ModelCard) -> dict[str, Any]:
    """The input's channels, one slice each, by their distance from the translated one."""
    source, neighbours = card.preparation.source, card.network.neighbours
    steps = range(-neighbours, neighbours + 1)
    names = [f"{source}, slice {step:+d}" if step else source for step in steps]
    return {
        "num_channels": len(names),
        "channel_def": {str(place): name for place, name in enumerate(names)},
    }


def inference(card: ModelCard) -> dict[str, Any]:
    """``inference.json``: one scan from its file to its translation on the scan's own grid."""

    def ours(name: str, **arguments: Any) -> dict[str, Any]:
        return {"_target_": f"{_TRANSFORMS}.{name}", "model": "@model_file", **arguments}

    return {
        "imports": ["$import torch", f"$import {_TRANSFORMS} as translation"],
        "bundle_root": ".",
        "input": "scan.nii.gz",
        "output": "$@bundle_root + '/output'",
        "model_file": f"$@bundle_root + '/models/model{SUFFIX}'",
        "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "network_def": "$torch.export.load(@bundle_root + '/models/model.pt2').module()",
        "network": "$@network_def.to(@device)",
        "preprocessing": {"_target_": "Compose", "transforms": [ours("PrepareScand")]},
        "dataset": {
            "_target_": "Dataset",
            "data": "$[{'image': @input}]",
            "transform": "@preprocessing",
        },
        "inferer": {
            "_target_": "SliceInferer",
            "roi_size": list(card.preparation.size),
            "sw_batch_size": _SLICES_AT_ONCE,
            "spatial_dim": 2,
        },
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [ours("ToScansGridd"), ours("SaveTranslationd", folder="@output")],
        },
        "run": ["$translation.infer(@dataset, @network, @inferer, @postprocessing, @device)"],
    }


def _program(model: ModelFile) -> torch.export.ExportedProgram:
    network = build_network(model.card, model.weights)
    example = example_slices(model.card, 2)
    slices = ({0: torch.export.Dim("slices", min=1)},)
    return torch.export.export(network, (example,), dynamic_shapes=slices)


def _readme(card: ModelCard) -> str:
    return (
        f"# {card.task}\n\n{NOTICE}\n\n"
        "Install `fedi2i[bundle]` of the release in `configs/metadata.json`, and then, in this "
        "folder:\n\n"
        "    python -m monai.bundle run --config_file configs/inference.json \\\n"
        "        --meta_file configs/metadata.json --input SCAN --output FOLDER\n\n"
        "`models/model.json` says how the model was trained.\n"
    )


def _refuse_expressions(content: Any, folder: Path) -> None:
    """Metadata are words; MONAI evaluates those that begin as an expression or a reference does."""
    if isinstance(content, dict):
        for value in content.values():
            _refuse_expressions(value, folder)
    elif isinstance(content, list):
        for value in content:
            _refuse_expressions(value, folder)
    elif isinstance(content, str) and content.startswith(_EVALUATED):
        raise ConfigError(
            f"{folder}: its metadata would hold {content!r}, which MONAI evaluates; name a folder "
            "and a model that do not begin with $, @ or %"
        )


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
