"""Evaluate finished models on patients that no arm has trained on."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch import nn

from fedi2i.errors import DataError
from fedi2i.files import replacing, write_csv
from lightning_modules.configuration import ModelConfig
from lightning_modules.evaluation.baselines import (
    CONSTANT_ARM,
    MEAN_TARGET_ARM,
    baselines_of,
)
from lightning_modules.evaluation.panels import middle_slice
from lightning_modules.evaluation.validation import (
    Patient,
    load_translator,
    patient_metrics,
    patients,
    translate,
)
from lightning_modules.model_networks import MODELS
from lightning_modules.networks.generators.catalogue import build_generator
from lightning_modules.sharing.tensor_file import read_tensors
from lightning_modules.training.hardware import Hardware
from partitions.manifest import SPLITS
from partitions.preparation import PreparedSite

RESULTS_FILE = "results.csv"
SLICES_FILE = "slices.npz"
COLUMNS = ("arm", "site", "split", "subject", "metric", "value")

Row = tuple[str, str, str, str, str, float]


def read_generator(model: ModelConfig, path: Path) -> nn.Module:
    """The generator of a model file, as the server or a training run wrote it.

    Raises:
        DataError: the file is missing, damaged or holds another model.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such model file; train this arm first")
    generator = build_generator(model.generator)
    refusal = (
        "damaged, or not a model of this experiment; train this arm again or give the experiment "
        "it was trained with"
    )
    translator = MODELS[model.name].translator
    read_tensors(
        path, refusal, lambda content: load_translator(generator, content["model"], translator)
    )
    return generator


def evaluate(
    generators: Mapping[str, nn.Module],
    sites: Iterable[PreparedSite],
    hardware: Hardware,
    out: Path,
    split: str = "test",
    unseen: Collection[str] = (),
) -> Path:
    """Measure every arm, and what needs no network, on every patient of every site.

    An unseen site took part in no training and only tests: all of its patients are measured as test
    patients, whatever split its manifest gives them.

    Writes ``results.csv`` (one row per arm, site, split, subject and metric) and ``slices.npz``
    (the slice with the largest mask of every patient: source, target, mask, lesion where there is
    one, and each arm's prediction; float16 intensities in [0, 1]). Of the constant and the mean
    target there are rows and no pictures.

    Returns:
        The path of ``results.csv``.
    """
    rows: list[Row] = []
    pictures: dict[str, np.ndarray] = {}
    evaluated = list(sites)
    baselines = baselines_of(evaluated, unseen)
    for site in evaluated:
        chosen = SPLITS if split == "test" and site.site in unseen else (split,)
        for patient in chain.from_iterable(patients(site.split(name)) for name in chosen):
            predictions = baselines[site.site].predictions(patient) | {
                arm: translate(generator, patient.source, hardware)
                for arm, generator in generators.items()
            }
            for arm, prediction in predictions.items():
                metrics = patient_metrics(prediction, patient)
                rows += [
                    (arm, site.site, split, patient.subject, name, metrics[name])
                    for name in sorted(metrics)
                ]
            pictures |= _pictures(site.site, patient, predictions)
    write_csv(out / RESULTS_FILE, COLUMNS, rows)
    with replacing(out / SLICES_FILE) as temporary:
        np.savez_compressed(temporary, **pictures)  # type: ignore[arg-type]
    return out / RESULTS_FILE


def _pictures(
    site: str, patient: Patient, predictions: Mapping[str, torch.Tensor]
) -> dict[str, np.ndarray]:
    index = middle_slice(patient.mask)
    layers = {
        "target": patient.target[index],
        "mask": patient.mask[index],
        **{
            arm: volume[index].clamp(0.0, 1.0)
            for arm, volume in predictions.items()
            if arm not in (CONSTANT_ARM, MEAN_TARGET_ARM)
        },
    }
    if patient.lesion is not None and patient.lesion[index].any():
        layers["lesion"] = patient.lesion[index]
    return {
        f"{site}/{patient.subject}/{name}": layer.numpy().astype(np.float16)
        for name, layer in layers.items()
    }
