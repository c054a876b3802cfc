"""Predictions that need no network: the source, a line through it, a constant, the mean target.

A model is said to have learnt only where it is better than a constant and than the mean target:
both can be had without looking at the patient. The mean target is an image of a site's training
patients. It is made where their data are, is used there, and is never written or sent.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_modules.evaluation.validation import Patient
from partitions.preparation import PreparedSite, PreparedSplit, PreparedSubject
from partitions.preparation.configuration import DOMAINS

SOURCE_ARM = "source"
MAPPED_SOURCE_ARM = "mapped-source"
CONSTANT_ARM = "constant"
MEAN_TARGET_ARM = "mean-target"
UNTRAINED_ARMS = (SOURCE_ARM, MAPPED_SOURCE_ARM, CONSTANT_ARM, MEAN_TARGET_ARM)
"""The arms that no network is trained for."""
UNTRAINED_LABELS = {
    SOURCE_ARM: ("Source as prediction", "the input taken as the output"),
    MAPPED_SOURCE_ARM: (
        "Source mapped linearly",
        "slope x input + intercept, fitted by least squares on the site's training patients; a "
        "site without such patients takes the mean of the sites' lines",
    ),
    CONSTANT_ARM: (
        "Constant",
        "the median of the site's training targets inside the mask; an unseen site takes the "
        "median of the sites' constants",
    ),
    MEAN_TARGET_ARM: (
        "Mean target",
        "the mean target of the site's own training patients, which never leaves the site; an "
        "unseen site has none",
    ),
}
"""Their labels, and what they are, as a run's record says it."""
_ONE_VALUE = 1e-12
"""A source whose variance is below has one value: a stored step is 1 / 65535."""


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
class Line:
    """The source's contrast mapped linearly: target = slope x source + intercept, cut to [0, 1].

    Where contrasts are inverted, as from T1w to T2w, it is the first thing to compare with: it
    keeps the patient's anatomy and knows two numbers.
    """

    slope: float
    intercept: float

    def __call__(self, source: Tensor) -> Tensor:
        """The prediction for source intensities in [0, 1]; the same shape."""
        return (self.slope * source + self.intercept).clamp(0, 1)


@dataclass(frozen=True)
class SiteBaselines:
    """What can be predicted at one site without a network.

    Attributes:
        line: None where no site has training patients with both images.
        constant: an intensity in [0, 1]; None where no site has training patients.
        mean_target: None where the site has no training patients.
    """

    line: Line | None
    constant: float | None
    mean_target: MeanTarget | None

    def predictions(self, patient: Patient) -> dict[str, Tensor]:
        """By arm: (slices, rows, columns), intensities in [0, 1]; the source is always there."""
        found = {SOURCE_ARM: patient.source_as_target}
        if self.line is not None:
            found[MAPPED_SOURCE_ARM] = self.line(patient.source)
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
    training patients takes the median of the other sites' constants, which are single numbers, and
    the mean of their lines, as far as these sites have its target, and its pair. It has no mean
    target: another site's may not leave that site.
    """
    own = {
        site.site: SiteBaselines(None, None, None)
        if site.site in unseen
        else _own_baselines(site.split("train"))
        for site in sites
    }
    return {site.site: _completed(own, site, sites) for site in sites}


def _completed(
    own: Mapping[str, SiteBaselines], site: PreparedSite, sites: Sequence[PreparedSite]
) -> SiteBaselines:
    """A site's baselines, with those of the others where it has none of its own."""
    target = [own[one.site] for one in sites if one.config.target == site.config.target]
    pair = [
        own[one.site]
        for one in sites
        if (one.config.source, one.config.target) == (site.config.source, site.config.target)
    ]
    constants = [found.constant for found in target if found.constant is not None]
    lines = [found.line for found in pair if found.line is not None]
    found = own[site.site]
    return replace(
        found,
        line=(_mean_line(lines) if lines else None) if found.line is None else found.line,
        constant=(median(constants) if constants else None)
        if found.constant is None
        else found.constant,
    )


def _own_baselines(split: PreparedSplit) -> SiteBaselines:
    constant = training_median(split)
    mean_target = None if constant is None else MeanTarget(split, constant)
    return SiteBaselines(fitted_line(split), constant, mean_target)


def _mean_line(lines: Sequence[Line]) -> Line:
    return Line(fmean(line.slope for line in lines), fmean(line.intercept for line in lines))


def fitted_line(split: PreparedSplit) -> Line | None:
    """The line from source to target inside the masks, by least squares.

    Returns:
        None without any pixel inside a mask of a patient who has both images; a horizontal line
        where the source has one value.
    """
    sums = np.zeros(5)  # pixels, source, target, source squared, source x target
    for subject in split.subjects:
        if subject.domains == DOMAINS:
            where = slice(subject.start, subject.stop)
            inside = split.mask[where] > 0
            source = split.source[where][inside] / 65535.0
            target = split.target[where][inside] / 65535.0
            sums += np.array(
                [source.size, source.sum(), target.sum(), source @ source, source @ target]
            )
    if sums[0] == 0:
        return None
    source_mean, target_mean, squares, products = sums[1:] / sums[0]
    variance = squares - source_mean**2
    covariance = products - source_mean * target_mean
    slope = covariance / variance if variance > _ONE_VALUE else 0.0
    return Line(float(slope), float(target_mean - slope * source_mean))


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
