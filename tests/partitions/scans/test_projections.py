"""The projector against the physics of a water cylinder."""

import numpy as np
import pytest

from partitions.scans.projections import (
    WATER_PER_MM,
    angles,
    attenuation,
    detect,
    hounsfield,
    project,
    reconstruct,
)

SIZE, PIXEL_MM, RADIUS_MM = 80, 3.0, 75.0
VIEWS = angles(120)
x, y = np.ogrid[:SIZE, :SIZE]
DISTANCE_MM = PIXEL_MM * np.hypot(x - SIZE / 2, y - SIZE / 2)[..., np.newaxis]
CENTRE = DISTANCE_MM < 0.3 * RADIUS_MM
RIM = (DISTANCE_MM > 0.75 * RADIUS_MM) & (DISTANCE_MM < 0.9 * RADIUS_MM)


@pytest.fixture(scope="module")
def integrals():
    """Line integrals through a cylinder of water in air."""
    water = np.where(DISTANCE_MM <= RADIUS_MM, 0.0, -1000.0)
    return project(attenuation(water), PIXEL_MM, VIEWS)


def seen(integrals, photons=1e7, seed=0, **options):
    noisy = detect(integrals, photons, np.random.default_rng(seed), **options)
    return hounsfield(reconstruct(noisy, PIXEL_MM, VIEWS))


def cupping(image):
    return image[RIM].mean() - image[CENTRE].mean()


def test_hounsfield_units_of_air_and_water_are_defined():
    np.testing.assert_allclose(attenuation(np.array([-1000.0, 0.0])), [0, WATER_PER_MM])
    values = np.array([-1000.0, -90.0, 0.0, 1500.0])
    np.testing.assert_allclose(hounsfield(attenuation(values)), values, atol=1e-9)


def test_the_central_ray_crosses_the_diameter_from_every_side(integrals):
    expected = WATER_PER_MM * 2 * RADIUS_MM
    np.testing.assert_allclose(integrals[SIZE // 2, :, 0], expected, rtol=0.03)


def test_water_reads_zero_and_air_minus_a_thousand_after_the_projector(integrals):
    image = seen(integrals)
    inner = DISTANCE_MM < 0.9 * RADIUS_MM
    assert image[inner].mean() == pytest.approx(0, abs=8)
    around = (DISTANCE_MM > 1.2 * RADIUS_MM) & (DISTANCE_MM < 0.48 * SIZE * PIXEL_MM)
    assert image[around].mean() == pytest.approx(-1000, abs=8)


def test_noise_falls_with_the_square_root_of_the_photons(integrals):
    clean = hounsfield(reconstruct(integrals, PIXEL_MM, VIEWS))
    inner = DISTANCE_MM < 0.9 * RADIUS_MM
    noise = [(seen(integrals, n) - clean)[inner].std() for n in (1e5, 4e5, 16e5)]
    assert noise[0] / noise[1] == pytest.approx(2, rel=0.1)
    assert noise[1] / noise[2] == pytest.approx(2, rel=0.1)


def test_low_dose_changes_the_noise_and_not_the_mean(integrals):
    full, low = seen(integrals, 1e6, seed=1), seen(integrals, 1e5, seed=2)
    assert (low - full)[CENTRE].mean() == pytest.approx(0, abs=1.5)
    assert (low - full)[CENTRE].std() > 2 * (full - seen(integrals, 1e6, seed=3))[CENTRE].std()


def test_noise_is_the_same_for_the_same_seed_and_another_for_another(integrals):
    np.testing.assert_array_equal(seen(integrals, 1e5), seen(integrals, 1e5))
    assert np.any(seen(integrals, 1e5) != seen(integrals, 1e5, seed=1))


def test_cupping_grows_with_scatter_and_there_is_none_without(integrals):
    found = [cupping(seen(integrals, scatter=scatter)) for scatter in (0.0, 0.1, 0.3, 1.0)]
    assert found[0] == pytest.approx(0, abs=6)
    assert found[0] + 10 < found[1]
    assert found[1] + 10 < found[2]
    assert found[2] + 10 < found[3]


def test_scatter_makes_the_middle_read_too_little_and_leaves_air_alone(integrals):
    image = seen(integrals, scatter=0.3)
    assert image[CENTRE].mean() < -50
    air = detect(np.zeros((8, 30, 1)), 1e6, np.random.default_rng(0), scatter=0.3)
    assert air.mean() == pytest.approx(0, abs=1e-3)


def test_one_detector_that_counts_too_little_draws_a_ring_at_its_distance(integrals):
    gain = np.ones((SIZE, 1, 1))
    gain[SIZE // 2 + 12] = 0.98
    ring = seen(integrals, gain=gain) - seen(integrals)
    at = np.abs(DISTANCE_MM / PIXEL_MM - 12) < 0.5
    assert ring[at].mean() > 10
    assert abs(ring[CENTRE & ~at].mean()) < 2


def test_fewer_views_make_streaks():
    phantom = np.where(DISTANCE_MM <= RADIUS_MM, 0.0, -1000.0)
    phantom[SIZE // 2, SIZE // 2 + 15] = 2000.0
    streaks = []
    for views in (120, 20):
        degrees = angles(views)
        integrals = project(attenuation(phantom), PIXEL_MM, degrees)
        streaks.append(hounsfield(reconstruct(integrals, PIXEL_MM, degrees))[CENTRE].std())
    assert streaks[1] > 2 * streaks[0]
