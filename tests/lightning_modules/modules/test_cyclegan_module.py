"""CycleGAN's losses and steps against values computed by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_modules.configuration import TrainingConfig
from lightning_modules.data.slices import Batch
from lightning_modules.model_configuration import ModelConfig
from lightning_modules.modules import build_module
from lightning_modules.modules.cyclegan import CycleGANModule
from lightning_modules.networks.configuration import DiscriminatorConfig, GeneratorConfig
from lightning_modules.training.callbacks import RoundHistory
from lightning_modules.training.hardware import Hardware
from lightning_modules.training.trainer import quiet_trainer

NETWORKS = ("generator_ab", "generator_ba", "discriminator_a", "discriminator_b")
WEIGHTS = {
    "generator_ab": 2.0,
    "generator_ba": 3.0,
    "discriminator_a": 0.5,
    "discriminator_b": 0.25,
}
A, B = 0.5, 0.8
RATES = {"learning_rate_generator": 0.01, "learning_rate_discriminator": 0.1}


class _Times(nn.Module):
    """A network of one weight: it multiplies."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))

    def forward(self, image: Tensor) -> Tensor:
        return self.weight * image


def _module(weights: dict[str, float] = WEIGHTS, **model: Any) -> CycleGANModule:
    training = TrainingConfig(optimizer="sgd", **RATES)
    module = CycleGANModule(ModelConfig("cyclegan", **model), training, seed=1)
    for name, weight in weights.items():
        setattr(module, name, _Times(weight))
    return module


def _real(**small: Any) -> CycleGANModule:
    model = ModelConfig(
        "cyclegan", GeneratorConfig(channels=(4, 8)), DiscriminatorConfig(4, 1), **small
    )
    return CycleGANModule(model, TrainingConfig(), seed=1)


def _constant(value: float) -> Tensor:
    return torch.full((2, 1, 4, 4), value)


def _train(module: CycleGANModule, batches: Sequence[Batch]) -> dict[str, float]:
    history = RoundHistory(first_step=0, report=None)
    trainer = quiet_trainer(Hardware("cpu", "32-true", 1), [history])
    trainer.fit(module, DataLoader(list(batches), batch_size=None))  # type: ignore[arg-type]
    return history.means()


def _weights(module: CycleGANModule) -> dict[str, float]:
    return {name: float(getattr(module, name).weight.detach()) for name in NETWORKS}


def _moved(module: CycleGANModule, gradients: dict[str, float]) -> dict[str, float]:
    """The weights after one SGD step along gradients computed by hand."""
    rates = {"generator": 0.01, "discriminator": 0.1}
    return {
        name: WEIGHTS[name] - rates[name.split("_")[0]] * gradients.get(name, 0.0)
        for name in NETWORKS
    }


# Fake B is 2 * 0.5 = 1, fake A is 3 * 0.8 = 2.4; the judges multiply them by 0.25 and 0.5.
ADVERSARIAL_A, ADVERSARIAL_B = (0.25 * 1.0 - 1) ** 2, (0.5 * 2.4 - 1) ** 2
CYCLE_A, CYCLE_B = 3 * 1.0 - A, 2 * 2.4 - B
IDENTITY_A, IDENTITY_B = 3 * A - A, 2 * B - B
JUDGE_B = 0.5 * ((0.25 * B - 1) ** 2 + (0.25 * 1.0) ** 2)
JUDGE_A = 0.5 * ((0.5 * A - 1) ** 2 + (0.5 * 2.4) ** 2)
# Of adversarial, cycle from A (times 10), cycle from B (times 10), identity (times 10 * 0.5).
GRADIENT_AB = {"source": 2 * (0.25 - 1) * 0.25 * A + 10 * 3 * A, "target": 10 * 2.4 + 5 * B}
GRADIENT_BA = {"source": 10 * 1.0 + 5 * A, "target": 2 * (1.2 - 1) * 0.5 * B + 10 * 2 * B}
GRADIENTS_OF_JUDGES = {
    "discriminator_b": (0.25 * B - 1) * B + 0.25 * 1.0 * 1.0,
    "discriminator_a": (0.5 * A - 1) * A + 0.5 * 2.4 * 2.4,
}


