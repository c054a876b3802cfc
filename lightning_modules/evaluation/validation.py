"""Translate whole patients with a generator and measure the result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor, nn

from lightning_modules.data.slices import from_network, to_intensity, to_network
from lightning_modules.metrics.catalogue import measure
from lightning_modules.metrics.interface import image_pair
from lightning_modules.training.hardware import Hardware
from partitions.preparation import PreparedSplit, PreparedSubject
from partitions.preparation.configuration import DOMAINS

_SLICES_AT_ONCE = 8


@dataclass(frozen=True)
class Patient:
    """The prepared slices of one patient; all of shape (slices, rows, columns).

    Attributes:
        subject: the subject's identifier.
        source: intensities in [0, 1].
        target: intensities in [0, 1].
        mask: true inside the head or brain.
        lesion: true inside the lesion, or None where no lesion mask exists.
    """

    subject: str
    source: Tensor
    target: Tensor
    mask: Tensor
    lesion: Tensor | None


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
) -> Tensor:
    """Translate a volume slice by slice.

    Args:
        generator: in any mode; it is evaluated without dropout and left as it was.
        source: (slices, rows, columns), intensities in [0, 1].
        hardware: where and in which precision.
        slices_at_once: how many go through the network together.

    Returns:
        Same shape, float32 intensities in [0, 1], on the CPU.
    """
    was_training = generator.training
    generator.eval().to(hardware.device)
    autocast = torch.autocast(
        hardware.device.type, torch.bfloat16, enabled=hardware.precision == "bf16-mixed"
    )
    with torch.inference_mode(), autocast:
        parts = [
            from_network(generator(to_network(part).to(hardware.device))).cpu()
            for part in torch.split(source, slices_at_once)
        ]
    generator.train(was_training)
    return torch.cat(parts)


def patient_metrics(prediction: Tensor, patient: Patient) -> dict[str, float]:
    """All metrics of one patient; those of the lesion only where one exists."""
    return measure(image_pair(prediction, patient.target, patient.mask, patient.lesion))


def validate(generator: nn.Module, split: PreparedSplit, hardware: Hardware) -> dict[str, float]:
    """Mean of each metric over the patients of a split, as ``val/psnr`` and so on."""
    rows = [
        patient_metrics(translate(generator, patient.source, hardware), patient)
        for patient in patients(split)
    ]
    return mean_over_patients(rows)


def mean_over_patients(rows: list[dict[str, float]], prefix: str = "val") -> dict[str, float]:
    """Unweighted mean per metric over the patients that have it, as ``prefix/metric``."""
    names = sorted({name for row in rows for name in row})
    return {f"{prefix}/{name}": fmean(row[name] for row in rows if name in row) for name in names}


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
    )
