"""Steady-state MR signal equations, one pure function per sequence.

All times are in milliseconds. Arrays broadcast; the result is in units of proton density times
equilibrium magnetisation, before coil sensitivity, gain and noise.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]


def spin_echo(
    proton_density: ArrayLike, t1: ArrayLike, t2: ArrayLike, tr: float, te: float
) -> FloatArray:
    r"""Signal of a 90-180 degree spin echo.

    .. math:: S = \rho \, (1 - e^{-TR/T_1}) \, e^{-TE/T_2}, \qquad TE \ll TR

    Source: spin echoes, Hahn, Phys Rev 1950;80:580-594, doi:10.1103/PhysRev.80.580; the imaging
    form with repetition, Bernstein, King and Zhou, Handbook of MRI Pulse Sequences, 2004.

    Args:
        proton_density: relative to water, 0..1.
        t1: longitudinal relaxation time in ms, above 0.
        t2: transverse relaxation time in ms, above 0.
        tr: repetition time in ms.
        te: echo time in ms.

    Returns:
        Signal, at least 0, of the broadcast shape.
    """
    recovered = -np.expm1(-tr / np.asarray(t1, dtype=np.float64))
    return np.asarray(proton_density, dtype=np.float64) * recovered * _decay(te, t2)


def spoiled_gradient_echo(
    proton_density: ArrayLike,
    t1: ArrayLike,
    t2_star: ArrayLike,
    tr: float,
    te: float,
    flip_degrees: float,
) -> FloatArray:
    r"""Steady-state signal of a perfectly spoiled gradient echo.

    .. math:: S = \rho \, \sin\alpha \, \frac{1 - E_1}{1 - E_1 \cos\alpha} \, e^{-TE/T_2^*},
              \qquad E_1 = e^{-TR/T_1}

    It is largest at the Ernst angle, arccos(E1). Source: Ernst and Anderson, Rev Sci Instrum
    1966;37:93-102, doi:10.1063/1.1719961.

    Args:
        proton_density: relative to water, 0..1.
        t1: longitudinal relaxation time in ms, above 0.
        t2_star: effective transverse relaxation time in ms, above 0.
        tr: repetition time in ms.
        te: echo time in ms.
        flip_degrees: flip angle in degrees.

    Returns:
        Signal of the broadcast shape.
    """
    flip = np.deg2rad(flip_degrees)
    e1 = np.exp(-tr / np.asarray(t1, dtype=np.float64))
    steady = np.sin(flip) * (1 - e1) / (1 - np.cos(flip) * e1)
    return np.asarray(np.asarray(proton_density) * steady * _decay(te, t2_star))


def inversion_recovery_spin_echo(
    proton_density: ArrayLike, t1: ArrayLike, t2: ArrayLike, tr: float, te: float, ti: float
) -> FloatArray:
    r"""Signed signal of an inversion-recovery spin echo; its magnitude makes a FLAIR image.

    .. math:: S = \rho \, (1 - 2 e^{-TI/T_1} + e^{-TR/T_1}) \, e^{-TE/T_2}, \qquad TE \ll TR

    The sign is kept because the tissues of one voxel add before the magnitude is taken. Source:
    FLAIR, Hajnal et al., J Comput Assist Tomogr 1992;16:841-844; the equation, Bernstein, King and
    Zhou, Handbook of MRI Pulse Sequences, 2004.

    Args:
        proton_density: relative to water, 0..1.
        t1: longitudinal relaxation time in ms, above 0.
        t2: transverse relaxation time in ms, above 0.
        tr: repetition time in ms.
        te: echo time in ms.
        ti: inversion time in ms.

    Returns:
        Signed signal of the broadcast shape.
    """
    t1 = np.asarray(t1, dtype=np.float64)
    recovered = 1 - 2 * np.exp(-ti / t1) + np.exp(-tr / t1)
    return np.asarray(np.asarray(proton_density) * recovered * _decay(te, t2))


def _decay(te: float, transverse: ArrayLike) -> FloatArray:
    return np.exp(-te / np.asarray(transverse, dtype=np.float64))
