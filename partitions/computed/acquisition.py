"""From tissue fractions to the image a scanner stores: signal, receive field, noise."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from partitions.computed.anatomy import Fractions
from partitions.computed.signals import (
    inversion_recovery_spin_echo,
    spin_echo,
    spoiled_gradient_echo,
)
from partitions.computed.site_profiles import GradientEcho, Sequence, SpinEcho
from partitions.computed.tissues import TISSUES, Tissue

FloatArray = NDArray[np.float64]

T1_DETAIL = 0.10
"""Relative shortening of T1 where the template is one unit of detail brighter than its tissue."""

T2_DETAIL = 0.07
"""The same for T2 and T2*: iron and myelin shorten both."""

BIAS_SIGMA_MM = 45.0
BIAS_STEP = 4
"""Voxels between the nodes the receive field is drawn on."""


def tissue_signal(
    sequence: Sequence, tissue: Tissue, t1_factor: FloatArray | float, t2_factor: FloatArray | float
) -> FloatArray:
    """Signed signal of one pure tissue whose relaxation times are scaled voxel by voxel."""
    t1, t2 = tissue.t1 * t1_factor, tissue.t2 * t2_factor
    density = tissue.proton_density
    if isinstance(sequence, SpinEcho):
        return spin_echo(density, t1, t2, sequence.tr, sequence.te)
    if isinstance(sequence, GradientEcho):
        t2_star = tissue.t2_star * t2_factor
        return spoiled_gradient_echo(density, t1, t2_star, sequence.tr, sequence.te, sequence.flip)
    return inversion_recovery_spin_echo(density, t1, t2, sequence.tr, sequence.te, sequence.ti)


def noise_free_magnitude(
    fractions: Fractions,
    where: NDArray[np.bool_],
    tissues: Mapping[str, Tissue],
    sequence: Sequence,
) -> FloatArray:
    """Magnitude of the fraction-weighted sum of the tissues' signed signals.

    The template's within-tissue detail scales T1, T2 and T2* of grey and white matter by at most
    10 %; CSF and lesions stay uniform.

    Args:
        fractions: what each voxel holds.
        where: the N voxels to compute.
        tissues: the subject's tissue parameters.
        sequence: the protocol.

    Returns:
        Array of shape (N,), at least 0.
    """
    detail = np.clip(fractions.detail[where], -1, 1)
    t1_factor, t2_factor = 1 - T1_DETAIL * detail, 1 - T2_DETAIL * detail
    signal = np.zeros(detail.shape)
    for name in TISSUES:
        factors = (t1_factor, t2_factor) if name in ("gm", "wm") else (1.0, 1.0)
        signal += getattr(fractions, name)[where] * tissue_signal(sequence, tissues[name], *factors)
    return np.abs(signal)


def receive_field(
    brain: NDArray[np.bool_],
    spacing_mm: tuple[float, float, float],
    rms: float,
    rng: np.random.Generator,
) -> FloatArray:
    """A smooth multiplicative field around 1 in the N voxels of the brain.

    Args:
        brain: the brain mask.
        spacing_mm: voxel size.
        rms: root mean square of the field's logarithm inside the brain, around its mean there.
        rng: source of the field.

    Returns:
        Array of shape (N,), above 0.
    """
    coarse_shape = tuple(-(-size // BIAS_STEP) + 1 for size in brain.shape)
    sigma = [BIAS_SIGMA_MM / (BIAS_STEP * spacing) for spacing in spacing_mm]
    coarse = ndimage.gaussian_filter(rng.standard_normal(coarse_shape), sigma, mode="reflect")
    log_field = ndimage.map_coordinates(coarse, np.argwhere(brain).T / BIAS_STEP, order=1)
    log_field = log_field - log_field.mean()
    return np.asarray(np.exp(rms * log_field / np.sqrt((log_field**2).mean())))


def rician(image: FloatArray, sigma: float, rng: np.random.Generator) -> FloatArray:
    """Magnitude of a real signal with complex Gaussian noise of standard deviation ``sigma``.

    Source: Gudbjartsson and Patz, Magn Reson Med 1995;34:910-914, doi:10.1002/mrm.1910340618.
    """
    real = image + sigma * rng.standard_normal(image.shape)
    imaginary = sigma * rng.standard_normal(image.shape)
    return np.hypot(real, imaginary)
