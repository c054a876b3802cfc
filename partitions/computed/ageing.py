"""How age changes a computed brain: wider ventricles, wider sulci, more white-matter lesions.

The directions are those of the literature (ventricles and lesions: Raz and Rodrigue, Neurosci
Biobehav Rev 2006;30:730-748, doi:10.1016/j.neubiorev.2006.07.001); the amounts are chosen for a
plausible look and are no model of ageing.
"""

from __future__ import annotations

import numpy as np

TEMPLATE_AGE = 25.0
"""Years up to which a subject keeps the ventricles and sulci of the (young adult) template."""

YOUNGEST, OLDEST = 20.0, 88.0


def draw_age(mean: float, sd: float, rng: np.random.Generator) -> int:
    """An adult's age in whole years."""
    return round(float(np.clip(rng.normal(mean, sd), YOUNGEST, OLDEST)))


def years_beyond_template(age: float) -> float:
    """Years past the template's age, at least 0."""
    return max(0.0, age - TEMPLATE_AGE)


def ventricle_shift_mm(age: float, individual: float = 0.0) -> float:
    """How far the ventricle walls move outwards, in mm (0..5).

    Args:
        age: years.
        individual: the subject's own deviation in mm; 0 gives the mean of that age.
    """
    return float(np.clip(0.075 * years_beyond_template(age) + individual, 0.0, 5.0))


def csf_weight(age: float) -> float:
    """Relative weight of CSF where tissues share a voxel; above 1 it widens the sulci."""
    return 1.15 + 0.012 * years_beyond_template(age)


def expected_lesions(age: float) -> float:
    """Mean number of white-matter lesions, rising faster with age: 0 at 25, 4 at 54, 10 at 70."""
    return 10.0 * (years_beyond_template(age) / 45.0) ** 2
