"""Changed slices: against SciPy's resampling, pair by pair, and drawn anew for every step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytest
import torch
from constant_slices import BOTH, constant_split
from scipy.ndimage import affine_transform, gaussian_filter
from torch import Tensor

from fedi2i.errors import ConfigError
from lightning_modules.configuration import (
    AugmentationConfig,
    TrainingConfig,
    experiment_from,
    experiment_values,
)
from lightning_modules.data.augmentation import Augmenter, augmenter_of, step_randoms
from lightning_modules.data.batches import BatchSource
from lightning_modules.data.patients import PatientDraws
from lightning_modules.data.slices import Batch, TrainingSlices
from lightning_modules.privacy.update_noise import system_uniform
from partitions.preparation import PreparedSplit, PreparedSubject
from partitions.preparation.configuration import PreparationConfig

DARK = {"source": 0.0, "target": 0.0}
EVERYTHING = AugmentationConfig(0.5, 15, 0.1, 0.1, 0.3, 0.2, 0.05)
SHAPES = AugmentationConfig(flip=0.5, rotation=15, translation=0.1, scaling=0.1)
Randoms = Sequence[np.random.Generator]


class Fixed:
    """A random state whose uniform draws are given, in the order in which they are drawn."""

    def __init__(self, **drawn: float) -> None:
        order = (
            "flip",
            "rotation",
            "rows",
            "columns",
            "scaling",
            "contrast",
            "brightness",
            "noise",
        )
        self._values = np.array([drawn.get(name, 0.0) for name in order])

    def uniform(self, low: float, high: float, size: int) -> np.ndarray:
        assert (low, high, size) == (-1, 1, len(self._values))
        return self._values


def fixed(**drawn: float) -> Randoms:
    return cast(Randoms, [Fixed(**drawn)])


def image(seed: int = 0, size: tuple[int, int] = (24, 20)) -> np.ndarray:
    """Smooth random intensities in [0, 1]."""
    found: np.ndarray = gaussian_filter(np.random.default_rng(seed).random(size), 1.5)
    scaled: np.ndarray = (found - found.min()) / np.ptp(found)
    return scaled


def batch_of(**images: np.ndarray) -> Batch:
    """Intensities (n, rows, columns) or one of them as network inputs, by name."""
    return {
        name: torch.from_numpy(np.atleast_3d(found.T).T.astype(np.float32))[:, None] * 2 - 1
        for name, found in images.items()
    }


def intensities(images: Tensor) -> np.ndarray:
    return np.asarray((images[:, 0].numpy().astype(np.float64) + 1) / 2)


def by_scipy(found: np.ndarray, angle: float, factor: float, shift: Any, outside: float) -> Any:
    """The slice turned by an angle in degrees, enlarged, and shifted by pixels."""
    radians = np.deg2rad(angle)
    turn = np.array([[np.cos(radians), -np.sin(radians)], [np.sin(radians), np.cos(radians)]])
    matrix = factor * turn
    centre = (np.array(found.shape) - 1) / 2
    offset = centre + np.asarray(shift) - matrix @ centre
    return affine_transform(found, matrix, offset, order=1, mode="grid-constant", cval=outside)


@pytest.mark.parametrize("outside", [0.0, 0.3])
def test_a_slice_is_turned_shifted_and_scaled_as_scipy_does(outside: float) -> None:
    settings = AugmentationConfig(rotation=30, translation=0.25, scaling=0.2)
    augmenter = Augmenter(settings, {"source": 0.0, "target": outside})
    draws = fixed(rotation=0.5, rows=-0.5, columns=1.0, scaling=-1.0)
    target = image()
    moved = augmenter(batch_of(target=target), draws)["target"]
    expected = by_scipy(target, 15.0, 1 / 1.2, (-0.125 * 24, 0.25 * 20), outside)
    np.testing.assert_allclose(intensities(moved)[0], expected, atol=2e-5)
    assert abs(expected[0, -1] - outside) < 1e-6  # the corner shows what was outside


def test_a_flipped_pair_stays_a_pair_and_only_columns_turn_round() -> None:
    source = image()
    pair = batch_of(source=source, target=1 - source)
    augmenter = Augmenter(AugmentationConfig(flip=0.5), DARK)
    turned = augmenter(dict(pair), fixed(flip=-0.1))
    assert torch.equal(turned["source"], torch.from_numpy(pair["source"].numpy()[..., ::-1].copy()))
    assert torch.equal(turned["target"], pair["target"].flip(-1))
    kept = augmenter(dict(pair), fixed(flip=0.0))
    assert all(torch.equal(kept[domain], pair[domain]) for domain in pair)


def test_whatever_is_drawn_a_pair_and_its_mask_stay_aligned() -> None:
    """The target is a function of the source, pixel by pixel, before and after."""
    source = np.stack([image(seed) for seed in range(6)])
    pair = batch_of(source=source, target=1 - 0.5 * source)
    pair["mask"] = torch.from_numpy((source > 0.5).astype(np.float32))[:, None]
    augmenter = Augmenter(SHAPES, {"source": 0.2, "target": 0.9})
    moved = augmenter(pair, step_randoms(1, "north", pair, 0, 6))
    before, after = intensities(moved["source"]), intensities(moved["target"])
    np.testing.assert_allclose(after, 1 - 0.5 * before, atol=1e-5)
    assert np.abs(before - source).mean() > 0.05
    mask = moved["mask"][:, 0].numpy()
    assert set(np.unique(mask)) == {0.0, 1.0}
    clear = np.abs(before - 0.5) > 0.2
    assert (mask == (before > 0.5))[clear].all()


def test_only_the_source_changes_its_values_and_by_the_drawn_curve() -> None:
    settings = AugmentationConfig(contrast=0.5, brightness=0.25)
    ramp = np.linspace(0, 1, 12).reshape(3, 4)
    pair = batch_of(source=ramp, target=ramp)
    found = Augmenter(settings, DARK)(dict(pair), fixed(contrast=1.0, brightness=-1.0))
    np.testing.assert_allclose(intensities(found["source"])[0], ramp**1.5 / 1.25, atol=1e-6)
    assert torch.equal(found["target"], pair["target"])


def test_noise_has_at_most_its_deviation_and_values_stay_in_range() -> None:
    grey = batch_of(source=np.full((400, 16, 16), 0.5))
    settings = AugmentationConfig(noise=0.1)
    randoms = step_randoms(3, "north", grey, 0, 400)
    deviations = intensities(Augmenter(settings, DARK)(grey, randoms)["source"]).std((1, 2))
    assert 0.11 > deviations.max() > 0.08
    assert deviations.mean() == pytest.approx(0.05, abs=0.01)  # uniform from 0 to 0.1
    white = batch_of(source=np.ones((4, 16, 16)))
    changed = Augmenter(EVERYTHING, DARK)(white, step_randoms(3, "north", white, 0, 4))["source"]
    assert float(changed.min()) >= -1.0
    assert float(changed.max()) <= 1.0


def test_another_setting_leaves_the_draws_of_the_others_alone() -> None:
    pair = batch_of(source=np.stack([image(n) for n in range(4)]))
    more = AugmentationConfig(0.5, 15, 0.1, 0.1, contrast=0.3, noise=0.1)

    def draws() -> Randoms:
        return step_randoms(1, "north", BOTH, 3, 4)

    pair["target"] = pair["source"]
    plain, changed = (Augmenter(used, DARK)(dict(pair), draws()) for used in (SHAPES, more))
    assert torch.equal(plain["target"], changed["target"])
    assert not torch.equal(plain["source"], changed["source"])


def slices(count: int = 6, domains: tuple[str, ...] = BOTH) -> TrainingSlices:
    source = (65535 * np.stack([image(n) for n in range(count)])).astype(np.uint16)
    subject = PreparedSubject("p", 0, count, None, {}, domains)
    mask = np.ones(source.shape, np.uint8)
    return TrainingSlices([PreparedSplit(source, 65535 - source, mask, None, (subject,))])


def source_of(
    model: str = "pix2pix",
    arm: str = "north",
    seed: int = 1,
    settings: AugmentationConfig = EVERYTHING,
) -> BatchSource:
    return BatchSource(model, slices(), seed, arm, 3, Augmenter(settings, DARK))


def equal(one: Sequence[Batch], other: Sequence[Batch]) -> bool:
    return len(one) == len(other) and all(
        a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
        for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("model", ["pix2pix", "cyclegan"])
def test_a_step_is_changed_alike_whether_or_not_earlier_ones_were_drawn(model: str) -> None:
    long = list(source_of(model).batches(0, 9))
    np.random.seed(4)
    torch.manual_seed(4)
    for first, steps in ((0, 3), (3, 3), (7, 2)):
        assert equal(list(source_of(model).batches(first, steps)), long[first : first + steps])


def test_steps_places_sites_seeds_and_domains_have_draws_of_their_own() -> None:
    drawn = [
        random.random()
        for seed in (1, 2)
        for arm in ("north", "east")
        for domains in (BOTH, ("source",), ("target",))
        for step in (0, 1, 100)
        for random in step_randoms(seed, arm, domains, step, 2)
    ]
    assert len(set(drawn)) == len(drawn) == 72


def test_one_slice_is_shown_otherwise_in_every_epoch_and_at_every_site() -> None:
    shown = {
        intensities(batch["source"])[place].tobytes()
        for arm in ("north", "east")
        for batch in source_of(arm=arm).batches(0, 20)
        for place in range(3)
    }
    assert len(shown) == 2 * 20 * 3


def test_the_two_slices_of_a_pair_move_together_and_those_of_no_pair_apart() -> None:
    """Slices that are bright everywhere: where one is dark it shows what was outside."""
    constant = TrainingSlices([constant_split(30000, (8, BOTH))])
    shifts = AugmentationConfig(translation=0.5)
    for model, together in (("pix2pix", True), ("cyclegan", False)):
        source = BatchSource(model, constant, 1, "north", 4, Augmenter(shifts, DARK))
        (batch,) = source.batches(0, 1)
        bright = {name: intensities(images) for name, images in batch.items()}
        first, second = (found / found.max((1, 2), keepdims=True) for found in bright.values())
        assert np.allclose(first, second, atol=1e-3) == together


def test_the_number_of_threads_changes_no_bit() -> None:
    many = batch_of(source=np.stack([image(n, (200, 190)) for n in range(9)]))
    many["target"] = many["source"].flip(0)
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            randoms = step_randoms(1, "north", many, 0, 9)
            found.append(Augmenter(EVERYTHING, DARK)(dict(many), randoms))
    finally:
        torch.set_num_threads(before)
    assert equal(found[:1], found[1:2])
    assert equal(found[:1], found[2:])


def test_slices_stay_as_they_are_unless_something_is_set() -> None:
    training, preparation = TrainingConfig(), PreparationConfig()
    assert augmenter_of(training, preparation) is None
    assert "augmentation" not in experiment_values(experiment_from({}, "x"))["training"]
    plain = BatchSource("pix2pix", slices(), 1, "north", 3)
    assert equal(
        list(source_of(settings=AugmentationConfig()).batches(0, 4)), list(plain.batches(0, 4))
    )


def test_beyond_the_edge_of_a_ct_there_is_air_and_beyond_that_of_an_mr_darkness() -> None:
    window = {"kind": "window", "low": -1024, "high": 3071, "unit": "HU"}
    values = {
        "preset": "synthrad2025",
        "data": {"preparation": {"target": "ct", "target_scaling": window}},
        "training": {"augmentation": {"rotation": 45}},
    }
    experiment = experiment_from(values, "x")
    augmenter = augmenter_of(experiment.training, experiment.data.preparation)
    assert augmenter is not None
    soft = np.full((16, 16), (40 + 1024) * 16 / 65535)
    turned = augmenter(batch_of(source=soft, target=soft), fixed(rotation=1.0))
    hounsfield = intensities(turned["target"])[0] * 65535 / 16 - 1024
    assert hounsfield[0, 0] == pytest.approx(-1000, abs=0.01)
    assert hounsfield[8, 8] == pytest.approx(40, abs=0.01)
    assert intensities(turned["source"])[0, 0, 0] == 0.0


def test_patients_who_are_drawn_by_chance_are_changed_by_chance() -> None:
    """By the seed their draws would hang on who else was drawn; see ``PatientDraws``."""
    augmenter = Augmenter(SHAPES, DARK)

    def drawn() -> Batch:
        arguments = (slices(1), 1.0, 1, ("generator",), 1, system_uniform(), augmenter)
        (step,) = PatientDraws(*arguments)
        return step["generator"][0]

    one, other = drawn(), drawn()
    assert not torch.equal(one["source"], other["source"])
    empty_apart = one["source"] + one["target"] + (one["target"] < -0.999)
    assert float(empty_apart[0, 0, 8:16, 6:14].abs().max()) < 1.1


@pytest.mark.parametrize(
    ("augmentation", "words"),
    [
        ({"rotaton": 5}, "did you mean 'rotation'"),
        ({"rotation": 200}, "from 0 to 180"),
        ({"flip": -0.1}, "from 0 to 1"),
        ({"noise": float("nan")}, "training.augmentation.noise is nan"),
    ],
)
def test_what_cannot_be_is_refused_by_its_key(augmentation: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        experiment_from({"training": {"augmentation": augmentation}}, "x")


def test_cyclegan_takes_no_changed_values_beside_an_identity_term() -> None:
    def read(weight: float, **augmentation: float) -> None:
        model = {"name": "cyclegan", "lambda_identity": weight}
        experiment_from({"model": model, "training": {"augmentation": augmentation}}, "x")

    with pytest.raises(ConfigError, match="lambda_identity to 0, or contrast"):
        read(0.5, contrast=0.1)
    read(0.5, flip=0.5, rotation=10)
    read(0.0, contrast=0.1)
