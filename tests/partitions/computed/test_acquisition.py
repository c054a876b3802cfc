"""Partial volume, receive field and noise."""

import numpy as np
import pytest

from partitions.computed.acquisition import (
    noise_free_magnitude,
    receive_field,
    rician,
    tissue_signal,
)
from partitions.computed.anatomy import Fractions
from partitions.computed.site_profiles import NORTH, PROFILES
from partitions.computed.tissues import tissues_at


def mixture(gm=0.0, wm=0.0, csf=0.0, lesion=0.0, detail=0.0):
    return Fractions(*(np.full((1, 1, 1), value) for value in (gm, wm, csf, lesion, detail)))


def magnitude(fractions, sequence, field=3.0):
    where = np.ones((1, 1, 1), dtype=bool)
    return float(noise_free_magnitude(fractions, where, tissues_at(field), sequence)[0])


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.site)
def test_every_sites_protocols_order_the_tissues_as_their_names_say(profile):
    t1w, t2w, flair = (
        {
            tissue: magnitude(mixture(**{tissue: 1.0}), sequence, profile.field_strength)
            for tissue in ("gm", "wm", "csf", "lesion")
        }
        for sequence in (profile.t1w, profile.t2w, profile.flair)
    )
    assert t1w["csf"] < 0.75 * t1w["gm"] < 0.75 * t1w["wm"]
    assert t2w["csf"] > 1.4 * t2w["gm"]
    assert t2w["gm"] > 1.08 * t2w["wm"]
    assert flair["csf"] < 0.2 * min(flair["gm"], flair["wm"])
    assert min(flair["lesion"] / flair["wm"], t2w["lesion"] / t2w["wm"]) > 1.25


def test_a_shared_voxel_holds_the_fraction_weighted_sum():
    half = magnitude(mixture(gm=0.5, wm=0.5), NORTH.t2w)
    pure = [magnitude(mixture(**{name: 1.0}), NORTH.t2w) for name in ("gm", "wm")]
    assert half == pytest.approx(sum(pure) / 2)


def test_opposite_signs_cancel_before_the_magnitude_is_taken():
    early = type(NORTH.flair)(tr=9000, te=120, ti=1200)  # CSF still inverted, white matter not
    white = float(tissue_signal(early, tissues_at(3.0)["wm"], 1.0, 1.0))
    fluid = float(tissue_signal(early, tissues_at(3.0)["csf"], 1.0, 1.0))
    assert white > 0 > fluid
    share = white / (white - fluid)
    assert magnitude(mixture(wm=1 - share, csf=share), early) == pytest.approx(0, abs=1e-9)


def test_brighter_template_detail_is_brighter_in_t1w_and_darker_in_t2w():
    plain, myelin = mixture(gm=1.0), mixture(gm=1.0, detail=1.0)
    assert 1 < magnitude(myelin, NORTH.t1w) / magnitude(plain, NORTH.t1w) < 1.15
    assert 0.85 < magnitude(myelin, NORTH.t2w) / magnitude(plain, NORTH.t2w) < 1


def test_the_receive_field_has_the_asked_strength_and_is_smooth():
    brain = np.ones((64, 64, 20), dtype=bool)
    log_field = np.log(receive_field(brain, (2.0, 2.0, 5.0), 0.15, np.random.default_rng(0)))
    assert np.sqrt(np.mean(log_field**2)) == pytest.approx(0.15)
    steps = np.abs(np.diff(log_field.reshape(brain.shape), axis=0))
    assert steps.max() < 0.1 * np.ptp(log_field)


def test_rician_noise_has_the_known_second_moment():
    noisy = rician(np.full(200_000, 3.0), 2.0, np.random.default_rng(0))
    # E[M^2] = A^2 + 2 sigma^2
    assert np.mean(noisy**2) == pytest.approx(9 + 8, rel=0.01)
    background = rician(np.zeros(200_000), 2.0, np.random.default_rng(1))
    # Rayleigh mean: sigma sqrt(pi / 2)
    assert background.mean() == pytest.approx(2 * np.sqrt(np.pi / 2), rel=0.01)
