"""Translate whole patients with a generator and measure the result."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lightning_modules.data.slices import from_network, to_intensity, to_network
from lightning_modules.data.source_view import ONE_SLICE, SourceView
from lightning_modules.evaluation.images import prepared_pair
from lightning_modules.evaluation.windows import translate_volume
from lightning_modules.metrics.presets.catalogue import DEFAULT, PRESETS
from lightning_modules.metrics.presets.interface import Preset
from lightning_modules.training.hardware import Hardware
from partitions.preparation import PreparedSplit, PreparedSubject
from partitions.preparation.configuration import DOMAINS
from partitions.preparation.grids.native_grid import SliceGeometry
from partitions.preparation.intensities import Scale

_SLICES_AT_ONCE = 8


@dataclass(frozen=True)
class Patient:
    """The prepared slices of one patient; all of shape (slices, rows, columns).

    Attributes:
        subject: the subject's identifier.
        source: intensities in [0, 1]; of several contrasts the first that the patient has.
        target: intensities in [0, 1].
        mask: true inside the head or body.
        lesion: true inside the lesion, or None where no lesion mask exists.
        scales: by domain, what turns intensities into values with a unit.
        geometry: the way back to the scan's own grid; None for slices that were cut from none.
        body_part: as the metadata have it, or "".
        contrasts: all contrasts of the source behind each other, (contrasts * slices, rows,
            columns), 0 where one is missing; None where the source is one contrast.
        held: the names of the contrasts that the patient has, where there are several.
    """

    subject: str
    source: Tensor
    target: Tensor
    mask: Tensor
    lesion: Tensor | None
    scales: Mapping[str, Scale] = field(default_factory=dict)
    geometry: SliceGeometry | None = None
    body_part: str = ""
    contrasts: Tensor | None = None
    held: tuple[str, ...] = ()

    @property
    def shown(self) -> Tensor:
        """What the generator is shown: the source, or all its contrasts behind each other."""
        return self.source if self.contrasts is None else self.contrasts

    @property
    def heights(self) -> Sequence[int]:
        """Which slices of the scan these are; see ``SourceView.around``."""
        return range(len(self.source)) if self.geometry is None else self.geometry.kept

    @property
    def source_as_target(self) -> Tensor:
        """The source on the target's scale where both have one unit, such as a CBCT and a CT."""
        source, target = self.scales.get("source"), self.scales.get("target")
        if source is None or target is None or source == target:
            return self.source
        if not source.unit or source.unit != target.unit:
            return self.source
        return torch.from_numpy(target.to_intensity(source.to_unit(self.source.numpy())))


def patients(split: PreparedSplit) -> Iterator[Patient]:
    """The patients of a split, one in memory at a time.

    Those without a source or without a target cannot be measured and are passed over.
    """
    for entry in split.subjects:
        if entry.domains == DOMAINS:
            yield _patient(split, entry)


def translate(
    generator: nn.Module,
    source: Tensor,
    hardware: Hardware,
    slices_at_once: int = _SLICES_AT_ONCE,
    around: NDArray[np.intp] | None = None,
) -> Tensor:
    """Translate a volume slice by slice, in float32 whatever training computes in.

    bfloat16 has three significant digits, which moves a CT by up to 4 HU.

    Args:
        generator: in any mode; it is evaluated without dropout and left as it was.
        source: (slices, rows, columns), intensities in [0, 1]; of several contrasts behind each
            other, as ``around`` counts them.
        hardware: where.
        slices_at_once: how many go through the network together.
        around: which slices the generator is shown for each, see ``SourceView.around``; by default
            each slice alone.

    Returns:
        (slices, rows, columns), float32 intensities in [0, 1], on the CPU.
    """
    shown = torch.from_numpy(ONE_SLICE.around(range(len(source))) if around is None else around)
    was_training = generator.training
    generator.eval().to(hardware.device)
    with torch.inference_mode():
        parts = [
            from_network(generator(to_network(source[places]).to(hardware.device))).cpu()
            for places in torch.split(shown, slices_at_once)
        ]
    generator.train(was_training)
    return torch.cat(parts)


