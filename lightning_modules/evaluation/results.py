"""Evaluate finished models on patients that no arm has trained on."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch import nn

from fedi2i.errors import DataError
from fedi2i.files import replacing, write_csv
from fedi2i.metric_files import COLUMNS as METRIC_COLUMNS
from lightning_modules.data.source_view import ONE_SLICE, SourceView
from lightning_modules.evaluation.baselines import SOURCE_ARM, UNTRAINED_ARMS, baselines_of
from lightning_modules.evaluation.by_contrasts import write_by_contrasts
from lightning_modules.evaluation.distributions.measured import DISTRIBUTIONS_FILE, Distributions
from lightning_modules.evaluation.followed_baselines import BASELINES_FILE, followed_baselines
from lightning_modules.evaluation.measuring import Translated, measured
from lightning_modules.evaluation.panels import middle_slice, shown
from lightning_modules.evaluation.validation import (
    Patient,
    load_translator,
    patients,
    translate_patient,
)
from lightning_modules.metrics.presets.catalogue import DEFAULT, PRESETS
from lightning_modules.metrics.presets.interface import Preset
from lightning_modules.model_configuration import ModelConfig
from lightning_modules.networks.building import build_translator
from lightning_modules.networks.modulation import for_site
from lightning_modules.sharing.tensor_file import read_tensors
from lightning_modules.training.hardware import Hardware
from partitions.manifest import SPLITS
from partitions.preparation import PreparedSite
from partitions.processes import in_order

RESULTS_FILE = "results.csv"
SLICES_FILE = "slices.npz"
COLUMNS = ("arm", "site", "split", "subject", "preset", "metric", "value")

Row = tuple[str, str, str, str, str, str, float]


def read_generator(model: ModelConfig, path: Path) -> nn.Module:
    """The generator of a model file, as the server or a training run wrote it.

    Raises:
        DataError: the file is missing, damaged or holds another model.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such model file; train this arm first")
    generator = build_translator(model)
    refusal = (
        "damaged, or not a model of this experiment; train this arm again or give the experiment "
        "it was trained with"
    )
    translator = model.described.translator
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
    preset: str = DEFAULT,
    ensembles: Mapping[str, Sequence[str]] | None = None,
    view: SourceView = ONE_SLICE,
    distributions: Distributions | None = None,
) -> Path:
    """Measure every arm, and what needs no network, on every patient of every site.

    An unseen site took part in no training and only tests: all of its patients are measured as test
    patients, whatever split its manifest gives them.

    An ensemble is an arm, too: its prediction is the mean of the outputs of the arms it names.
    All arms are shown the same of the source, ``view``. A conditional generator translates every
    site's own pair.

    A preset in HU measures volumes on the scan's own grid against the scan, see `native_pair`,
    unless its name says that prepared slices are meant.

    With more than one thread as many processes measure, while this one translates the next
    patients; values do not depend on that.

    Writes ``results.csv`` (one row per arm, site, split, subject and metric, each with its preset)
    and ``slices.npz`` (the slice with the largest mask of every patient: source, target, mask,
    lesion where there is one, and each arm's prediction; float16 intensities in [0, 1] through the
    preset's window, see `shown`). Of what needs no network there are rows and, but for the source,
    no pictures. ``baselines.csv`` has what needs no network on the validation patients of the sites
    that trained, for the curves over rounds. ``distributions.csv`` is written where
    ``distributions`` are to be measured, of the same sites and split, and taken away where not;
    ``contrasts.csv`` where the source is of several contrasts, which patients may lack.

    Returns:
        The path of ``results.csv``.
    """
    evaluated = list(sites)
    baselines = baselines_of(evaluated, unseen)
    arms = _Arms(generators, ensembles or {}, hardware, view, preset, distributions)
    translated = (
        arms.of_patient(site, patient, translating, baselines[site.site].predictions(patient))
        for site in evaluated
        for translating in (arms.at(site),)
        for patient in measured_patients(site, split, unseen)
    )
    rows: list[Row] = [
        (arm, site, split, subject, preset, name, metrics[name])
        for site, subject, found in in_order(measured, translated, hardware.threads)
        for arm, metrics in found.items()
        for name in sorted(metrics)
    ]
    followed = followed_baselines(evaluated, baselines, unseen, preset)
    write_csv(out / BASELINES_FILE, ("arm", *METRIC_COLUMNS), followed)
    write_csv(out / RESULTS_FILE, COLUMNS, rows)
    write_by_contrasts(out, rows, arms.held)
    with replacing(out / SLICES_FILE) as temporary:
        np.savez_compressed(temporary, **arms.pictures)  # type: ignore[arg-type]
    (out / DISTRIBUTIONS_FILE).unlink(missing_ok=True)  # of an earlier evaluation
    if distributions is not None:
        distributions.write(out)
    return out / RESULTS_FILE


