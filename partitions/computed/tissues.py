"""Relaxation times and proton densities of the brain's tissues at 1.5 T and 3 T.

Sources:
    T1 of grey and white matter: the power laws T1 = 0.00116 f^0.376 s (grey) and 0.00071 f^0.382 s
    (white), f the proton frequency in Hz, and T1 = 4.3 s of CSF at any field: Rooney et al., Magn
    Reson Med 2007;57:308-318, doi:10.1002/mrm.21122.
    T2 of grey and white matter: Stanisz et al., Magn Reson Med 2005;54:507-512,
    doi:10.1002/mrm.20605 (bovine tissue at 37 degrees Celsius; 1.5 T values as commonly quoted).
    T2* of grey and white matter, as commonly quoted from: Peters et al., Magn Reson Imaging
    2007;25:748-753, doi:10.1016/j.mri.2007.02.014.
    Proton densities, T2* of CSF and all lesion values: BrainWeb, Kwan, Evans and Pike, IEEE Trans
    Med Imaging 1999;18:1085-1097, doi:10.1109/42.816072 (multiple-sclerosis lesion 752/237/204 ms,
    0.76; white matter there 500/70/61 ms). The lesion's T1 keeps BrainWeb's ratio to white matter,
    752/500, and its T2* is scaled from 1.5 T to 3 T as white matter's is.
    T2 of CSF: 2 s, commonly quoted; it is so much longer than any echo time that it matters little.
    T1 and T2 of muscle (skin is given the same): Stanisz et al., as above. Fat: commonly quoted
    values. T2* and muscle's proton density: choices. Compact bone and air give no signal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fedi2i.errors import ConfigError

TISSUES = ("gm", "wm", "csf", "lesion")

RELATIVE_SD_TIMES = 0.03
"""Standard deviation of a subject's relaxation times, relative to the mean; a choice."""

RELATIVE_SD_DENSITY = 0.01
"""The same for proton density."""


@dataclass(frozen=True)
class Tissue:
    """What one tissue brings to the signal.

    Attributes:
        t1: longitudinal relaxation time, ms.
        t2: transverse relaxation time, ms.
        t2_star: effective transverse relaxation time, ms.
        proton_density: relative to water, 0..1.
    """

    t1: float
    t2: float
    t2_star: float
    proton_density: float


BY_FIELD: dict[float, dict[str, Tissue]] = {
    1.5: {
        "gm": Tissue(t1=998.0, t2=95.0, t2_star=84.0, proton_density=0.86),
        "wm": Tissue(t1=680.0, t2=72.0, t2_star=66.2, proton_density=0.77),
        "csf": Tissue(t1=4300.0, t2=2000.0, t2_star=58.0, proton_density=1.0),
        "lesion": Tissue(t1=1023.0, t2=237.0, t2_star=204.0, proton_density=0.76),
    },
    3.0: {
        "gm": Tissue(t1=1296.0, t2=99.0, t2_star=66.0, proton_density=0.86),
        "wm": Tissue(t1=887.0, t2=69.0, t2_star=53.2, proton_density=0.77),
        "csf": Tissue(t1=4300.0, t2=2000.0, t2_star=58.0, proton_density=1.0),
        "lesion": Tissue(t1=1334.0, t2=237.0, t2_star=164.0, proton_density=0.76),
    },
}

SCALP_BY_FIELD: dict[float, dict[str, Tissue]] = {
    1.5: {
        "muscle": Tissue(t1=1008.0, t2=44.0, t2_star=35.0, proton_density=0.80),
        "fat": Tissue(t1=300.0, t2=110.0, t2_star=30.0, proton_density=1.0),
    },
    3.0: {
        "muscle": Tissue(t1=1412.0, t2=50.0, t2_star=28.0, proton_density=0.80),
        "fat": Tissue(t1=380.0, t2=110.0, t2_star=22.0, proton_density=1.0),
    },
}
"""Tissues around the brain; the same in every subject."""


def tissues_at(field_strength: float) -> Mapping[str, Tissue]:
    """The mean tissue parameters at a field strength in tesla.

    Raises:
        ConfigError: no values are tabulated for that field.
    """
    if field_strength not in BY_FIELD:
        known = ", ".join(f"{field:g}" for field in BY_FIELD)
        raise ConfigError(
            f"field_strength: no tissue parameters at {field_strength:g} T; choose one of {known}"
        )
    return BY_FIELD[field_strength]


def draw_tissues(field_strength: float, rng: np.random.Generator) -> dict[str, Tissue]:
    """One subject's tissue parameters, a few percent around the means (at most 2.5 SD away)."""
    drawn = {}
    for name in TISSUES:
        mean = tissues_at(field_strength)[name]
        factors = np.clip(rng.standard_normal(4), -2.5, 2.5)
        drawn[name] = Tissue(
            t1=mean.t1 * float(1 + RELATIVE_SD_TIMES * factors[0]),
            t2=mean.t2 * float(1 + RELATIVE_SD_TIMES * factors[1]),
            t2_star=mean.t2_star * float(1 + RELATIVE_SD_TIMES * factors[2]),
            proton_density=min(
                1.0, mean.proton_density * float(1 + RELATIVE_SD_DENSITY * factors[3])
            ),
        )
    return drawn
