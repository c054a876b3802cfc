"""Patient-level differential privacy: one step's gradient, clipped patient by patient and noised.

Abadi et al., CCS 2016 (doi:10.1145/2976749.2978318, algorithm 1), with the patient in place of the
example, as users stand in for examples in McMahan et al., ICLR 2018 (arXiv:1710.06963): a patient's
slices are averaged before they are clipped, so that one with many of them counts as one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from lightning_modules.data.slices import Batch
from lightning_modules.privacy.update_noise import Noise

Loss = Callable[[Batch], Tensor]
"""The loss of a network on a batch: a mean over its slices."""


def noised_gradient(
    loss: Loss,
    parameters: Sequence[Tensor],
    patients: Iterable[Batch],
    *,
    clipping: float,
    noise_multiplier: float,
    expected_patients: float,
    noise: Noise,
) -> list[Tensor]:
    """The gradient (sum of clipped gradients + N(0, (sigma C)^2)) / expected number of patients.

    Patients are taken one after the other, and each is clipped and added at once: no memory is
    needed per patient, and any layer will do. Where nobody was drawn the gradient is noise alone,
    and the divisor does not depend on who was: both would tell.

    Args:
        loss: of the network, on one patient's slices.
        parameters: the network's trainable parameters.
        patients: the slices of each patient who was drawn.
        clipping: C, the norm over all parameters together.
        noise_multiplier: sigma.
        expected_patients: the divisor, a constant.
        noise: draws standard normal values.

    Returns:
        A tensor per parameter, of its shape, type and device.
    """
    sums = [torch.zeros_like(parameter, dtype=torch.float64) for parameter in parameters]
    for patient in patients:
        add_clipped(sums, patient_gradient(loss, parameters, patient), clipping)
    return [
        ((total + _noise_like(total, noise_multiplier * clipping, noise)) / expected_patients).to(
            parameter.dtype
        )
        for total, parameter in zip(sums, parameters, strict=True)
    ]


def patient_gradient(loss: Loss, parameters: Sequence[Tensor], patient: Batch) -> list[Tensor]:
    """The gradient of one patient's loss; zero for parameters that it does not depend on.

    Layers that draw at random (dropout) draw anew for every patient from the system's entropy. With
    one stream for all, the draws of the others would hang on whether this patient is there.
    """
    torch.manual_seed(int.from_bytes(os.urandom(8), "big") >> 1)
    found = torch.autograd.grad(loss(patient), list(parameters), allow_unused=True)
    return [
        torch.zeros_like(parameter) if gradient is None else gradient
        for gradient, parameter in zip(found, parameters, strict=True)
    ]


def add_clipped(sums: Sequence[Tensor], gradient: Sequence[Tensor], clipping: float) -> None:
    """Add g min(1, C / ||g||) to sums in float64.

    A gradient that is not finite counts as 0. To stop there would tell that this patient was drawn.
    """
    exact = [part.detach().double() for part in gradient]
    norm = torch.stack(torch._foreach_norm(exact)).norm()
    if not bool(torch.isfinite(norm)):
        return
    torch._foreach_mul_(exact, float(clipping / norm.clamp_min(clipping)))
    torch._foreach_add_(list(sums), exact)


def _noise_like(total: Tensor, deviation: float, noise: Noise) -> Tensor:
    drawn = torch.from_numpy(noise(total.numel())).reshape(total.shape)
    return deviation * drawn.to(total.device)