def translate_seen(
    generator: nn.Module,
    source: Tensor,
    hardware: Hardware,
    view: SourceView,
    heights: Sequence[int],
    at_once: int = _SLICES_AT_ONCE,
) -> Tensor:
    """Translate a volume as the generator is shown it: by slices with neighbours, or by patches.

    Args:
        generator: see ``translate``.
        source: see ``translate``.
        hardware: where.
        view: what the generator is shown.
        heights: which slices of the scan these are, see ``SourceView.around``.
        at_once: how many slices or patches go through the network together.
    """
    if view.patch:
        return translate_volume(generator, source, hardware, view, heights, at_once)
    return translate(generator, source, hardware, at_once, view.around(heights))


def translate_patient(
    generator: nn.Module, patient: Patient, hardware: Hardware, view: SourceView = ONE_SLICE
) -> Tensor:
    """Translate a patient's volume as the generator is shown it."""
    return translate_seen(generator, patient.shown, hardware, view, patient.heights)


def patient_metrics(
    prediction: Tensor, patient: Patient, preset: Preset = PRESETS[DEFAULT]
) -> dict[str, float]:
    """All metrics of one patient on its prepared slices; those of a lesion where one exists."""
    return preset.measure(prepared_pair(prediction, patient, preset))


def validate(
    generator: nn.Module,
    split: PreparedSplit,
    hardware: Hardware,
    preset: Preset = PRESETS[DEFAULT],
    view: SourceView = ONE_SLICE,
) -> dict[str, float]:
    """Mean of each metric over the patients of a split, as ``val/psnr`` and so on."""
    rows = [
        patient_metrics(translate_patient(generator, patient, hardware, view), patient, preset)
        for patient in patients(split)
    ]
    return mean_over_patients(rows)


def mean_over_patients(rows: list[dict[str, float]], prefix: str = "val") -> dict[str, float]:
    """Unweighted mean per metric over the patients that have it, as ``prefix/metric``.

    A patient has no value where a metric is not defined for its mask: it is NaN although the PSNR
    is a number. An infinite PSNR is left out while another patient's is finite.
    """
    kept = [
        {name: value for name, value in row.items() if not is_undefined(name, value, row)}
        for row in rows
    ]
    names = sorted({name for row in kept for name in row})
    return {f"{prefix}/{name}": _mean(row[name] for row in kept if name in row) for name in names}


def is_undefined(name: str, value: float, row: Mapping[str, float]) -> bool:
    """Whether a metric has no value for a patient, though the prediction holds numbers."""
    return math.isnan(value) and name != "psnr" and not math.isnan(row.get("psnr", math.nan))


def _mean(values: Iterable[float]) -> float:
    known = list(values)
    return fmean([value for value in known if not math.isinf(value)] or known)


def load_translator(
    generator: nn.Module, state: Mapping[str, Tensor], network: str = "generator"
) -> None:
    """Load the keys of one network of a model's state into a generator.

    Args:
        generator: receives the weights.
        state: state_dict of a model, or its shared part.
        network: name of the translating network, see ``ModelNetworks.translator``.
    """
    prefix = f"{network}."
    generator.load_state_dict(
        {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
    )


def _patient(split: PreparedSplit, entry: PreparedSubject) -> Patient:
    where = slice(entry.start, entry.stop)
    lesion = None if split.lesion is None else torch.from_numpy(split.lesion[where] > 0)
    return Patient(
        subject=entry.subject,
        source=to_intensity(split.source[where]),
        target=to_intensity(split.target[where]),
        mask=torch.from_numpy(split.mask[where] > 0),
        lesion=lesion,
        scales=entry.scales,
        geometry=entry.geometry,
        body_part=str(entry.metadata.get("body_part") or ""),
        contrasts=to_intensity(split.contrasts_at(where, entry)).flatten(0, 1)
        if split.contrasts
        else None,
        held=entry.contrasts,
    )
