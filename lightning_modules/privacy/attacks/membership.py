"""Membership: was a patient among those that a model was trained on?

Four attackers, each with the model and with a patient's pair of images:

- ``reconstruction``: the error of the translation; members are translated better.
- ``predictability``: that error minus how hard the image is to predict from itself. The published
  attack on image translation (Shafran, Peleg and Hoshen, ICCV 2021, arXiv:2102.07762) takes
  features of an ImageNet network; without such weights this is a *variant* with local features of
  the source: a 5 x 5 patch, two blurs, the place. As published, the regression is fitted inside
  each image on a random 70 % of its pixels and measured on the others; no other image is looked at.
- ``discriminator``: the mean of the discriminator's logits on the real pair (LOGAN: Hayes et al.,
  PoPETs 2019, doi:10.2478/popets-2019-0008). Only where the discriminator is shared.
- the *reference* attack on either score: minus its mean under other models that were trained
  without the patient. Here they are trained on the same site's patients; an attacker from outside
  has less, so that it is an upper bound.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, shift
from torch import Tensor, nn

from fedi2i.errors import DataError
from lightning_modules.data.slices import to_network
from lightning_modules.data.source_view import ONE_SLICE, SourceView
from lightning_modules.evaluation.validation import Patient
from lightning_modules.privacy.attacks.statistics import Members, Scores
from lightning_modules.training.hardware import Hardware

_PATCH = range(-2, 3)
_BLURS = (2.0, 4.0)
_FITTED = 0.7
_RIDGE = 1e-3
_SPLITS = 3
"""Random splits whose errors are averaged: one alone would add noise of its own."""


def reconstruction_errors(translated: Tensor, patient: Patient) -> dict[str, float]:
    """Mean absolute error of a patient's translation, by region.

    Args:
        translated: (slices, rows, columns), intensities as the model gave them.
        patient: the true images.

    Returns:
        ``mask``: inside the head or brain, and ``lesion`` where the patient has one.
    """
    error = (translated - patient.target).abs()
    found = {"mask": float(error[patient.mask].mean())}
    if patient.lesion is not None and patient.lesion.any():
        found["lesion"] = float(error[patient.lesion].mean())
    return found


def discriminator_score(
    discriminator: nn.Module,
    patient: Patient,
    hardware: Hardware,
    paired: bool = True,
    view: SourceView = ONE_SLICE,
) -> float:
    """Mean logit on the patient's real images; members are taken for real more readily.

    Args:
        discriminator: of pairs, or of target slices.
        patient: slices of intensities in [0, 1].
        hardware: where.
        paired: whether it judges pairs.
        view: what of the source it is shown with a target.
    """
    shown = torch.from_numpy(view.around(patient.heights))

    def inputs(places: Tensor) -> Iterator[Tensor]:
        if paired:
            yield to_network(patient.source[places]).to(hardware.device)
        yield to_network(patient.target[places[:, view.neighbours]]).to(hardware.device)

    was_training = discriminator.training
    discriminator.eval().to(hardware.device)
    with torch.inference_mode():
        logits = [discriminator(*inputs(places)).flatten(1) for places in torch.split(shown, 8)]
    discriminator.train(was_training)
    return float(torch.cat(logits).mean())


def predictability_error(patient: Patient, rng: np.random.Generator) -> float:
    """How hard a patient's target is to predict from its source, slice by slice.

    Args:
        patient: slices of intensities in [0, 1].
        rng: splits the pixels of the mask.

    Returns:
        Mean absolute error on the pixels that the regression was not fitted on; independent of any
        model. Slices with fewer than twice as many pixels as features are passed over.
    """
    errors = []
    for source, target, mask in zip(
        patient.source.numpy(), patient.target.numpy(), patient.mask.numpy(), strict=True
    ):
        features = _local_features(source)[mask]
        values = target[mask].astype(np.float64)
        if len(values) >= 2 * features.shape[1]:
            errors += [_split_error(features, values, rng) for _ in range(_SPLITS)]
    return float(np.mean(errors)) if errors else 0.0


def reference_scores(scores: Scores, members: Members) -> Scores:
    """A score minus its mean under the models that were trained without the patient.

    The model itself and its partner are left out: half of the time the partner is the one model
    that is sure not to have the patient, which would tell the answer.

    Args:
        scores: (models, patients); models 2k and 2k + 1 are partners.
        members: same shape.

    Raises:
        DataError: a patient has no such model; there are fewer than two pairs.
    """
    models = len(scores)
    result = np.empty_like(scores)
    for model in range(models):
        others = np.array([other // 2 != model // 2 for other in range(models)])
        usable = ~members & others[:, None]
        counts = usable.sum(axis=0)
        if not counts.all():
            raise DataError("the reference attack needs at least two pairs of models")
        result[model] = scores[model] - (scores * usable).sum(axis=0) / counts
    return result


def _local_features(source: NDArray[np.float32]) -> NDArray[np.float64]:
    """(rows, columns, features) of one slice: patch, blurs, row, column, one."""
    image = source.astype(np.float64)
    patch = [
        shift(image, (row, column), order=0, mode="nearest") for row in _PATCH for column in _PATCH
    ]
    blurs = [gaussian_filter(image, sigma) for sigma in _BLURS]
    rows, columns = np.meshgrid(*(np.linspace(-1, 1, side) for side in image.shape), indexing="ij")
    return np.stack([*patch, *blurs, rows, columns, np.ones_like(image)], axis=-1)


def _split_error(
    features: NDArray[np.float64], values: NDArray[np.float64], rng: np.random.Generator
) -> float:
    order = rng.permutation(len(values))
    fitted, left = np.split(order, [int(_FITTED * len(values))])
    design = features[fitted]
    normal = design.T @ design + _RIDGE * len(fitted) * np.eye(design.shape[1])
    weights = np.linalg.solve(normal, design.T @ values[fitted])
    return float(np.abs(features[left] @ weights - values[left]).mean())
