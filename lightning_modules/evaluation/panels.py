"""Picture panels: source | target | translated | absolute error, side by side."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lightning_modules.evaluation.validation import Patient

_ERROR_WINDOW = 0.25


def middle_slice(mask: Tensor) -> int:
    """The slice with the largest mask; the first of equals. Mask: (slices, rows, columns)."""
    return int(mask.flatten(1).sum(dim=1).argmax())


def panel(patient: Patient, prediction: Tensor) -> np.ndarray:
    """One grey picture, uint8 of shape (1, rows, 4 * columns), window [0, 1].

    The error is shown with white = 0.25 or more; source, target and prediction share one window.
    """
    index = middle_slice(patient.mask)
    predicted = prediction[index].clamp(0.0, 1.0)
    error = (predicted - patient.target[index]).abs() * patient.mask[index] / _ERROR_WINDOW
    row = torch.cat(
        [patient.source[index], patient.target[index], predicted, error.clamp(0.0, 1.0)], dim=1
    )
    picture: np.ndarray = (row * 255.0).round().to(torch.uint8).numpy()[None]
    return picture
