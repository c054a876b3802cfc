"""The written cohort: files, manifests, contrasts, resumption and refusal."""

import dataclasses
import json
import multiprocessing
import shutil
from concurrent.futures import ProcessPoolExecutor

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from fedi2i.errors import ConfigError, DataError
from partitions.check.manifests import check_partition
from partitions.computed import cohort
from partitions.computed.cohort import plan_cohort, write_cohort
from partitions.computed.ct.tasks import TASKS
from partitions.computed.site_profiles import PROFILES
from partitions.computed.subject_folder import write_volume

SITES = ("north", "east")


def ras(folder, name):
    return nib.as_closest_canonical(nib.load(folder / name)).get_fdata()


def voxels_of(manifest, record, name):
    return ras(manifest.root, record.files.get(name) or f"{record.subject}/{name}.nii.gz")


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def tissue_means(pair):
    """Median of each contrast in CSF, grey, white and lesion, from written files of each site."""
    return {manifest.site: _site_medians(manifest) for manifest in pair[1] if manifest.subjects}


def _site_medians(manifest):
    gathered = {}
    for record in manifest.subjects:
        images = {name: voxels_of(manifest, record, name) for name in ("t1", "t2", "flair")}
        brain = ras(manifest.root, record.mask) > 0
        classes = _classes(images, brain)
        if record.lesion_mask:
            lesion = ras(manifest.root, record.lesion_mask) > 0
            classes = {name: where & ~lesion for name, where in classes.items()}
            classes["lesion"] = lesion
        for tissue, where in classes.items():
            for name, image in images.items():
                scaled = image[where] / np.median(image[brain])
                gathered.setdefault((name, tissue), []).append(scaled)
    return {key: float(np.median(np.concatenate(parts))) for key, parts in gathered.items()}


def _classes(images, brain):
    # Fluid is what is bright in T2w; white and grey matter are told apart by depth alone, so that
    # the contrasts under test do not define them.
    depth = ndimage.distance_transform_edt(brain, sampling=(1, 1, 1))
    fluid = brain & (images["t2"] > 1.9 * np.median(images["t2"][brain]))
    x, y, _ = np.ogrid[tuple(slice(0, size) for size in brain.shape)]
    middle_x, middle_y, _ = (np.mean(part) for part in np.nonzero(brain))
    rest = brain & ~ndimage.binary_dilation(fluid)
    width = np.ptp(np.nonzero(brain)[0])
    aside = (np.abs(x - middle_x) > 0.15 * width) & (np.abs(y - middle_y) < 0.4 * width)
    upper = np.zeros_like(brain)
    top = np.nonzero(brain)[2]
    low, high = np.percentile(top, [70, 85]).astype(int)
    upper[:, :, low:high] = True
    # The centrum semiovale is the deepest tissue high in the brain; cortex is the shallowest.
    deep = rest & upper & aside & (depth > np.percentile(depth[rest & upper], 80))
    shallow = rest & upper & (depth > 2) & (depth < 5)
    return {"csf": fluid & (depth > 6), "wm": deep, "gm": shallow}


@pytest.mark.parametrize("site", SITES)
def test_csf_is_dark_in_t1w_and_flair_and_bright_in_t2w(tissue_means, site):
    mean = tissue_means[site]
    for tissue in ("gm", "wm"):
        assert mean["t1", "csf"] < 0.75 * mean["t1", tissue]
        assert mean["flair", "csf"] < 0.75 * mean["flair", tissue]
        assert mean["t2", "csf"] > 1.4 * mean["t2", tissue]


@pytest.mark.parametrize("site", SITES)
def test_white_matter_is_brighter_than_grey_in_t1w_and_darker_in_t2w(tissue_means, site):
    mean = tissue_means[site]
    assert mean["t1", "wm"] > 1.02 * mean["t1", "gm"]
    assert mean["t2", "wm"] < 0.92 * mean["t2", "gm"]


