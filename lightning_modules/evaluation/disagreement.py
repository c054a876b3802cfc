"""``uncertainty.csv``: how well the disagreement of models tells where their translation is wrong.

The models are those that a run keeps of its last rounds, whose disagreement ``fedi2i translate
--uncertainty`` writes, or the members of an ensemble. Test patients have targets, so that it can be
held against the error.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from fedi2i.errors import ConfigError, DataError
from fedi2i.files import write_csv
from lightning_modules.data.source_view import ONE_SLICE, SourceView
from lightning_modules.evaluation.results import measured_patients
from lightning_modules.evaluation.uncertainty import UncertaintyQuality, uncertainty_quality
from lightning_modules.evaluation.validation import Patient, translate_patient
from lightning_modules.training.hardware import Hardware
from lightning_modules.translation.model_file import SUFFIX, ModelFile, read_model, weights_digest
from lightning_modules.translation.translator import LEAST_MODELS, Translator
from partitions.preparation import PreparedSite

logger = logging.getLogger(__name__)

UNCERTAINTY_FILE = "uncertainty.csv"
CALIBRATION_FILE = "calibration.csv"
_WHOSE = ("arm", "site", "split", "subject")
COLUMNS = (
    *_WHOSE,
    "models",
    "unit",
    "voxels",
    "mae",
    "uncertainty",
    "ause",
    "ause_at_random",
    "correlation",
    "calibration_error",
)
CALIBRATION_COLUMNS = (*_WHOSE, "unit", "bin", "voxels", "uncertainty", "error")


@dataclass(frozen=True)
class UncertainArm:
    """An arm whose translations have an uncertainty.

    Attributes:
        models: how many models disagree.
        translate: a patient's translation and its uncertainty, both (slices, rows, columns) in
            parts of the target's scale.
    """

    models: int
    translate: Callable[[Patient], tuple[Tensor, Tensor]]


def uncertain_arms(
    files: Mapping[str, Path],
    generators: Mapping[str, nn.Module],
    ensembles: Mapping[str, Sequence[str]],
    hardware: Hardware,
    view: SourceView = ONE_SLICE,
) -> dict[str, UncertainArm]:
    """The arms of an evaluation that have two models or more to disagree.

    Args:
        files: every arm's file, as ``evaluate`` is given it. The model file of the same name beside
            it, ending in ``.safetensors``, holds the models of the last rounds.
        generators: what is in the files.
        ensembles: arms by the mean of other arms' outputs, and these arms.
        hardware: where.
        view: what all arms are shown of the source.

    Returns:
        By name, in the order of ``files`` and ``ensembles``. A line of the log names the others.

    Raises:
        DataError: a model file is damaged, or beside a file that it does not belong to.
        ConfigError: no arm has two models, or a model file's card cannot be used.
    """
    found = {name: _kept(path, generators[name]) for name, path in files.items()}
    arms = {name: _of_rounds(model, hardware) for name, model in found.items() if model}
    without = [name for name, model in found.items() if not model]
    for name, members in ensembles.items():
        if len(set(members)) >= LEAST_MODELS:
            arms[name] = _of_members([generators[one] for one in members], hardware, view)
        else:
            without.append(name)
    if not arms:
        raise ConfigError(
            f"--uncertainty: no arm has two models to disagree; give one beside whose file its "
            f"run's model file lies (the same name, ending in {SUFFIX}, of two rounds or more), or "
            "an --ensemble"
        )
    if without:
        logger.info("no uncertainty of %s: no two models to disagree", ", ".join(without))
    return arms


def write_uncertainty(
    arms: Mapping[str, UncertainArm],
    sites: Iterable[PreparedSite],
    out: Path,
    split: str = "test",
    unseen: Collection[str] = (),
) -> Path:
    """Hold every arm's uncertainty against its error, at every patient that ``evaluate`` measures.

    Voxels are those of the prepared slices inside the mask, whatever the preset. Numbers are in the
    unit of the target's scale, or parts of its intensities, from 0 to 1, where it has none.

    Writes ``uncertainty.csv``, one row per arm and patient, and ``calibration.csv``, one row per
    arm, patient and bin of voxels; see ``lightning_modules.evaluation.uncertainty``.

    Args:
        arms: by name.
        sites: whose patients.
        out: folder.
        split: see ``evaluate``.
        unseen: likewise.

    Returns:
        The path of ``uncertainty.csv``.
    """
    rows: list[tuple[str | float, ...]] = []
    bins: list[tuple[str | float, ...]] = []
    for site in sites:
        for patient in measured_patients(site, split, unseen):
            for name, arm in arms.items():
                whose = (name, site.site, split, patient.subject)
                unit, found = _quality(arm, patient)
                rows.append(
                    (
                        *whose,
                        arm.models,
                        unit,
                        found.voxels,
                        found.mae,
                        found.uncertainty,
                        found.ause,
                        found.ause_at_random,
                        found.correlation,
                        found.calibration_error,
                    )
                )
                bins += [
                    (*whose, unit, number, one.voxels, one.uncertainty, one.error)
                    for number, one in enumerate(found.bins, 1)
                ]
    write_csv(out / CALIBRATION_FILE, CALIBRATION_COLUMNS, bins)
    write_csv(out / UNCERTAINTY_FILE, COLUMNS, rows)
    return out / UNCERTAINTY_FILE


def _quality(arm: UncertainArm, patient: Patient) -> tuple[str, UncertaintyQuality]:
    """The unit, and what is found in it."""
    translation, uncertainty = arm.translate(patient)
    scale = patient.scales.get("target")
    unit, span = (scale.unit, scale.span) if scale is not None and scale.unit else ("", 1.0)
    error = (translation.double() - patient.target.double())[patient.mask] * span
    known = uncertainty.double()[patient.mask] * span
    return unit, uncertainty_quality(known.numpy(), error.numpy())


def _kept(path: Path, generator: nn.Module) -> ModelFile | None:
    """The model file beside a model, or None where it keeps too few models or is not there."""
    beside = path.with_suffix(SUFFIX)
    if not beside.is_file():
        return None
    model = read_model(beside)
    if model.card.weights != weights_digest(generator.state_dict()):
        raise DataError(
            f"{beside}: holds another model than {path.name} beside it; leave both as their run "
            "wrote them, or take the option --uncertainty away"
        )
    return model if len(model.earlier) >= LEAST_MODELS else None


def _of_rounds(model: ModelFile, hardware: Hardware) -> UncertainArm:
    translator = Translator(model, hardware.accelerator, hardware.threads)

    def translate(patient: Patient) -> tuple[Tensor, Tensor]:
        source = patient.shown.numpy()
        found = translator.translate(source, patient.heights)
        apart = translator.disagreement(source, patient.heights)
        return torch.from_numpy(found), torch.from_numpy(apart)

    return UncertainArm(len(model.earlier), translate)


def _of_members(members: Sequence[nn.Module], hardware: Hardware, view: SourceView) -> UncertainArm:
    def translate(patient: Patient) -> tuple[Tensor, Tensor]:
        outputs = torch.stack([translate_patient(one, patient, hardware, view) for one in members])
        apart = outputs.clamp(0.0, 1.0).double().std(dim=0, correction=0)
        return outputs.mean(dim=0).clamp(0.0, 1.0), apart

    return UncertainArm(len(members), translate)