def test_every_loss_is_the_one_computed_by_hand() -> None:
    losses = _train(_module(), [{"source": _constant(A), "target": _constant(B)}])
    expected = {
        "train/loss_adversarial": ADVERSARIAL_A + ADVERSARIAL_B,
        "train/cycle": CYCLE_A + CYCLE_B,
        "train/identity": IDENTITY_A + IDENTITY_B,
        "train/loss_discriminator": JUDGE_A + JUDGE_B,
    }
    expected["train/loss_generator"] = (
        expected["train/loss_adversarial"]
        + 10 * expected["train/cycle"]
        + 10 * 0.5 * expected["train/identity"]
    )
    assert losses == pytest.approx(expected, rel=1e-5)


def test_every_network_moves_along_the_gradient_of_its_own_loss_alone() -> None:
    module = _module()
    _train(module, [{"source": _constant(A), "target": _constant(B)}])
    gradients = {
        "generator_ab": sum(GRADIENT_AB.values()),
        "generator_ba": sum(GRADIENT_BA.values()),
        **GRADIENTS_OF_JUDGES,
    }
    assert _weights(module) == pytest.approx(_moved(module, gradients), rel=1e-5)


@pytest.mark.parametrize("domain", ["source", "target"])
def test_one_domain_trains_both_generators_and_leaves_the_judges(domain: str) -> None:
    module = _module()
    losses = _train(module, [{domain: _constant(A if domain == "source" else B)}])
    first = domain == "source"
    expected = {
        "train/loss_adversarial": ADVERSARIAL_A if first else ADVERSARIAL_B,
        "train/cycle": CYCLE_A if first else CYCLE_B,
        "train/identity": IDENTITY_A if first else IDENTITY_B,
    }
    expected["train/loss_generator"] = (
        expected["train/loss_adversarial"]
        + 10 * expected["train/cycle"]
        + 5 * expected["train/identity"]
    )
    assert losses == pytest.approx(expected, rel=1e-5)
    gradients = {"generator_ab": GRADIENT_AB[domain], "generator_ba": GRADIENT_BA[domain]}
    assert _weights(module) == pytest.approx(_moved(module, gradients), rel=1e-5)
    for name in ("discriminator_a", "discriminator_b"):
        assert _weights(module)[name] == WEIGHTS[name]
        assert getattr(module, name).weight.grad is None


def test_without_identity_loss_it_is_neither_descended_nor_reported() -> None:
    module = _module(lambda_identity=0.0)
    losses = _train(module, [{"source": _constant(A), "target": _constant(B)}])
    assert "train/identity" not in losses
    adversarial, cycle = losses["train/loss_adversarial"], losses["train/cycle"]
    assert losses["train/loss_generator"] == pytest.approx(adversarial + 10 * cycle)
    gradients = {
        "generator_ab": sum(GRADIENT_AB.values()) - 5 * B,
        "generator_ba": sum(GRADIENT_BA.values()) - 5 * A,
        **GRADIENTS_OF_JUDGES,
    }
    assert _weights(module) == pytest.approx(_moved(module, gradients), rel=1e-5)


def test_the_configured_weights_and_adversarial_loss_are_used() -> None:
    module = _module(adversarial_loss="bce", lambda_cycle=4.0, lambda_identity=0.25)
    losses = _train(module, [{"source": _constant(A)}])
    adversarial = float(torch.nn.functional.softplus(torch.tensor(-0.25)))
    assert losses["train/loss_adversarial"] == pytest.approx(adversarial, rel=1e-5)
    expected = adversarial + 4 * CYCLE_A + 4 * 0.25 * IDENTITY_A
    assert losses["train/loss_generator"] == pytest.approx(expected, rel=1e-5)


def test_frozen_networks_do_not_move_and_stay_frozen() -> None:
    module = _module()
    for name in ("generator_ab", "discriminator_b"):
        getattr(module, name).requires_grad_(False)
    _train(module, [{"source": _constant(A), "target": _constant(B)}])
    gradients = {
        "generator_ba": sum(GRADIENT_BA.values()),
        "discriminator_a": GRADIENTS_OF_JUDGES["discriminator_a"],
    }
    assert _weights(module) == pytest.approx(_moved(module, gradients), rel=1e-5)
    flags = {name: getattr(module, name).weight.requires_grad for name in NETWORKS}
    assert flags == {
        "generator_ab": False,
        "generator_ba": True,
        "discriminator_a": True,
        "discriminator_b": False,
    }


