"""The signal equations against hand-computed values and their limits."""

import math

import numpy as np
import pytest

from partitions.computed.signals import (
    inversion_recovery_spin_echo,
    spin_echo,
    spoiled_gradient_echo,
)
from partitions.computed.site_profiles import PROFILES
from partitions.computed.tissues import tissues_at


def test_a_spin_echo_of_grey_matter_has_the_hand_computed_signal():
    # 0.86 * (1 - e^-0.5) * e^-0.8 = 0.86 * 0.393469 * 0.449329
    assert spin_echo(0.86, 1000, 100, tr=500, te=80) == pytest.approx(0.152046, rel=1e-5)


def test_a_spin_echo_without_delay_and_fully_recovered_gives_the_proton_density():
    assert spin_echo(0.77, 900, 70, tr=1e9, te=0) == pytest.approx(0.77)


def test_a_spin_echo_one_t2_later_is_weaker_by_e():
    early, late = (float(spin_echo(1, 900, 70, tr=2000, te=te)) for te in (30, 100))
    assert early / late == pytest.approx(math.e)


def test_a_gradient_echo_has_the_hand_computed_signal():
    # E1 = e^-0.05 = 0.951229; 0.5 * 0.048771 / (1 - 0.866025 * 0.951229) * e^-0.1
    signal = spoiled_gradient_echo(1.0, 1000, 50, tr=50, te=5, flip_degrees=30)
    assert signal == pytest.approx(0.125218, rel=1e-5)


def test_a_gradient_echo_is_strongest_at_the_ernst_angle():
    t1, tr = 900.0, 25.0
    flips = np.linspace(1, 90, 8901)
    signal = [float(spoiled_gradient_echo(1, t1, 50, tr, 0, flip)) for flip in flips]
    ernst = math.degrees(math.acos(math.exp(-tr / t1)))
    assert flips[int(np.argmax(signal))] == pytest.approx(ernst, abs=0.02)


def test_a_gradient_echo_at_ninety_degrees_is_a_saturation_recovery():
    signal = spoiled_gradient_echo(1, 800, 60, tr=400, te=0, flip_degrees=90)
    assert signal == pytest.approx(1 - math.exp(-0.5))


def test_inversion_recovery_nulls_at_t1_times_ln_2_for_a_long_repetition():
    t1 = 4300.0
    assert inversion_recovery_spin_echo(1, t1, 2000, 1e9, 100, t1 * math.log(2)) == pytest.approx(
        0, abs=1e-12
    )


def test_inversion_recovery_right_after_the_pulse_is_inverted():
    assert inversion_recovery_spin_echo(0.8, 900, 70, 1e9, 0, 0) == pytest.approx(-0.8)


def test_inversion_recovery_has_the_hand_computed_signal():
    # 1 - 2 e^-2 + e^-8 = 0.729665; times 0.77 e^-1
    signal = inversion_recovery_spin_echo(0.77, 1000, 100, tr=8000, te=100, ti=2000)
    assert signal == pytest.approx(0.206690, rel=1e-4)


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.site)
def test_every_sites_flair_inverts_near_the_null_of_csf(profile):
    t1, tr = tissues_at(profile.field_strength)["csf"].t1, profile.flair.tr
    null = t1 * math.log(2 / (1 + math.exp(-tr / t1)))
    assert inversion_recovery_spin_echo(1, t1, 2000, tr, 0, null) == pytest.approx(0, abs=1e-12)
    assert profile.flair.ti == pytest.approx(null, rel=0.02)
