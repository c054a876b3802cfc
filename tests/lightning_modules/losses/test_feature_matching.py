"""The feature matching of pix2pixHD, against hand-made values and the layers of a discriminator."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from fedi2i.errors import ConfigError
from lightning_modules.configuration import TrainingConfig, experiment_from, experiment_values
from lightning_modules.losses.feature_matching import feature_matching
from lightning_modules.model_configuration import ModelConfig
from lightning_modules.modules import build_module
from lightning_modules.networks.configuration import DiscriminatorConfig, GeneratorConfig

MODEL = ModelConfig(
    "pix2pix", GeneratorConfig(channels=(4, 8)), DiscriminatorConfig(4, 2), lambda_features=10.0
)


def _losses(model: ModelConfig, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    module: Any = build_module(model, TrainingConfig(), seed=3)
    losses: dict[str, Tensor] = module._translating(
        batch["source"], batch["target"], module.generator(batch["source"])
    )
    return losses


@pytest.fixture
def batch() -> dict[str, Tensor]:
    draws = torch.Generator().manual_seed(5)
    return {name: torch.rand(2, 1, 32, 32, generator=draws) for name in ("source", "target")}


def test_layers_of_any_size_count_by_their_mean_difference() -> None:
    real = [torch.zeros(1, 2, 2, 2), torch.ones(1, 1, 1, 1)]
    fake = [torch.full((1, 2, 2, 2), -3.0), torch.tensor([[[[1.5]]]])]
    assert float(feature_matching(real, fake)) == pytest.approx(3.0 + 0.5)


def test_no_gradient_reaches_what_real_slices_look_like() -> None:
    real, fake = (torch.rand(1, 2, 3, 3, requires_grad=True) for _ in range(2))
    feature_matching([real], [fake]).backward()
    assert real.grad is None
    assert fake.grad is not None and bool(fake.grad.abs().sum() > 0)


def test_the_term_is_the_difference_of_the_inner_layers_and_never_of_the_logits(
    batch: dict[str, Tensor],
) -> None:
    """The layers are run one by one here, over the discriminator's own children."""
    module: Any = build_module(MODEL, TrainingConfig(), seed=3)
    translated = module.generator(batch["source"])
    pairs = [torch.cat([batch["source"], image], 1) for image in (batch["target"], translated)]
    expected = 0.0
    for layer in list(module.discriminator.patches.children())[:-1]:
        pairs = [layer(pair) for pair in pairs]
        expected += float((pairs[0] - pairs[1]).detach().abs().mean())
    losses = _losses(MODEL, batch)
    assert float(losses["train/feature_matching"].detach()) == pytest.approx(expected, rel=1e-5)
    parts = losses["train/loss_adversarial"] + 100 * losses["train/l1"] + 10 * expected
    torch.testing.assert_close(losses["train/loss_generator"], parts, rtol=1e-5, atol=0)


def test_without_a_weight_a_step_is_what_it_was(batch: dict[str, Tensor]) -> None:
    losses = _losses(replace(MODEL, lambda_features=0.0), batch)
    assert "train/feature_matching" not in losses
    parts = losses["train/loss_adversarial"] + 100 * losses["train/l1"]
    torch.testing.assert_close(losses["train/loss_generator"], parts, rtol=0, atol=0)


def test_the_discriminator_takes_no_gradient_from_it(batch: dict[str, Tensor]) -> None:
    module: Any = build_module(MODEL, TrainingConfig(), seed=3)
    translated = module.generator(batch["source"])
    losses = module._translating(batch["source"], batch["target"], translated)
    losses["train/loss_generator"].backward()
    assert all(parameter.grad is None for parameter in module.discriminator.parameters())
    assert all(parameter.grad is not None for parameter in module.generator.parameters())


def test_a_weight_is_written_only_where_it_is_set() -> None:
    unset = experiment_values(experiment_from({}, "x"))["model"]
    assert "lambda_features" not in unset
    chosen = experiment_from({"model": {"lambda_features": 10}}, "x")
    assert experiment_values(chosen)["model"]["lambda_features"] == 10.0


@pytest.mark.parametrize(
    ("model", "refusal"),
    {
        "cyclegan": ({"name": "cyclegan"}, "model 'cyclegan' has no such term"),
        "regression": ({"name": "regression"}, "model 'regression' has no such term"),
        "own discriminator": (
            {"discriminator": {"path": "my_lab.nets.Judge"}},
            "a network of your own gives its logits alone",
        ),
    }.values(),
)
def test_a_model_without_such_a_term_refuses_its_weight(
    model: dict[str, Any], refusal: str
) -> None:
    values: dict[str, Any] = {"model": {"lambda_features": 10, **model}}
    if model.get("name") == "cyclegan":
        values["data"] = {"preparation": {"pairing": "unpaired"}}
    if model.get("name") == "regression":
        values["sharing"] = "generator"
    with pytest.raises(ConfigError, match=f"x: model.lambda_features .*{refusal}"):
        experiment_from(values, "x")
