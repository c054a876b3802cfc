"""One step's gradient by patients: against torch.func and Opacus, its clipping and its noise."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from lightning_modules.configuration import ExperimentConfig, experiment_from
from lightning_modules.data.slices import Batch
from lightning_modules.modules import build_module
from lightning_modules.privacy.patient_noise import (
    Loss,
    add_clipped,
    noised_gradient,
    patient_gradient,
)
from lightning_modules.privacy.update_noise import system_noise

SIZE = (32, 32)


def experiment(kind: str = "unet") -> ExperimentConfig:
    return experiment_from(
        {
            "data": {"preparation": {"size": list(SIZE)}},
            "model": {
                "generator": {
                    "kind": kind,
                    "channels": [4, 8],
                    "residual_units": int(kind == "resnet"),
                },
                "discriminator": {"channels": 4, "layers": 2},
            },
        },
        "test",
    )


def module(kind: str = "unet") -> Any:
    config = experiment(kind)
    return build_module(config.model, config.training, 7)


def patient(seed: int, slices: int = 2) -> Batch:
    random = torch.Generator().manual_seed(seed)
    source, target = torch.rand(2, slices, 1, *SIZE, generator=random) * 2 - 1
    return {"source": source, "target": target}


def whole(gradient: Any) -> Tensor:
    return torch.cat([part.double().reshape(-1) for part in gradient])


def distance(one: Any, other: Any) -> float:
    """Relative distance of whole vectors; biases before a normalisation are rounding alone."""
    return float(((whole(one) - whole(other)).norm() / whole(other).norm()).detach())


def written_out(plain: Any, name: str) -> Callable[[dict[str, Tensor], Tensor, Tensor], Tensor]:
    """The losses of the papers, as functions of one network's parameters."""
    generator, discriminator = plain.generator, plain.discriminator

    def of_generator(values: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        fake = functional_call(generator, values, (x,))
        judged: Tensor = discriminator(x, fake)
        return (judged - 1).square().mean() + 100.0 * (fake - y).abs().mean()

    def of_discriminator(values: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        real = functional_call(discriminator, values, (x, y))
        fake = functional_call(discriminator, values, (x, generator(x).detach()))
        return 0.5 * ((real - 1).square().mean() + fake.square().mean())

    return of_generator if name == "generator" else of_discriminator


@pytest.mark.parametrize("kind", ["unet", "resnet"])
@pytest.mark.parametrize("name", ["generator", "discriminator"])
def test_the_loop_gives_the_gradients_of_torch_func(kind: str, name: str) -> None:
    plain = module(kind)
    network = getattr(plain, name)
    patients = [patient(seed) for seed in range(3)]
    stacked = [torch.stack([p[domain] for p in patients]) for domain in ("source", "target")]
    values = {key: parameter.detach() for key, parameter in network.named_parameters()}
    by_patient = vmap(grad(written_out(plain, name)), in_dims=(None, 0, 0))
    expected = by_patient(values, *stacked)
    for number, one in enumerate(patients):
        found = patient_gradient(plain.network_losses()[name], list(network.parameters()), one)
        assert distance(found, [value[number] for value in expected.values()]) <= 1e-5


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["generator", "discriminator"])
def test_the_loop_gives_the_gradients_of_opacus(name: str) -> None:
    opacus = pytest.importorskip("opacus", reason="needs opacus")
    plain = module()
    patients = [patient(seed, slices=1) for seed in range(4)]
    together = {k: torch.cat([p[k] for p in patients]) for k in ("source", "target")}
    other = copy.deepcopy(plain)
    sampled = opacus.GradSampleModule(getattr(other, name), loss_reduction="mean")
    setattr(other, name, sampled)
    other.network_losses()[name](together).backward()
    own = list(getattr(plain, name).parameters())
    for number, one in enumerate(patients):
        found = patient_gradient(plain.network_losses()[name], own, one)
        expected = [p.grad_sample[number] for p in sampled.parameters()]
        assert distance(found, expected) <= 1e-5


def test_losses_by_patient_are_those_of_the_plain_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its optimizers stand still, so that the generator meets the same discriminator."""
    plain, batch = module(), patient(1)
    optimizers = plain.configure_optimizers()
    for optimizer in optimizers:
        monkeypatch.setattr(optimizer, "step", lambda: None)
    monkeypatch.setattr(plain, "optimizers", lambda: optimizers)
    monkeypatch.setattr(plain, "manual_backward", lambda loss: loss.backward(), raising=False)
    monkeypatch.setattr(type(plain), "trainer", type("NoTrainer", (), {"loggers": ()}))
    plain.training_step(batch, 0)
    for name, loss in plain.network_losses().items():
        own = list(getattr(plain, name).parameters())
        expected = [parameter.grad.clone() for parameter in own]
        assert distance(patient_gradient(loss, own, batch), expected) <= 1e-6


def linear() -> tuple[list[Tensor], Loss]:
    """A loss whose gradient is the mean of a patient's slices."""
    weights = torch.zeros(3, requires_grad=True)
    return [weights], lambda batch: (batch["source"] @ weights).mean()


def clipped(patients: list[Batch], clipping: float) -> Tensor:
    parameters, loss = linear()
    (found,) = noised_gradient(
        loss,
        parameters,
        patients,
        clipping=clipping,
        noise_multiplier=1.0,
        expected_patients=1.0,
        noise=np.zeros,
    )
    return found


def test_a_patient_with_three_and_one_with_thirty_slices_move_the_sum_alike() -> None:
    direction = torch.tensor([3.0, 0.0, 4.0])
    few, many = ({"source": direction.repeat(count, 1)} for count in (3, 30))
    torch.testing.assert_close(clipped([few], 2.0), direction / 5 * 2)
    torch.testing.assert_close(clipped([few], 2.0), clipped([many], 2.0))
    torch.testing.assert_close(clipped([few, many], 2.0), 2 * direction / 5 * 2)
    torch.testing.assert_close(clipped([few], 50.0), direction)  # short ones stay as they are


def test_nobody_moves_the_sum_by_more_than_the_clipping_norm() -> None:
    """Patients are added one by one, whatever their gradients: huge, tiny, infinite or none."""
    total = [torch.zeros(5, dtype=torch.float64)]
    for scale in (1e-30, 1.0, 1e12, 1e38, float("inf"), float("nan")):
        before = total[0].clone()
        add_clipped(total, [scale * torch.ones(5)], 0.5)
        assert float((total[0] - before).norm()) <= 0.5 + 1e-12
    assert bool(torch.isfinite(total[0]).all())


@pytest.mark.parametrize("drawn", [0, 1, 5])
def test_the_noise_is_sigma_times_c_over_a_constant_however_many_were_drawn(drawn: int) -> None:
    weights = torch.zeros(1_000_000, requires_grad=True)
    (found,) = noised_gradient(
        lambda _: 0.0 * weights.sum(),
        [weights],
        [{}] * drawn,
        clipping=2.0,
        noise_multiplier=3.0,
        expected_patients=4.0,
        noise=system_noise(),
    )
    assert float(found.std()) == pytest.approx(3.0 * 2.0 / 4.0, rel=0.01)
    assert float(found.mean()) == pytest.approx(0.0, abs=0.01)


def test_a_patient_s_dropout_hangs_on_nobody_else() -> None:
    """The experiment's seed would make the draws of the second hang on whether the first is there.

    So with a seed set before, neither repeats.
    """
    weights = torch.ones(1000, requires_grad=True)

    def loss(_: Batch) -> Tensor:
        return nn.functional.dropout(weights, 0.5).sum()

    found = []
    for _ in range(3):
        torch.manual_seed(1)
        found.append(patient_gradient(loss, [weights], {})[0])
    assert not torch.equal(found[0], found[1])
    assert not torch.equal(found[1], found[2])
