"""The scores of the membership attacks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fedi2i.errors import DataError
from lightning_modules.evaluation.validation import Patient
from lightning_modules.privacy.attacks.membership import (
    discriminator_score,
    predictability_error,
    reconstruction_errors,
    reference_scores,
)
from lightning_modules.training.hardware import Hardware

HARDWARE = Hardware("cpu", "32-true", 1)


def _patient(target: Tensor, source: Tensor, lesion: Tensor | None = None) -> Patient:
    return Patient("a", source, target, torch.ones_like(source, dtype=torch.bool), lesion)


def _smooth(seed: int) -> Tensor:
    drawn = torch.from_numpy(np.random.default_rng(seed).uniform(size=(2, 1, 6, 6)))
    return nn.functional.interpolate(drawn, size=(24, 20), mode="bicubic")[:, 0].clamp(0, 1).float()


def test_the_error_is_that_of_the_translation_inside_the_mask_and_inside_the_lesion() -> None:
    source = _smooth(0)
    lesion = torch.zeros_like(source, dtype=torch.bool)
    lesion[0, 3:5, 3:5] = True
    target = source.clone()
    target[lesion] += 0.5
    found = reconstruction_errors(source, _patient(target, source, lesion))
    assert found["lesion"] == pytest.approx(0.5, abs=1e-5)
    assert found["mask"] == pytest.approx(0.5 * 4 / source.numel(), abs=1e-5)
    without = reconstruction_errors(source, _patient(target, source))
    assert set(without) == {"mask"}


def test_an_image_that_follows_from_its_source_is_predictable_and_noise_is_not() -> None:
    source = _smooth(1)
    rng = np.random.default_rng(0)
    follows = predictability_error(_patient(1 - 0.8 * source, source), rng)
    noise = torch.rand(source.shape, generator=torch.Generator().manual_seed(3))
    assert follows < 0.01
    assert predictability_error(_patient(noise, source), rng) > 0.2


def test_a_discriminator_that_knows_its_training_pair_scores_it_higher() -> None:
    class Remembers(nn.Module):
        def __init__(self, seen: Tensor) -> None:
            super().__init__()
            self.seen = seen

        def forward(self, source: Tensor, target: Tensor) -> Tensor:
            return -(target[:, 0] - (2 * self.seen - 1)).abs()

    member, other = _smooth(2), _smooth(3)
    judge = Remembers(member)
    assert discriminator_score(judge, _patient(member, other), HARDWARE) == pytest.approx(0)
    assert discriminator_score(judge, _patient(other, other), HARDWARE) < -0.1


def test_reference_models_never_saw_the_patient_and_are_not_the_partner() -> None:
    first = np.array([True, True, False, False])
    second = np.array([True, False, True, False])
    members = np.stack([first, ~first, second, ~second])
    scores = np.arange(16.0).reshape(4, 4)
    found = reference_scores(scores, members)
    # Patient 0 is in models 0 and 2; the target 0 and its partner 1 are left out, which leaves 3.
    assert found[0, 0] == scores[0, 0] - scores[3, 0]
    assert found[0, 1] == scores[0, 1] - scores[2, 1]
    changed = scores.copy()
    changed[1] += 100
    np.testing.assert_array_equal(reference_scores(changed, members)[0], found[0])
    with pytest.raises(DataError, match="two pairs"):
        reference_scores(scores[:2], members[:2])
