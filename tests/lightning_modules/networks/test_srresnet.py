"""The generator of SRGAN at the resolution of its input."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from fedi2i.errors import ConfigError
from lightning_modules.configuration import ExperimentConfig, experiment_from
from lightning_modules.networks.configuration import GeneratorConfig
from lightning_modules.networks.generators.catalogue import build_generator
from lightning_modules.training.learner import Learner

SETTINGS = GeneratorConfig("srresnet", (32, 32), residual_units=4)


def test_its_parameters_are_those_of_the_layers_that_the_paper_counts() -> None:
    ends = 9 * 9 * 32 + 32 + 9 * 9 * 32 + 1
    convolutions = (2 * 8 + 1) * (3 * 3 * 32 * 32 + 32)  # two for each block, one after the last
    activations = 1 + 8
    built = build_generator(SETTINGS)
    assert sum(p.numel() for p in built.parameters()) == ends + convolutions + activations


def test_any_size_of_slices_is_taken_and_kept() -> None:
    built = build_generator(GeneratorConfig("srresnet", (4, 6), residual_units=1))
    assert built(torch.zeros(1, 1, 31, 17)).shape == (1, 1, 31, 17)


def test_a_pixel_sees_as_far_as_two_pixels_per_block_and_the_ends_reach() -> None:
    # Without normalisation, which sees the whole slice: batch norm in evaluation.
    config = GeneratorConfig("srresnet", (4, 4), residual_units=1, norm="batch")
    built = build_generator(config).eval()
    image = torch.zeros(1, 1, 48, 48)
    spot = image.clone()
    spot[0, 0, 24, 24] = 1.0
    changed = (built(image) != built(spot))[0, 0].any(dim=0).nonzero().flatten()
    reach = 4 + 2 * 2 + 1 + 4
    assert (int(changed.min()), int(changed.max())) == (24 - reach, 24 + reach)


def test_nothing_is_made_smaller_on_the_way() -> None:
    built = build_generator(SETTINGS)
    strides = {m.stride for m in built.modules() if isinstance(m, nn.Conv2d)}
    assert strides == {(1, 1)}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"residual_units": 0}, "give at least 1 for each"),
        ({"residual_units": 1, "upsampling": "nearest"}, "has no way up; leave the key out"),
    ],
)
def test_settings_that_mean_nothing_for_it_are_refused(
    changes: dict[str, object], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        experiment_from({"model": {"generator": {"kind": "srresnet", **changes}}}, "x")


def test_a_site_learns_with_it(
    make_experiment: Callable[..., ExperimentConfig], make_learner: Callable[..., Learner]
) -> None:
    generator = {"kind": "srresnet", "channels": [8, 8], "residual_units": 1}
    experiment = make_experiment(
        model={"generator": generator},
        training={"rounds": 2, "steps": 30, "learning_rate_generator": 5e-3},
    )
    learner = make_learner(experiment)
    first = learner.train(learner.initial_state(), 0)
    second = learner.train(first.state, 1)
    assert second.metrics["train/l1"] < 0.8 * first.metrics["train/l1"]
