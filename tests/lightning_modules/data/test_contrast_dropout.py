"""Several contrasts of a source as channels: which are shown in training, and which are empty."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from constant_slices import BOTH, constant_split

from fedi2i.errors import ConfigError
from lightning_modules.configuration import experiment_from, experiment_values
from lightning_modules.data.augmentation import Augmenter
from lightning_modules.data.batches import BatchSource
from lightning_modules.data.contrast_dropout import kept_contrasts
from lightning_modules.data.slices import TrainingSlices
from lightning_modules.data.source_view import SourceView
from lightning_modules.evaluation.validation import patients, translate_patient
from lightning_modules.networks.building import build_networks
from lightning_modules.training.hardware import Hardware
from partitions.preparation import PreparedSplit

TWO = SourceView(contrasts=2)
PREPARATION: dict[str, Any] = {"further_sources": ["flair"]}
HARDWARE = Hardware("cpu", "32-true", 1)


def split_of(*held: tuple[str, ...]) -> PreparedSplit:
    """Subjects of two slices each; slice i of t1 is stored as 100 + i, of flair as 2100 + i."""
    split = constant_split(100, *((2, BOTH) for _ in held))
    further = split.source + 2000
    subjects = []
    for subject, contrasts in zip(split.subjects, held, strict=True):
        where = slice(subject.start, subject.stop)
        if "flair" not in contrasts:
            further[where] = 0
        if "t1" not in contrasts:  # the picture of the source is that of the first there is
            split.source[where] = further[where]
        subjects.append(replace(subject, contrasts=contrasts))
    return replace(split, subjects=tuple(subjects), contrasts=("t1", "flair"), further=(further,))


MIXED = split_of(("t1", "flair"), ("t1",), ("flair",))


def stored(channels: torch.Tensor) -> list[list[int]]:
    """The stored values of constant slices, by channel."""
    return [[round(float(v + 1) / 2 * 65535) for v in one] for one in channels[:, :, 0, 0].double()]


def test_every_contrast_is_a_channel_and_a_missing_one_is_empty() -> None:
    slices = TrainingSlices([MIXED]).seen_as(TWO)
    batch = slices.batch(np.array([0, 3, 5]))
    assert stored(batch["source"]) == [[100, 2100], [103, 0], [0, 2105]]
    assert batch["target"].shape == (3, 1, 2, 3)
    assert slices.present(np.array([0, 3, 5])).tolist() == [
        [True, True],
        [True, False],
        [False, True],
    ]


def test_validation_shows_what_training_shows() -> None:
    class Both(torch.nn.Module):
        def forward(self, source: torch.Tensor) -> torch.Tensor:
            seen.append(source)
            return source[:, 1:]

    seen: list[torch.Tensor] = []
    slices = TrainingSlices([MIXED]).seen_as(TWO)
    found = [translate_patient(Both(), patient, HARDWARE, TWO) for patient in patients(MIXED)]
    assert torch.equal(torch.cat(seen), slices.batch(np.arange(6))["source"])
    assert [round(float(one) * 65535) for one in torch.cat(found)[:, 0, 0].double()] == [
        *(2100, 2101),
        *(0, 0),
        *(2104, 2105),
    ]


def test_every_smaller_set_is_left_equally_often_and_never_the_empty_one() -> None:
    randoms = [np.random.default_rng([7, place]) for place in range(7000)]
    kept = kept_contrasts(np.ones((7000, 3), bool), 6 / 7, randoms)
    counts = Counter(map(tuple, kept.tolist()))
    assert len(counts) == 7 and (False, False, False) not in counts
    # 1000 expected of each; the standard deviation is 29.
    assert all(abs(count - 1000) < 120 for count in counts.values())


def test_a_contrast_that_a_patient_lacks_is_never_given_and_the_last_is_never_taken() -> None:
    present = np.array([[True, False, True], [False, True, False]] * 200)
    randoms = [np.random.default_rng([1, place]) for place in range(400)]
    kept = kept_contrasts(present, 1.0, randoms)
    assert not (kept & ~present).any() and (kept.sum(axis=1) == 1).all()
    assert kept[1::2].tolist() == [[False, True, False]] * 200
    untouched = kept_contrasts(present, 0.0, [np.random.default_rng(0)] * 400)
    assert np.array_equal(untouched, present)


def test_the_draws_of_a_step_follow_from_seed_learner_and_step_alone() -> None:
    slices = TrainingSlices([split_of(*[("t1", "flair")] * 20)]).seen_as(TWO)

    def step(seed: int, arm: str, first: int) -> torch.Tensor:
        source = BatchSource("pix2pix", slices, seed, arm, 8, contrast_dropout=0.6)
        (batch,) = source.batches(first, 1)
        return (batch["source"] == -1).flatten(2).all(-1)

    in_a_row = BatchSource("pix2pix", slices, 5, "north", 8, contrast_dropout=0.6).batches(0, 4)
    fourth = [(batch["source"] == -1).flatten(2).all(-1) for batch in in_a_row][3]
    assert torch.equal(step(5, "north", 3), fourth)
    assert fourth.any() and not fourth.all(dim=1).any()
    for other in (step(6, "north", 3), step(5, "east", 3), step(5, "north", 2)):
        assert not torch.equal(other, fourth)


def test_noise_does_not_fill_what_is_missing() -> None:
    settings = experiment_from({"training": {"augmentation": {"noise": 0.5}}}, "x").training
    augmenter = Augmenter(settings.augmentation, {"source": 0.0, "target": 0.0})
    slices = TrainingSlices([MIXED]).seen_as(TWO)
    source = BatchSource("pix2pix", slices, 1, "north", 6, augmenter)
    (batch,) = source.batches(0, 1)
    empty = (batch["source"] == -1).flatten(2).all(-1)
    noisy = batch["source"].flatten(2).std(-1) > 0
    assert empty.sum() == 4 and bool((empty | noisy).all())


def test_the_generator_and_the_discriminator_take_the_contrasts_as_channels() -> None:
    model = experiment_from({"data": {"preparation": PREPARATION}}, "x").model
    state = build_networks(model, seed=1).state_dict()
    assert state["generator.unet.model.0.conv.weight"].shape[1] == 2
    assert state["discriminator.patches.initial_conv.conv.weight"].shape[1] == 3


def test_settings_are_written_whole_and_only_where_they_are_used() -> None:
    plain = experiment_values(experiment_from({}, "x"))
    assert not {"source_contrasts", "contrast_dropout"} & {*plain["model"]}
    assert "further_sources" not in plain["data"]["preparation"]
    given = {"data": {"preparation": PREPARATION}, "model": {"contrast_dropout": 0.3}}
    experiment = experiment_from(given, "x")
    values = experiment_values(experiment)
    assert values["model"]["source_contrasts"] == 2  # what is told of a model alone says it, too
    assert experiment_from(values, "x") == experiment


@pytest.mark.parametrize(
    ("preparation", "model", "sentence"),
    [
        ({}, {"contrast_dropout": 0.3}, "the source is one contrast; name others"),
        (PREPARATION, {"contrast_dropout": 1.1}, "contrast_dropout is 1.1; it must be from 0 to 1"),
        (PREPARATION, {"source_contrasts": 3}, "source_contrasts is 3, but data.preparation names"),
        ({}, {"source_contrasts": 2}, "is 2, but data.preparation names 1 of the source"),
        (PREPARATION, {"neighbours": 1}, "model.neighbours 1 is for a source of one"),
        (PREPARATION, {"patch": [8, 32, 32]}, r"model.patch \[8, 32, 32\] is for a source of one"),
        (PREPARATION, {"name": "cyclegan"}, "'cyclegan' translates from one contrast that it also"),
        (
            PREPARATION,
            {"name": "conditional", "contrasts": ["t1", "t2", "flair"]},
            "'conditional' translates from one contrast that it also",
        ),
    ],
)
def test_what_several_contrasts_do_not_go_with_is_refused_before_the_first_round(
    preparation: dict[str, Any], model: dict[str, Any], sentence: str
) -> None:
    sharing = "generator" if model.get("name") == "conditional" else "generator+discriminator"
    values = {"data": {"preparation": preparation}, "model": model, "sharing": sharing}
    with pytest.raises(ConfigError, match=sentence):
        experiment_from(values, "x")
