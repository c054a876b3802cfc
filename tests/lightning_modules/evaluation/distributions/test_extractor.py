"""The extractor: what it is trained on, and what its distance sees."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from textured_patients import textured_split

from fedi2i.errors import DataError
from lightning_modules.evaluation.distributions.extractor import (
    Extractor,
    RealSlices,
    train_extractor,
)
from lightning_modules.evaluation.distributions.kernel_distance import kernel_distance
from lightning_modules.evaluation.distributions.texture import texture_distance, texture_features
from partitions.preparation import PreparedSplit


@pytest.fixture(scope="module")
def slices() -> RealSlices:
    """Those of eight training patients."""
    return RealSlices([textured_split(1, 5), textured_split(2, 3)])


@pytest.fixture(scope="module")
def extractor(slices: RealSlices) -> Extractor:
    """Trained as everywhere, but shorter."""
    return train_extractor(slices, steps=60)


def test_equal_seeds_give_equal_weights_whatever_else_was_drawn_and_others_do_not(
    slices: RealSlices,
) -> None:
    first = train_extractor(slices, steps=3)
    torch.rand(5)
    before = torch.get_rng_state()
    threads = torch.get_num_threads()
    again = train_extractor(slices, steps=3)
    assert again.digest == first.digest
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads
    assert train_extractor(slices, seed=3, steps=3).digest != first.digest


def test_only_target_slices_of_the_given_patients_are_seen(slices: RealSlices) -> None:
    split = textured_split(1, 5)
    no_source = replace(split, source=np.zeros_like(split.source))
    (without, *rest) = split.subjects
    one_less = replace(split, subjects=(replace(without, domains=("source",)), *rest))
    assert len(RealSlices([one_less])) == len(split.target) - (without.stop - without.start)
    digests = [train_extractor(RealSlices([s]), steps=2).digest for s in (split, no_source)]
    assert digests[0] == digests[1]


def test_training_makes_noisy_slices_cleaner_than_they_were(extractor: Extractor) -> None:
    trained = extractor._network
    split = textured_split(9, 2)
    clean = torch.from_numpy(split.target / 65535.0).float().unsqueeze(1)
    noisy = clean + 0.15 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    inside = torch.from_numpy(split.mask > 0).unsqueeze(1)
    with torch.inference_mode():
        left = (trained(noisy * inside) - clean)[inside].square().mean()
    assert left < 0.8 * (noisy - clean)[inside].square().mean()


def test_features_of_real_slices_are_uncorrelated_and_vary_by_one_at_the_most(
    slices: RealSlices, extractor: Extractor
) -> None:
    features = extractor.features(*slices.sample())
    np.testing.assert_allclose(features.mean(axis=0), 0.0, atol=1e-4)
    covariance = features.T @ features / len(features)
    variances = np.diag(covariance)
    np.testing.assert_allclose(covariance, np.diag(variances), atol=1e-4)
    assert (variances < 1.0).all()
    # The direction in which real slices differ most keeps nearly all of its variance.
    assert variances.max() > 0.99


def test_what_lies_outside_the_mask_is_not_seen(extractor: Extractor) -> None:
    split = textured_split(3, 1)
    masks = torch.from_numpy(split.mask > 0)
    images = torch.from_numpy(split.target / 65535.0).float()
    changed = torch.where(masks, images, torch.rand(images.shape))
    np.testing.assert_array_equal(
        extractor.features(images, masks), extractor.features(changed, masks)
    )


def _distances(
    extractor: Extractor, one: PreparedSplit, other: np.ndarray, mine: bool = True
) -> tuple[float, float]:
    """Kernel and texture distance of a split's targets from other slices."""
    masks = one.mask > 0
    people = [s.subject for s in one.subjects for _ in range(s.start, s.stop)]
    others = people if mine else [f"other {person}" for person in people]
    images = one.target / 65535.0
    kernel = kernel_distance(
        *(
            extractor.features(torch.from_numpy(x), torch.from_numpy(masks))
            for x in (images, other)
        ),
        people,
        others,
    )
    scale = texture_features(images, masks).std(axis=0)
    textures = (texture_features(x, masks) for x in (images, other))
    return kernel.value, texture_distance(*textures, scale)


def test_two_halves_of_one_distribution_are_near_and_blurred_slices_are_far(
    extractor: Extractor,
) -> None:
    split, half = textured_split(4, 40, slices=2), textured_split(5, 40, slices=2)
    images = split.target / 65535.0
    near = _distances(extractor, split, half.target / 65535.0, mine=False)
    far = _distances(extractor, split, gaussian_filter(images, (0, 1.0, 1.0)))
    assert abs(near[0]) < 0.1 * far[0]
    assert near[1] < 0.25 * far[1]
    assert _distances(extractor, split, images) == pytest.approx((0.0, 0.0), abs=1e-9)


@pytest.mark.parametrize("kind", ["blur", "noise"])
def test_worse_slices_are_further_away(extractor: Extractor, kind: str) -> None:
    split = textured_split(6, 6)
    images = split.target / 65535.0
    noise = np.random.default_rng(1).normal(size=images.shape)
    found = [
        _distances(
            extractor,
            split,
            gaussian_filter(images, (0, 2.5 * strength, 2.5 * strength))
            if kind == "blur"
            else images + 0.5 * strength * noise,
        )
        for strength in (0.2, 0.4, 0.6)
    ]
    for measure in zip(*found, strict=True):
        assert 0.0 < measure[0] < measure[1] < measure[2]


def test_sites_without_target_slices_are_refused_in_a_sentence() -> None:
    split = textured_split(1, 1)
    alone = replace(split, subjects=(replace(split.subjects[0], domains=("source",)),))
    with pytest.raises(DataError, match="needs target slices of training patients"):
        train_extractor(RealSlices([alone]))
