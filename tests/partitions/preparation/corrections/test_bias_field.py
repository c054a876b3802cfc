"""N4: a known shading is found, recorded in few numbers, and put back exactly."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fedi2i.errors import DataError
from partitions.preparation.corrections.bias_field import (
    BiasField,
    bias_field_from,
    corrected,
    estimate,
    shaded,
)
from partitions.scans.volume import Volume

SIDES = (44, 48, 40)
AFFINE = np.diag([-3.0, -3.0, 3.0, 1.0])
x, y, z = (np.linspace(-1, 1, side) for side in SIDES)
X, Y, Z = np.meshgrid(x, y, z, indexing="ij")
MASK = X**2 + Y**2 + Z**2 < 0.8
SHADING = np.exp(0.3 * X - 0.2 * Y**2 + 0.15 * Z)


def tissue(seed: int = 0) -> np.ndarray:
    """Two tissues in turn, with noise, 0 outside the head."""
    kinds = np.sin(9 * X) * np.sin(8 * Y) * np.sin(7 * Z) > 0
    noise = np.random.default_rng(seed).normal(0, 8, SIDES)
    return np.where(MASK, np.where(kinds, 600.0, 400.0) + noise, 0.0)


def volume(data: np.ndarray) -> Volume:
    return Volume(Path("t1.nii.gz"), data.astype(np.float32), AFFINE)


@pytest.fixture(scope="module")
def field() -> BiasField:
    return estimate(volume(tissue() * SHADING), MASK)


def test_a_known_shading_is_found_up_to_its_mean(field: BiasField) -> None:
    found, truth = np.log(field.factor(SIDES))[MASK], np.log(SHADING)[MASK]
    assert np.corrcoef(found, truth)[0, 1] > 0.95
    left = (found - found.mean()) - (truth - truth.mean())
    assert left.std() < 0.4 * truth.std()
    assert found.mean() == pytest.approx(0, abs=1e-3)


def test_a_volume_without_shading_is_left_nearly_alone() -> None:
    found = np.log(estimate(volume(tissue()), MASK).factor(SIDES))[MASK]
    assert found.std() < 0.03


def test_the_correction_is_undone_exactly_from_what_the_record_keeps(field: BiasField) -> None:
    before = volume(tissue() * SHADING)
    after = corrected(before, field)
    assert np.abs(after.data - before.data)[MASK].mean() > 10
    kept = bias_field_from(json.loads(json.dumps(field.to_json())))
    assert len(json.dumps(field.to_json())) < 8000
    np.testing.assert_allclose(shaded(after, kept).data, before.data, rtol=1e-6)


def test_a_mask_with_too_little_in_it_is_refused() -> None:
    few = np.zeros(SIDES, dtype=bool)
    few[20:23, 20:23, 20:23] = True
    with pytest.raises(DataError, match="too few for a bias field"):
        estimate(volume(tissue()), few)
