"""Images from gradients: the linear attack must work, or no audit with it means anything."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import interpolate

from lightning_modules.configuration import ExperimentConfig, experiment_from
from lightning_modules.losses.adversarial import AdversarialLoss
from lightning_modules.networks.building import build_networks
from lightning_modules.privacy.attacks.gradient_matching import Search, match_gradients
from lightning_modules.privacy.attacks.linear_inversion import error_signs, sign_rates
from lightning_modules.privacy.attacks.similarity import likeness, nearest

SIZE = (24, 20)
NETWORKS = dict[str, nn.Module]
LGG_PATIENTS = ("TCGA_CS_4942_19970222", "TCGA_DU_5855_19951217")


@pytest.fixture(scope="module")
def experiment() -> ExperimentConfig:
    return experiment_from(
        {
            "data": {"preparation": {"size": list(SIZE)}},
            "model": {
                "generator": {"channels": [16, 32, 64]},
                "discriminator": {"channels": 8, "layers": 2},
            },
        },
        "test",
    )


@pytest.fixture(scope="module")
def networks(experiment: ExperimentConfig) -> NETWORKS:
    return dict(build_networks(experiment.model, 5).items())


def _slice(seed: int) -> Tensor:
    drawn = torch.from_numpy(np.random.default_rng(seed).uniform(-1, 1, size=(1, 1, 6, 5)))
    return interpolate(drawn, size=SIZE, mode="bicubic").clamp(-1, 1).float()


def _gradients(
    networks: NETWORKS, experiment: ExperimentConfig, source: Tensor, target: Tensor
) -> dict[str, Tensor]:
    """What one step on one pair would send, written out as the paper has it."""
    generator, judge = networks["generator"], networks["discriminator"]
    adversarial = AdversarialLoss(experiment.model.adversarial_loss)
    output = generator(source)
    loss = adversarial.generator(judge(source, output))
    loss = loss + experiment.model.lambda_l1 * (output - target).abs().mean()
    judged = adversarial.discriminator(judge(source, target), judge(source, output.detach()))
    return {
        **_named("generator", generator, loss),
        **_named("discriminator", judge, judged),
    }


def _named(name: str, network: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    keys = [f"{name}.{key}" for key, _ in network.named_parameters()]
    return dict(zip(keys, torch.autograd.grad(loss, list(network.parameters())), strict=True))


def _of_generator(gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        key.removeprefix("generator."): value
        for key, value in gradients.items()
        if key.startswith("generator.")
    }


def test_the_linear_attack_draws_the_contour_of_the_target(
    networks: NETWORKS, experiment: ExperimentConfig
) -> None:
    source, target = _slice(1), _slice(2)
    known = _of_generator(_gradients(networks, experiment, source, target))
    signs = error_signs(networks, experiment.model, source, known, most_iterations=80)
    with torch.no_grad():
        output = networks["generator"](source)
    everything = torch.ones(SIZE, dtype=torch.bool)
    rates = sign_rates(signs, output[0, 0], target[0, 0], everything)
    assert rates.everywhere >= 0.99
    assert rates.guess < 0.8
    scaled = {key: 0.01 * value for key, value in known.items()}
    again = error_signs(networks, experiment.model, source, scaled, most_iterations=80)
    assert float((again == signs).double().mean()) > 0.99


def test_the_linear_attack_draws_the_contours_of_real_patients(
    networks: NETWORKS, experiment: ExperimentConfig, shared_data: Path
) -> None:
    """T1 or FLAIR is known, and the signs of T2 or T1 after contrast are read from one step.

    One patient of each of three hospitals, as all eight of the folder take minutes.
    """
    everything = torch.ones(SIZE, dtype=torch.bool)
    pairs = _real_pairs(shared_data)
    for patient, (source, target) in pairs.items():
        known = _of_generator(_gradients(networks, experiment, source, target))
        signs = error_signs(networks, experiment.model, source, known, most_iterations=80)
        with torch.no_grad():
            output = networks["generator"](source)
        rates = sign_rates(signs, output[0, 0], target[0, 0], everything)
        assert rates.everywhere >= 0.99, patient
        assert rates.guess < 0.95, patient


def _real_pairs(folder: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """A slice of a patient of each hospital, small, in [-1, 1]."""
    found = {}
    stripped = folder / "open-ms" / "patient07"
    if stripped.is_dir():
        volumes = [np.asarray(nib.load(stripped / f"{n}.nii.gz").dataobj) for n in ("t1", "t2")]
        found[stripped.name] = (_shrunk(volumes[0][:, :, 95]), _shrunk(volumes[1][:, :, 95]))
    for case in (folder / "lgg" / "kaggle_3m" / name for name in LGG_PATIENTS):
        if not case.is_dir():
            continue
        middle = len(list(case.glob("*_mask.tif"))) // 2
        channels = np.asarray(Image.open(case / f"{case.name}_{middle}.tif"))
        found[case.name] = (_shrunk(channels[:, :, 1]), _shrunk(channels[:, :, 2]))
    return found or pytest.skip(f"no real scans of open-ms or TCGA-LGG at {folder}")


def _shrunk(image: NDArray[np.generic]) -> Tensor:
    values = torch.from_numpy(image.astype(np.float32))[None, None]
    values = interpolate(values, size=SIZE, mode="area")
    return 2 * (values / values.max()).clamp(0, 1) - 1


def test_noise_on_the_gradient_takes_the_contour_away(
    networks: NETWORKS, experiment: ExperimentConfig
) -> None:
    source, target = _slice(1), _slice(2)
    known = _of_generator(_gradients(networks, experiment, source, target))
    norm = float(torch.cat([value.flatten() for value in known.values()]).norm())
    draw = torch.Generator().manual_seed(0)
    count = sum(value.numel() for value in known.values())
    with torch.no_grad():
        output = networks["generator"](source)[0, 0]
    found = []
    for ratio in (0.3, 30.0):
        spread = ratio * norm / count**0.5
        noisy = {k: v + spread * torch.randn(v.shape, generator=draw) for k, v in known.items()}
        signs = error_signs(networks, experiment.model, source, noisy, noise_norm=ratio * norm)
        everything = torch.ones(SIZE, dtype=torch.bool)
        found.append(sign_rates(signs, output, target[0, 0], everything).everywhere)
    little, much = found
    assert 0.75 < little < 1.0
    assert much < 0.65


def test_the_true_images_explain_the_gradient_and_others_do_not(
    networks: NETWORKS, experiment: ExperimentConfig
) -> None:
    source, target = _slice(1), _slice(2)
    seen = _gradients(networks, experiment, source, target)
    nets = {**networks, "judge": networks["discriminator"]}
    once = Search(coarseness=(1,), iterations=1, smoothing=(1e-4, 1e-4))
    true = match_gradients(nets, experiment.model, seen, (source, target), False, once)
    other = match_gradients(nets, experiment.model, seen, (_slice(3), _slice(4)), False, once)
    assert true.left < 1e-3
    assert other.left > 0.2


def test_the_search_comes_nearer_and_keeps_to_the_signs(
    networks: NETWORKS, experiment: ExperimentConfig
) -> None:
    source, target = _slice(1), _slice(2)
    seen = _gradients(networks, experiment, source, target)
    nets = {**networks, "judge": networks["discriminator"]}
    start = (source, torch.zeros_like(target))
    search = Search(coarseness=(2, 1), iterations=25)
    with torch.no_grad():
        output = networks["generator"](source)[0, 0]
    signs = torch.where(output > target[0, 0], 1.0, -1.0)
    truth = ((target + 1) / 2)[0, 0].numpy()
    for bounds in (None, signs):
        found = match_gradients(nets, experiment.model, seen, start, True, search, bounds)
        assert torch.equal(found.source, source)
        assert likeness(((found.target + 1) / 2)[0, 0].numpy(), truth).r > 0.7
        beyond = signs * (found.target[0, 0] - output) > 1e-6
        assert bool(beyond.any()) == (bounds is None)


def test_an_image_is_most_like_itself() -> None:
    images = [((_slice(seed) + 1) / 2)[0, 0].numpy() for seed in range(4)]
    same = likeness(images[2], images[2])
    assert (same.ssim, same.r) == (pytest.approx(1.0), pytest.approx(1.0))
    assert same.psnr > 100
    assert nearest(images[2] * 0.5 + 0.1, images) == 2
    assert likeness(np.zeros(SIZE, dtype=np.float32), images[0]).r == 0.0
