"""Subjects and cohorts of the CT tasks: the same head under every scanner."""

import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from partitions.computed.cohort import write_cohort
from partitions.computed.ct.head_profiles import NORTH, PROFILES, SOUTH, coarse
from partitions.computed.ct.head_subject import (
    CALIBRATED_HU,
    SEEDS,
    compute_scans,
    cone_beam_image,
    draw_head,
    mr_volume,
)
from partitions.computed.ct.tasks import TASKS
from partitions.manifest import read_manifest

HEAD_TASKS = ("mr-ct", "cbct-ct", "ldct")


def draws(seed=5):
    seeds = zip(SEEDS, np.random.SeedSequence(seed).spawn(len(SEEDS)), strict=True)
    return {name: np.random.default_rng(child) for name, child in seeds}


@pytest.fixture(scope="module")
def subject(head):
    return draw_head(head, coarse(SOUTH), draws())


def cone_beam(subject, **options):
    scanner = replace(coarse(SOUTH).cbct, **options)
    return cone_beam_image(subject, scanner, np.random.default_rng(0))


def test_one_seed_gives_the_same_head_and_the_same_ct_in_every_task(head):
    found = [
        compute_scans(head, coarse(NORTH), np.random.SeedSequence(3), sources)
        for sources in (("t1",), ("cbct",), ("ct_low", "t1"))
    ]
    for other in found[1:]:
        np.testing.assert_array_equal(found[0].volumes["ct"], other.volumes["ct"])
        np.testing.assert_array_equal(found[0].mask, other.mask)
        assert found[0].age == other.age
    again = compute_scans(head, coarse(NORTH), np.random.SeedSequence(3), ["t1"])
    for same in (again, found[2]):
        np.testing.assert_array_equal(same.volumes["t1"], found[0].volumes["t1"])


def test_ct_is_whole_hounsfield_units_within_twelve_bits_and_low_dose_is_noisier(head):
    pair = compute_scans(head, coarse(SOUTH), np.random.SeedSequence(3), ["ct_low"])
    full, low = pair.volumes["ct"], pair.volumes["ct_low"]
    assert full.dtype == low.dtype == np.int16
    assert -1024 <= full.min() < -990
    assert 500 < full.max() <= 3071
    middle = tuple(slice(size // 2 - 5, size // 2 + 5) for size in full.shape[:2])
    slices = slice(3, 7)
    assert low[(*middle, slices)].std() > 1.5 * full[(*middle, slices)].std()
    assert full[(*middle, slices)].mean() == pytest.approx(28, abs=15)


def test_mr_shows_scalp_bright_bone_dark_and_noise_in_the_air(head):
    subject = draw_head(head, NORTH, draws())
    image = mr_volume(subject, NORTH, np.random.default_rng(0)).astype(float)
    white = image[subject.fractions.brain.wm > 0.95].mean()
    assert image[subject.fractions.layers["fat"] > 0.7].mean() > 1.3 * white
    assert image[subject.fractions.layers["compact"] > 0.55].mean() < 0.6 * white
    air = image[subject.fractions.head < 1e-6]
    assert 0 < air.mean() < 0.1 * white


def test_a_cone_beam_ct_is_calibrated_in_the_brain_and_cups_more_with_more_scatter(subject):
    plain, stray = cone_beam(subject, scatter=0.0), cone_beam(subject, scatter=0.5)
    for image in (plain, stray):
        assert image[subject.brain].mean() == pytest.approx(CALIBRATED_HU)
        assert np.median(image[0]) == pytest.approx(-1000, abs=1)
    error = [np.abs(image - subject.hounsfield)[subject.mask].mean() for image in (plain, stray)]
    assert error[1] > error[0] + 10


@pytest.mark.parametrize("option", [{"field_mm": 120.0}, {"ring_sd": 0.05}, {"motion_mm": 6.0}])
def test_every_further_artefact_is_off_by_default_and_makes_the_image_worse(subject, option):
    name = next(iter(option))
    assert all(not getattr(profile.cbct, name) for profile in PROFILES)
    before, after = cone_beam(subject), cone_beam(subject, **option)
    error = [np.abs(image - subject.hounsfield)[subject.mask].mean() for image in (before, after)]
    assert error[1] > 1.1 * error[0]


def test_sites_differ_in_scanner_dose_and_scatter():
    assert len({profile.ct for profile in PROFILES}) == len(PROFILES)
    assert len({profile.cbct.scatter for profile in PROFILES}) == len(PROFILES)
    doses = {profile.ct.photons * profile.ct.low_dose for profile in PROFILES}
    assert len(doses) == len(PROFILES)
    assert len({profile.mr.t1w for profile in PROFILES}) == len(PROFILES)


@pytest.mark.parametrize("task", HEAD_TASKS)
def test_every_federated_site_of_a_ct_task_has_all_splits_in_both_sizes(task):
    for counts in TASKS[task].sizes.values():
        assert all(min(numbers) > 0 for site, numbers in counts.items() if site != "island")
        assert counts["island"][:2] == (0, 0)


def test_a_written_ct_cohort_is_hounsfield_units_says_computed_and_names_its_scanners(
    tmp_path, head, monkeypatch
):
    monkeypatch.setattr("partitions.computed.ct.tasks.load_head", lambda: head)
    few = {profile.site: (0, 0, 0) for profile in PROFILES} | {"island": (0, 0, 1)}
    small = replace(TASKS["cbct-ct"], sizes={"smoke": few})
    monkeypatch.setitem(TASKS, "cbct-ct", small)
    manifests = write_cohort(tmp_path / "c", seed=4, size="smoke", workers=1, task="cbct-ct")
    assert [manifest.site for manifest in manifests] == [profile.site for profile in PROFILES]
    island = read_manifest(tmp_path / "c/island", "island")
    assert island.computed
    assert island.dataset == "cbct_ct"
    (record,) = island.subjects
    assert set(record.files) == {"cbct", "ct"}
    assert record.metadata["cbct_scatter"] == PROFILES[-1].cbct.scatter
    images = [nib.load(island.root / path) for path in (*record.files.values(), record.mask)]
    assert all(image.header["descrip"].item() == b"computed" for image in images)
    assert [image.get_data_dtype() for image in images] == [np.int16, np.int16, np.uint8]
    assert "".join(nib.aff2axcodes(images[0].affine)) == "LPI"
    values = np.asarray(images[1].dataobj)
    assert values.min() < -990
    assert values.max() > 500
    assert json.loads((tmp_path / "c/cohort.json").read_text())["task"] == "cbct-ct"
    again = write_cohort(tmp_path / "c", seed=4, size="smoke", workers=1, task="cbct-ct")
    assert [m.content_hash() for m in again] == [m.content_hash() for m in manifests]