@pytest.mark.parametrize("site", SITES)
def test_lesions_are_bright_in_flair_and_t2w(tissue_means, site):
    mean = tissue_means[site]
    assert mean["flair", "lesion"] > 1.25 * mean["flair", "wm"]
    assert mean["t2", "lesion"] > 1.25 * mean["t2", "wm"]


def test_manifests_read_back_say_computed_name_the_planned_splits_and_share_no_subject(pair):
    manifests = pair[1]
    assert all(manifest.computed and manifest.dataset == "demo" for manifest in manifests)
    found = {m.site: (m.split_seed, [(r.subject, r.split) for r in m.subjects]) for m in manifests}
    assert found["north"] == (7, [("north-001", "train")])
    assert found["east"] == (7, [("east-001", "test")])
    check_partition(manifests)


@pytest.mark.parametrize("size", ["demo", "smoke"])
def test_every_federated_site_has_all_splits_and_the_island_is_all_test(size):
    planned = plan_cohort(7, size)
    for profile in PROFILES:
        splits = {subject.split for subject in planned if subject.profile == profile}
        assert splits == ({"test"} if profile.site == "island" else {"train", "val", "test"})


def test_the_demo_has_the_promised_numbers():
    planned = plan_cohort(2026, "demo")
    assert len(planned) == 64 == len({subject.name for subject in planned})
    north = [subject.split for subject in planned if subject.profile.site == "north"]
    assert [north.count(split) for split in ("train", "val", "test")] == [16, 3, 5]


def test_split_depends_on_the_seed():
    first, second = ([s.split for s in plan_cohort(seed, "demo")] for seed in (1, 2))
    assert first != second


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.site)
def test_a_file_has_the_sites_grid_and_orientation_and_says_computed(profile, tmp_path):
    volume = np.zeros((profile.matrix, profile.matrix, profile.slices), dtype=np.int16)
    volume[-1, 0, 0] = 5  # the voxel farthest to the right, at the back and at the bottom
    write_volume(tmp_path / "x.nii.gz", volume, profile)
    image = nib.load(tmp_path / "x.nii.gz")
    assert "".join(nib.aff2axcodes(image.affine)) == profile.orientation
    spacing = (profile.pixel_mm, profile.pixel_mm, profile.slice_mm)
    np.testing.assert_allclose(image.header.get_zooms(), spacing, rtol=1e-6)
    assert image.get_data_dtype() == np.int16
    assert image.header.get_xyzt_units()[0] == "mm"
    assert int(image.header["qform_code"]) == int(image.header["sform_code"]) == 1
    np.testing.assert_allclose(image.get_qform(), image.get_sform(), atol=1e-4)
    assert image.header["descrip"].item() == b"computed"
    marked = image.affine @ [*np.argwhere(image.get_fdata())[0], 1]
    half = (np.array(volume.shape) - 1) * spacing / 2
    np.testing.assert_allclose(marked[:3], [0 + half[0], -17 - half[1], 4 - half[2]], atol=1e-3)


def test_the_files_of_a_subject_share_one_grid_and_masks_are_bytes(pair):
    for manifest in pair[1]:
        for record in manifest.subjects:
            paths = [*record.files.values(), record.mask, record.lesion_mask]
            images = [nib.load(manifest.root / path) for path in paths if path]
            assert len(images) >= 4
            assert all(image.header["descrip"].item() == b"computed" for image in images)
            for image in images:
                np.testing.assert_array_equal(image.affine, images[0].affine)
            kinds = [image.get_data_dtype() for image in images]
            assert kinds == [np.int16] * 3 + [np.uint8] * (len(images) - 3)


def test_the_whole_brain_is_inside_the_field_of_view(pair):
    for manifest in pair[1]:
        for record in manifest.subjects:
            brain = ras(manifest.root, record.mask) > 0
            edges = [brain[0], brain[-1], brain[:, 0], brain[:, -1], brain[..., 0], brain[..., -1]]
            assert not any(edge.any() for edge in edges)
            volume_ml = brain.sum() * np.prod(
                nib.load(manifest.root / record.mask).header.get_zooms()
            )
            assert 1.2e6 < volume_ml < 2.4e6


