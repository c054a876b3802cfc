"""Shifts of a site's images, each against what it claims to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from fedi2i.errors import ConfigError
from partitions.manifest import SiteManifest, SubjectRecord, write_manifest
from partitions.preparation import PreparationConfig, prepare_site
from partitions.preparation.corrections.shifts import SHIFT, Shift, shift_entry, shifted
from partitions.preparation.intensities import Scale

MakeSite = Callable[..., SiteManifest]
KINDS = ("contrast", "noise", "bias", "resolution", "misregistration", "dose")
SHAPE = (64, 48, 4)
EDGES = (1.0, 1.5, 4.0)
SCALES = dict.fromkeys(("source", "target"), Scale(-1024, 3071, "HU"))
X, Y = np.meshgrid(*(np.linspace(-1, 1, side) for side in SHAPE[:2]), indexing="ij")
MASK = np.repeat((X**2 + Y**2 < 0.6)[..., np.newaxis], SHAPE[2], axis=2)


def record(shift: dict[str, Any] | None, site: str = "a", patient: str = "p") -> SubjectRecord:
    metadata = {} if shift is None else {SHIFT: {"seed": 1, **shift}}
    return SubjectRecord(patient, site, "train", {"t1": "t1.nii"}, metadata=metadata)


@pytest.fixture(scope="module")
def image() -> NDArray[np.float32]:
    """A smooth pattern in [0.2, 0.8] inside the mask, 0 outside."""
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=SHAPE), (3, 3, 1))
    scaled = 0.2 + 0.6 * (noise - noise.min()) / np.ptp(noise)
    return (scaled * MASK).astype(np.float32)


def changed(image: NDArray[np.float32], who: SubjectRecord) -> dict[str, NDArray[np.float32]]:
    return shifted({"source": image, "target": image}, MASK, EDGES, who, SCALES)


@pytest.mark.parametrize("shift", [None, {}, dict.fromkeys(KINDS, 0.0)])
def test_no_severity_changes_no_bit(
    shift: dict[str, Any] | None, image: NDArray[np.float32]
) -> None:
    for found in changed(image, record(shift)).values():
        assert found.tobytes() == image.tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_a_shift_depends_on_seed_site_and_patient_and_on_nothing_else(
    kind: str, image: NDArray[np.float32]
) -> None:
    def source(who: SubjectRecord) -> bytes:
        return changed(image, who)["source"].tobytes()

    first = source(record({kind: 0.6}))
    assert first != image.tobytes()
    assert source(replace(record({kind: 0.6}), split="test")) == first
    if kind != "resolution":  # nothing is drawn
        others = [
            record({kind: 0.6}, patient="q"),
            record({kind: 0.6}, site="b"),
            record({kind: 0.6, "seed": 2}),
        ]
        assert first not in map(source, others)


@pytest.mark.parametrize("kind", KINDS)
def test_a_larger_severity_changes_more_and_stays_in_range(
    kind: str, image: NDArray[np.float32]
) -> None:
    errors = []
    for severity in (0.1, 0.4, 1.0):
        found = changed(image, record({kind: severity}))["source"]
        assert found.dtype == np.float32
        assert found.min() >= 0
        assert found.max() <= 1
        errors.append(float(np.abs(found - image).mean()))
    assert errors == sorted(errors)
    assert errors[0] > 0


def test_contrast_is_a_gamma_inside_the_mask_in_one_direction_for_a_site(
    image: NDArray[np.float32],
) -> None:
    bright = np.where(MASK, image, np.float32(0.3))
    found = changed(bright, record({"contrast": 1.0}))["target"]
    assert np.array_equal(found[~MASK], bright[~MASK])
    gammas = np.log(found[MASK].astype(float)) / np.log(bright[MASK].astype(float))
    assert np.ptp(gammas) < 1e-4
    assert 0.43 < gammas.mean() < 2.3
    brighter = {
        site: {
            bool(changed(image, record({"contrast": 1.0}, site, str(n)))["source"].mean() > m)
            for n in range(4)
            for m in [image.mean()]
        }
        for site in "abcdef"
    }
    assert all(len(found) == 1 for found in brighter.values())
    assert len(set(map(str, brighter.values()))) == 2


def test_noise_has_the_mean_and_power_of_a_rician_distribution() -> None:
    flat = np.full((64, 64, 20), 0.5, np.float32)
    inside = np.ones(flat.shape, bool)
    found = shifted({"source": flat}, inside, EDGES, record({"noise": 1.0}), SCALES)["source"]
    assert found.std() == pytest.approx(0.1, rel=0.03)
    assert np.mean(found.astype(float) ** 2) == pytest.approx(0.5**2 + 2 * 0.1**2, rel=0.01)
    air = shifted({"source": 0 * flat}, inside, EDGES, record({"noise": 1.0}), SCALES)["source"]
    assert air.mean() == pytest.approx(0.1 * np.sqrt(np.pi / 2), rel=0.01)  # Rayleigh


def test_a_bias_field_is_smooth_and_has_the_logarithm_s_mean_0_inside_the_mask() -> None:
    flat = np.full(SHAPE, 0.3, np.float32)
    found = shifted({"source": flat}, MASK, EDGES, record({"bias": 0.5}), SCALES)["source"]
    field = np.log(found.astype(float) / 0.3)
    assert field[MASK].mean() == pytest.approx(0, abs=1e-4)
    assert field[MASK].std() == pytest.approx(0.15, rel=1e-3)
    inner = np.diff(field, n=3, axis=0)
    assert np.abs(inner).max() < 1e-4  # no third differences: a polynomial of second order


def test_resolution_is_lost_within_the_slice_and_the_mean_is_kept() -> None:
    point = np.zeros((61, 61, 3), np.float32)
    point[30, 30, 1] = 1
    inside = np.ones(point.shape, bool)
    found = shifted({"source": point}, inside, EDGES, record({"resolution": 1.0}), SCALES)["source"]
    assert found[..., [0, 2]].max() == 0
    # Of what is larger than a point the brightness is kept, whatever the sampling.
    disc = np.zeros((60, 60, 3), np.float32)
    disc[20:40, 20:40] = 0.5
    blurred = shifted(
        {"source": disc}, np.ones(disc.shape, bool), EDGES, record({"resolution": 1}), SCALES
    )
    assert blurred["source"].sum() == pytest.approx(disc.sum(), rel=0.01)
    profile = blurred["source"][:, 30, 1]
    assert profile[30] == pytest.approx(0.5, abs=0.01)
    assert ((profile > 0.05) & (profile < 0.45)).sum() >= 4
    middle = ndimage.center_of_mass(blurred["source"])
    assert middle == pytest.approx((29.5, 29.5, 1), abs=0.1)


def test_misregistration_moves_the_source_alone_and_by_millimetres(
    image: NDArray[np.float32],
) -> None:
    found = changed(image, record({"misregistration": 1.0, "on": "target"}))
    assert np.array_equal(found["target"], image)
    shift = np.array(ndimage.center_of_mass(found["source"] > 0)) - ndimage.center_of_mass(MASK)
    assert np.hypot(*(shift[:2] * EDGES[:2])) == pytest.approx(6, abs=0.3)
    assert shift[2] == pytest.approx(0, abs=0.05)


def test_a_turn_keeps_distances_in_millimetres_where_voxels_are_not_square() -> None:
    spots = np.zeros((81, 81, 1), np.float32)
    for x, y in ((20, 40), (60, 40), (40, 25), (40, 55)):
        spots[x - 1 : x + 2, y - 1 : y + 2] = 1
    inside = np.ones(spots.shape, bool)
    found = shifted(
        {"source": spots}, inside, (1.0, 2.0, 1.0), record({"misregistration": 1.0}), SCALES
    )
    labels, count = ndimage.label(found["source"] > 0.3)
    assert count == 4
    centres = np.array(ndimage.center_of_mass(found["source"], labels, [1, 2, 3, 4]))
    millimetres = centres[:, :2] * (1.0, 2.0)
    between = np.linalg.norm(millimetres[:, None] - millimetres[None], axis=2)
    expected = sorted([40, 60, *[np.hypot(20, 30)] * 4])
    assert sorted(between[np.triu_indices(4, 1)]) == pytest.approx(expected, abs=0.8)


@pytest.mark.parametrize(("on", "same"), [("source", {"target"}), ("target", {"source"})])
def test_a_shift_may_concern_one_of_the_two_images(
    on: str, same: set[str], image: NDArray[np.float32]
) -> None:
    found = changed(image, record({"bias": 1.0, "on": on}))
    assert {name for name, one in found.items() if np.array_equal(one, image)} == same


def test_an_unknown_kind_of_shift_is_named(image: NDArray[np.float32]) -> None:
    with pytest.raises(ConfigError, match="subject 'p': shift: unknown key 'nois'"):
        changed(image, record({"nois": 1.0}))


def test_a_manifest_s_shift_is_applied_when_the_site_is_prepared_and_recorded(
    make_site: MakeSite, tmp_path: Path
) -> None:
    plain = make_site(splits=("train",))

    def prepared(shift: Shift | None) -> Any:
        metadata = {**plain.subjects[0].metadata}
        if shift is not None:
            metadata[SHIFT] = shift_entry(shift)
        site = replace(plain, subjects=(replace(plain.subjects[0], metadata=metadata),))
        write_manifest(site)
        config = PreparationConfig(size=(40, 32), spacing=None)
        return prepare_site(site, config, tmp_path / "cache", progress=False).split("train")

    before, still, after = prepared(None), prepared(Shift(seed=4)), prepared(Shift(noise=0.5))
    assert np.array_equal(before.source, still.source)
    assert not np.array_equal(before.source, after.source)
    assert np.array_equal(before.mask, after.mask)
    assert after.subjects[0].metadata[SHIFT] == {"noise": 0.5, "on": "both", "seed": 0}


def test_a_smaller_dose_is_of_a_ct_in_hounsfield_units_alone(image: NDArray[np.float32]) -> None:
    scales = {"source": SCALES["source"], "target": Scale(0.0, 900.0)}
    with pytest.raises(ConfigError, match=r"shift\.dose is of a CT, and the target is not scaled"):
        shifted({"source": image, "target": image}, MASK, EDGES, record({"dose": 0.5}), scales)
    alone = record({"dose": 0.5, "on": "source"})
    found = shifted({"source": image, "target": image}, MASK, EDGES, alone, scales)
    assert found["target"].tobytes() == image.tobytes()
    assert not np.array_equal(found["source"], image)
