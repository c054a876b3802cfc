"""Slices changed at random in every step of training; a step's draws follow from its number.

MONAI's random transforms carry a random state from slice to slice and resample one slice at a time.
Here every slice has a random state of its own, made from names, so that a step can be repeated in
another process; MONAI's batched ``AffineTransform`` then resamples all slices of a step at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lightning_modules.configuration import AugmentationConfig, TrainingConfig
from lightning_modules.data.slices import Batch
from lightning_modules.seeding import derive_seed
from partitions.preparation.configuration import DOMAINS, PreparationConfig
from partitions.preparation.intensities import empty_intensity

_DRAWS = ("flip", "rotation", "rows", "columns", "scaling", "contrast", "brightness", "noise")
"""What is drawn for every slice, in this order, whatever the settings use of it."""

AUGMENTATION = "augmentation"
"""What draws of this file are for."""

Drawn = Mapping[str, np.ndarray]
"""Uniform values in [-1, 1) by name, one for every slice."""


def step_randoms(
    seed: int,
    arm: str,
    domains: Iterable[str],
    step: int,
    count: int,
    purpose: str = AUGMENTATION,
) -> list[np.random.Generator]:
    """The random draws of one step, by nothing but names and numbers.

    Args:
        seed: the experiment's seed.
        arm: name of the learner.
        domains: the domains that are drawn together: both for pairs.
        step: counted over all rounds.
        count: how many slices; every place in the batch has draws of its own.
        purpose: what is drawn, so that one use of a step's draws leaves the others alone.
    """
    names: tuple[str | int, ...] = (purpose, arm, *domains, step)
    return [np.random.default_rng(derive_seed(seed, *names, place)) for place in range(count)]


def augmenter_of(training: TrainingConfig, preparation: PreparationConfig) -> Augmenter | None:
    """What changes the slices of an experiment; None where they stay as they are."""
    if training.augmentation.is_off:
        return None
    empty = {domain: empty_intensity(preparation.scaling(domain)) for domain in DOMAINS}
    return Augmenter(training.augmentation, empty)


@dataclass(frozen=True)
class Augmenter:
    """Changes slices by given draws.

    Attributes:
        settings: how far slices may be changed.
        empty: the intensity in [0, 1] of each domain where there is nothing: a rotated or shifted
            slice gets it where it shows what was outside. In HU that is air's and not 0.
    """

    settings: AugmentationConfig
    empty: Mapping[str, float]

    def __call__(self, batch: Batch, randoms: Sequence[np.random.Generator]) -> Batch:
        """The slices of one step.

        Args:
            batch: slices (n, channels, rows, columns) in [-1, 1] that belong together, by domain. A
                slice's neighbours are moved and recoloured by its own draws; noise is another on
                each. Anything else, such as a mask, is moved with them and keeps its values: it
                takes the nearest pixel's, and 0 outside. The slices of a patch (n, 1, slices, rows,
                columns) are changed as neighbours are.
            randoms: the draws, one random state for every slice; they are used up.
        """
        drawn = _drawn(randoms)
        shapes = {name: images.shape for name, images in batch.items()}
        flat = {name: images.flatten(1, -3) for name, images in batch.items()}
        moved = {name: self._moved(name, images, drawn) for name, images in flat.items()}
        if self.settings.recolours and "source" in moved:
            moved["source"] = self._recoloured(moved["source"], drawn, randoms)
        return {name: images.reshape(shapes[name]) for name, images in moved.items()}

    def _moved(self, name: str, images: Tensor, drawn: Drawn) -> Tensor:
        flipped = torch.from_numpy(drawn["flip"] < 2 * self.settings.flip - 1)
        images = torch.where(flipped[:, None, None, None], images.flip(-1), images)
        if not self.settings.bends:
            return images
        where = _positions(self.settings, drawn, images.shape[-2:])
        if name not in DOMAINS:
            return _resampled(images, where, "nearest")
        outside = 2 * self.empty[name] - 1
        return (_resampled(images - outside, where, "bilinear") + outside).clamp(-1, 1)

    def _recoloured(
        self, images: Tensor, drawn: Drawn, randoms: Sequence[np.random.Generator]
    ) -> Tensor:
        """Computed by numpy, whose results do not depend on the number of torch's threads."""
        settings = self.settings
        intensity = (images.numpy() + np.float32(1)) / np.float32(2)
        exponent = _per_slice((1 + settings.contrast) ** drawn["contrast"])
        factor = _per_slice((1 + settings.brightness) ** drawn["brightness"])
        changed = factor * intensity**exponent
        if settings.noise:
            deviation = _per_slice(settings.noise * (drawn["noise"] + 1) / 2)
            shape = intensity.shape[1:]
            noise = np.stack([random.standard_normal(shape, np.float32) for random in randoms])
            changed = changed + deviation * noise
        return torch.from_numpy(changed.clip(0, 1) * np.float32(2) - np.float32(1))


def _drawn(randoms: Sequence[np.random.Generator]) -> Drawn:
    values = np.stack([random.uniform(-1, 1, len(_DRAWS)) for random in randoms], axis=1)
    return dict(zip(_DRAWS, values, strict=True))


def _positions(settings: AugmentationConfig, drawn: Drawn, size: Sequence[int]) -> Tensor:
    """Matrices (n, 3, 3): from a pixel of the result, row and column, to where its value is taken.

    Turned and scaled about the centre of the slice, then shifted.
    """
    angle = math.radians(settings.rotation) * drawn["rotation"]
    factor = (1 + settings.scaling) ** drawn["scaling"]
    cosine, sine = factor * np.cos(angle), factor * np.sin(angle)
    (middle_row, middle_column) = ((side - 1) / 2 for side in size)
    row = middle_row + settings.translation * size[0] * drawn["rows"]
    column = middle_column + settings.translation * size[1] * drawn["columns"]
    zero, one = np.zeros_like(angle), np.ones_like(angle)
    matrix = [
        [cosine, -sine, row - cosine * middle_row + sine * middle_column],
        [sine, cosine, column - sine * middle_row - cosine * middle_column],
        [zero, zero, one],
    ]
    return torch.from_numpy(np.moveaxis(np.asarray(matrix), -1, 0).astype(np.float32))


def _resampled(images: Tensor, where: Tensor, mode: str) -> Tensor:
    """Slices (n, channels, rows, columns) read at other places; 0 outside.

    The matrices are in pixels from the first one: with ``zero_centered`` MONAI 1.6 measures the
    distance from the centre by a side that is one pixel too long or too short.
    """
    from monai.networks.layers.spatial_transforms import AffineTransform

    found: Tensor = AffineTransform(mode=mode)(images, where)
    return found


def _per_slice(values: np.ndarray) -> np.ndarray:
    """One number for every slice, to go with (n, 1, rows, columns)."""
    return values.astype(np.float32)[:, None, None, None]