def test_images_are_zero_outside_the_mask_and_lesions_lie_inside_it(pair):
    for manifest in pair[1]:
        for record in manifest.subjects:
            brain = ras(manifest.root, record.mask) > 0
            assert np.all(voxels_of(manifest, record, "t2")[~brain] == 0)
            assert record.metadata["has_lesion"] == (record.lesion_mask is not None)
            if record.lesion_mask:
                lesion = ras(manifest.root, record.lesion_mask) > 0
                assert lesion.any() and brain[lesion].all()


def test_a_finished_cohort_is_recognised_and_nothing_is_computed_again(pair, monkeypatch):
    folder, written = pair

    def refuse(*_):
        raise AssertionError("computed again")

    monkeypatch.setattr(cohort, "_compute", refuse)
    again = write_cohort(folder, seed=7, size="pair")
    assert [m.content_hash() for m in again] == [m.content_hash() for m in written]


def test_only_the_subject_that_lost_a_file_is_computed_again(pair, tmp_path):
    folder, written = pair
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    north = {path: path.stat().st_mtime_ns for path in (copy / "north").rglob("*.nii.gz")}
    assert len(north) >= 4
    (copy / "east/east-001/t2.nii.gz").unlink()
    again = write_cohort(copy, seed=7, size="pair", workers=1)
    assert files_of(copy / "east/east-001") == files_of(folder / "east/east-001")
    assert {path: path.stat().st_mtime_ns for path in north} == north
    assert [m.content_hash() for m in again] == [m.content_hash() for m in written]
    assert json.loads((copy / "cohort.json").read_text())["finished"] is True


def test_the_same_seed_gives_the_same_bytes_in_another_process_and_folder(pair, tmp_path):
    planned = next(subject for subject in plan_cohort(7, "demo") if subject.name == "east-001")
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        pool.submit(cohort._write_subject, tmp_path, planned).result()
    written = files_of(tmp_path / "east/east-001")
    assert written == files_of(pair[0] / "east/east-001")
    assert "lesion.nii.gz" in written


def test_a_name_and_a_seed_mean_the_same_subject_in_every_size():
    demo = {subject.name: subject for subject in plan_cohort(7, "demo")}
    for subject in plan_cohort(7, "smoke"):
        twin = demo[subject.name]
        assert subject.profile == twin.profile
        assert list(subject.seed().generate_state(4)) == list(twin.seed().generate_state(4))


def test_a_cohort_of_an_earlier_version_is_recognised_by_its_key():
    # Written by 0.1.0 for the smoke cohort of seed 2026.
    assert cohort.cohort_key(2026, "smoke") == (
        "b27a9cce36f46e36b687d09f9f0e5e594c0e738d6dd5225ac85a1332844c9ae8"
    )


def test_a_folder_with_another_cohort_is_refused(pair):
    with pytest.raises(DataError, match=r"holds another computed cohort \(seed 7, size pair"):
        write_cohort(pair[0], seed=8, size="pair")


def test_changed_parameters_are_another_cohort(monkeypatch):
    before = cohort.cohort_key(7, "smoke")
    fewer = dataclasses.replace(TASKS["mr"], profiles=PROFILES[:-1])
    monkeypatch.setitem(TASKS, "mr", fewer)
    assert cohort.cohort_key(7, "smoke") != before


def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="is not empty and holds no computed cohort"):
        write_cohort(tmp_path, size="smoke")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"size": "dmeo"}, "did you mean 'demo'"),
        ({"task": "mr-cd"}, "did you mean 'mr-ct'"),
        ({"seed": -1}, "seed"),
        ({"workers": 0}, "workers"),
    ],
)
def test_a_bad_argument_is_named_and_nothing_is_written(tmp_path, arguments, words):
    with pytest.raises(ConfigError, match=words):
        write_cohort(tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()