def test_the_translator_turns_a_source_into_a_target() -> None:
    assert torch.equal(_module()(_constant(A)), _constant(2.0 * A))


def test_the_judges_are_shown_translations_of_earlier_steps() -> None:
    """With the generators standing still, what is shown differs from step to step by age alone."""
    shown: list[float] = []

    class _Noting(_Times):
        def forward(self, image: Tensor) -> Tensor:
            if not image.requires_grad and image.flatten()[0] > 1:  # fakes in the judges' step
                shown.extend(float(value) for value in image[:, 0, 0, 0])
            return super().forward(image)

    module = _module({**WEIGHTS, "generator_ab": 1.0}, image_buffer=4)
    module.discriminator_b = _Noting(0.0)
    for generator in (module.generator_ab, module.generator_ba):
        generator.requires_grad_(False)
    batches = [{"source": _constant(float(2 + step)), "target": _constant(B)} for step in range(40)]
    _train(module, batches)
    # A step shows a batch of two slices twice: to the generators' loss, then to the judge.
    pairs = [shown[place : place + 2] for place in range(2, len(shown), 4)]
    assert len(pairs) == 40
    old = [value < 2 + step for step, pair in enumerate(pairs) for value in pair]
    assert 20 <= sum(old) <= 60
    assert all(value <= 2 + step for step, pair in enumerate(pairs) for value in pair)


def test_the_state_dict_holds_the_four_networks_and_nothing_else() -> None:
    module = _real()
    before = set(module.state_dict())
    assert {key.split(".")[0] for key in before} == set(NETWORKS)
    images = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    _train(module, [{"source": images, "target": -images}] * 3)
    assert set(module.state_dict()) == before
    assert {name for name, _ in module.named_buffers()} <= before


def test_what_is_shown_again_hangs_on_the_seed_of_the_round_and_not_on_draws_since() -> None:
    images = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))

    def judge(seed: int, draws: int) -> Tensor:
        module = _real(image_buffer=2)
        torch.manual_seed(seed)
        torch.rand(draws)
        _train(module, [{"source": images, "target": -images}] * 8)
        return torch.cat([p.detach().flatten() for p in module.discriminator_b.parameters()])

    assert torch.equal(judge(1, draws=0), judge(1, draws=7))
    assert not torch.equal(judge(1, draws=0), judge(2, draws=0))


def test_no_picture_outlives_the_round() -> None:
    module = _real()
    images = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    _train(module, [{"source": images, "target": -images}] * 3)
    assert all(not buffer._stored for buffer in module._shown_again.values())


def test_a_judge_that_is_not_trained_keeps_its_batch_statistics_as_well() -> None:
    model = ModelConfig(
        "cyclegan", GeneratorConfig(channels=(4, 8)), DiscriminatorConfig(4, 1, norm="batch")
    )
    module = CycleGANModule(model, TrainingConfig(), seed=1)
    images = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    before = {key: value.clone() for key, value in module.state_dict().items()}
    assert any("running_mean" in key for key in before)
    _train(module, [{"source": images}] * 3)
    after = module.state_dict()
    for key, value in before.items():
        if key.startswith("discriminator"):
            assert torch.equal(after[key], value), key
        elif key.endswith("weight"):
            assert not torch.equal(after[key], value), key
    _train(module, [{"source": images, "target": -images}] * 3)
    moved_statistics = [
        not torch.equal(module.state_dict()[key], value)
        for key, value in before.items()
        if "running_mean" in key
    ]
    assert all(moved_statistics)


@pytest.mark.parametrize("name", ["pix2pix", "cyclegan"])
def test_the_model_that_is_named_is_built(name: str) -> None:
    module = build_module(ModelConfig(name), TrainingConfig(), seed=1)
    assert isinstance(module, CycleGANModule) == (name == "cyclegan")