@dataclass(frozen=True)
class _Arms:
    """Translates every patient once, and keeps what pages show of them.

    Attributes:
        generators: by arm.
        ensembles: by arm the arms whose outputs it averages.
        hardware: where.
        view: what generators are shown of the source.
        preset: by its name, what measures patients and through which window they are seen.
        distributions: hears of every patient, if there is any.
        pictures: of the patients so far, by name.
        held: of the patients so far who may lack contrasts, which they have.
    """

    generators: Mapping[str, nn.Module]
    ensembles: Mapping[str, Sequence[str]]
    hardware: Hardware
    view: SourceView
    preset: str
    distributions: Distributions | None
    pictures: dict[str, np.ndarray] = field(default_factory=dict)
    held: dict[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)

    def at(self, site: PreparedSite) -> dict[str, nn.Module]:
        """What translates at a site."""
        return {arm: for_site(generator, site) for arm, generator in self.generators.items()}

    def of_patient(
        self,
        site: PreparedSite,
        patient: Patient,
        translating: Mapping[str, nn.Module],
        untrained: Mapping[str, torch.Tensor],
    ) -> Translated:
        """All arms' predictions of a patient, behind those that need no network."""
        predictions = dict(untrained)
        for arm, generator in translating.items():
            predictions[arm] = translate_patient(generator, patient, self.hardware, self.view)
        for arm, members in self.ensembles.items():
            predictions[arm] = torch.stack([predictions[one] for one in members]).mean(dim=0)
        if patient.held:
            self.held[site.site, patient.subject] = patient.held
        self.pictures.update(_pictures(site.site, patient, predictions, PRESETS[self.preset]))
        if self.distributions is not None:
            self.distributions.add(site.site, patient, predictions)
        return Translated(site.site, patient, predictions, site.manifest, site.config, self.preset)


def measured_patients(
    site: PreparedSite, split: str = "test", unseen: Collection[str] = ()
) -> Iterator[Patient]:
    """The patients of a site that ``evaluate`` measures, see there; one in memory at a time."""
    chosen = SPLITS if split == "test" and site.site in unseen else (split,)
    return chain.from_iterable(patients(site.split(name)) for name in chosen)


def _pictures(
    site: str, patient: Patient, predictions: Mapping[str, torch.Tensor], preset: Preset
) -> dict[str, np.ndarray]:
    index = middle_slice(patient.mask)
    layers = {
        "target": shown(patient.target[index], patient, "target", preset),
        "mask": patient.mask[index],
        **{
            arm: shown(volume[index], patient, "target", preset)
            for arm, volume in predictions.items()
            if arm not in UNTRAINED_ARMS
        },
        SOURCE_ARM: shown(patient.source[index], patient, "source", preset),
    }
    if patient.lesion is not None and patient.lesion[index].any():
        layers["lesion"] = patient.lesion[index]
    return {
        f"{site}/{patient.subject}/{name}": layer.numpy().astype(np.float16)
        for name, layer in layers.items()
    }
