"""Predictions that need no network: the source, a constant, and the mean target of a site.

A model is said to have learnt only where it is better than a constant and than the mean target:
both can be had without looking at the patient. The mean target is an image of a site's training
patients. It is made where their data are, is used there, and is never written or sent.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_modules.evaluation.validation import Patient
from partitions.preparation import PreparedSite, PreparedSplit, PreparedSubject

SOURCE_ARM = "source"
CONSTANT_ARM = "constant"
MEAN_TARGET_ARM = "mean-target"
UNTRAINED_ARMS = (SOURCE_ARM, CONSTANT_ARM, MEAN_TARGET_ARM)
"""The arms that no network is trained for."""


class MeanTarget:
    """The mean target of a site's training patients, at the same relative height.

    Slice i of a patient with n slices is predicted by the mean over the training patients, each
    with m slices of its own, of slice floor((i + 1/2) m / n). A pixel counts where a training
    patient's mask covers it.

    Args:
        split: the training patients.
        elsewhere: intensity in [0, 1] of pixels that no training patient's mask covers.
    """

    def __init__(self, split: PreparedSplit, elsewhere: float) -> None:
        self._split = split
        self._elsewhere = elsewhere

    def volume(self, slices: int) -> Tensor:
        """The prediction for a patient of so many slices: (slices, rows, columns) in [0, 1]."""
        shape = (slices, *self._split.target.shape[1:])
        total, count = np.zeros(shape), np.zeros(shape, dtype=np.int64)
        for subject in _with_target(self._split):
            height = subject.stop - subject.start
            places = subject.start + (2 * np.arange(slices) + 1) * height // (2 * slices)
            inside = self._split.mask[places] > 0
            total += self._split.target[places] * inside
            count += inside
        mean = np.where(count > 0, total / np.maximum(count, 1) / 65535.0, self._elsewhere)
        return torch.from_numpy(mean.astype(np.float32))


@dataclass(frozen=True)
class SiteBaselines:
    """What can be predicted at one site without a network.

    Attributes:
        constant: an intensity in [0, 1]; None where no site has training patients.
        mean_target: None where the site has no training patients.
    """

    constant: float | None
    mean_target: MeanTarget | None

    def predictions(self, patient: Patient) -> dict[str, Tensor]:
        """By arm: (slices, rows, columns), intensities in [0, 1]; the source is always there."""
        found = {SOURCE_ARM: patient.source_as_target}
        if self.constant is not None:
            found[CONSTANT_ARM] = torch.full_like(patient.target, self.constant)
        if self.mean_target is not None:
            found[MEAN_TARGET_ARM] = self.mean_target.volume(len(patient.target))
        return found


def baselines_of(
    sites: Sequence[PreparedSite], unseen: Collection[str] = ()
) -> dict[str, SiteBaselines]:
    """The baselines of every site, by its name.

    All patients of an unseen site are test patients: it counts as one without training patients,
    whatever split its manifest gives them.

    The constant is the median of the site's training targets inside their masks. A site without
    training patients takes the median of the other sites' constants, which are single numbers. It
    has no mean target: another site's may not leave that site.
    """
    splits = {site.site: site.split("train") for site in sites}
    own = {
        name: None if name in unseen else training_median(split) for name, split in splits.items()
    }
    known = [value for value in own.values() if value is not None]
    of_others = median(known) if known else None
    return {
        name: SiteBaselines(of_others, None)
        if (value := own[name]) is None
        else SiteBaselines(value, MeanTarget(split, value))
        for name, split in splits.items()
    }


def training_median(split: PreparedSplit) -> float | None:
    """Median intensity of the targets inside the masks; None without any such pixel."""
    histogram = np.zeros(2**16, dtype=np.int64)
    for subject in _with_target(split):
        where = slice(subject.start, subject.stop)
        inside: NDArray[np.uint16] = split.target[where][split.mask[where] > 0]
        histogram += np.bincount(inside, minlength=2**16)
    below = histogram.cumsum()
    if below[-1] == 0:
        return None
    # The two middle values of an even number; the same one twice of an odd number.
    middle = np.searchsorted(below, [(below[-1] - 1) // 2 + 1, below[-1] // 2 + 1])
    return float(middle.mean() / 65535.0)


def _with_target(split: PreparedSplit) -> list[PreparedSubject]:
    return [subject for subject in split.subjects if "target" in subject.domains]
