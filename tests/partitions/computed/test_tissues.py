"""Tissue parameters against the published laws they come from."""

import numpy as np
import pytest

from fedi2i.errors import ConfigError
from partitions.computed.tissues import TISSUES, draw_tissues, tissues_at

PROTON_HZ_PER_TESLA = 42.577e6


@pytest.mark.parametrize("field", [1.5, 3.0])
@pytest.mark.parametrize(
    ("tissue", "scale", "power"), [("gm", 0.00116, 0.376), ("wm", 0.00071, 0.382)]
)
def test_t1_follows_the_power_law_of_rooney_2007(field, tissue, scale, power):
    expected_ms = 1000 * scale * (field * PROTON_HZ_PER_TESLA) ** power
    assert tissues_at(field)[tissue].t1 == pytest.approx(expected_ms, rel=0.003)


def test_lesions_keep_brainwebs_t1_ratio_to_white_matter():
    for field in (1.5, 3.0):
        table = tissues_at(field)
        assert table["lesion"].t1 / table["wm"].t1 == pytest.approx(752 / 500, rel=0.002)


def test_drawn_tissues_stay_within_a_few_percent_and_differ_between_subjects():
    first, second = (draw_tissues(3.0, np.random.default_rng(seed)) for seed in (1, 2))
    assert first != second
    for name in TISSUES:
        mean = tissues_at(3.0)[name]
        for key in ("t1", "t2", "t2_star", "proton_density"):
            assert getattr(first[name], key) == pytest.approx(getattr(mean, key), rel=0.08)


def test_an_untabulated_field_strength_is_named():
    with pytest.raises(ConfigError, match="7 T"):
        tissues_at(7.0)
