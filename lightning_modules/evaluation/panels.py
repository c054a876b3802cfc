"""Picture panels: source | target | translated | absolute error, side by side."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lightning_modules.evaluation.validation import Patient
from lightning_modules.metrics.presets.catalogue import DEFAULT, PRESETS
from lightning_modules.metrics.presets.interface import Preset

_ERROR_WINDOW = 0.25


def middle_slice(mask: Tensor) -> int:
    """The slice with the largest mask; the first of equals. Mask: (slices, rows, columns)."""
    return int(mask.flatten(1).sum(dim=1).argmax())


def shown(intensity: Tensor, patient: Patient, domain: str, preset: Preset) -> Tensor:
    """An image as grey values in [0, 1]: what is in HU through the window of a preset in HU.

    Args:
        intensity: of any shape, on the scale of a domain.
        patient: whose scale it is.
        domain: ``source`` or ``target``.
        preset: whose window is looked through.
    """
    scale = patient.scales.get(domain)
    if scale is None or not preset.in_hu or scale.unit != preset.unit:
        return intensity.clamp(0.0, 1.0)
    low, high = preset.shown
    values = torch.from_numpy(scale.to_unit(intensity.numpy()).astype(np.float32))
    return ((values - low) / (high - low)).clamp(0.0, 1.0)


def panel(patient: Patient, prediction: Tensor, preset: Preset = PRESETS[DEFAULT]) -> np.ndarray:
    """One grey picture, uint8 of shape (1, rows, 4 * columns), through the preset's window.

    The error is shown with white = a quarter of the window or more; source, target and prediction
    share one window, where they have one unit.
    """
    index = middle_slice(patient.mask)
    source = shown(patient.source[index], patient, "source", preset)
    target, predicted = (
        shown(image[index], patient, "target", preset) for image in (patient.target, prediction)
    )
    error = (predicted - target).abs() * patient.mask[index] / _ERROR_WINDOW
    row = torch.cat([source, target, predicted, error.clamp(0.0, 1.0)], dim=1)
    picture: np.ndarray = (row * 255.0).round().to(torch.uint8).numpy()[None]
    return picture
