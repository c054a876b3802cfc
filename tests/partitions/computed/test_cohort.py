"""The written cohort: files, manifests, contrasts, resumption and refusal."""

import json

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from fedi2i.errors import ConfigError, DataError
from partitions.computed import cohort, plan
from partitions.computed.cohort import write_cohort
from partitions.computed.hospitals import HOSPITALS
from partitions.computed.plan import plan_cohort
from partitions.computed.subject_folder import write_subject
from partitions.manifest import check_partition, read_manifest, split_counts

SITES = tuple(hospital.site for hospital in HOSPITALS)


def ras(folder, name):
    return nib.as_closest_canonical(nib.load(folder / name)).get_fdata()


def voxels_of(manifest, record, name):
    return ras(manifest.root, record.files.get(name) or f"{record.subject}/{name}.nii.gz")


@pytest.fixture(scope="module")
def tissue_means(smoke):
    """Median of each contrast in CSF, grey, white and lesion, from written files of each site."""
    return {manifest.site: _site_medians(manifest) for manifest in smoke[1]}


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
    if ("flair", "lesion") not in mean:
        pytest.skip("no lesion in this site's few subjects")
    assert mean["flair", "lesion"] > 1.25 * mean["flair", "wm"]
    assert mean["t2", "lesion"] > 1.25 * mean["t2", "wm"]


def test_most_sites_have_a_lesion_so_that_the_ordering_is_tested(tissue_means):
    assert sum(("flair", "lesion") in mean for mean in tissue_means.values()) >= 3


def test_manifests_read_back_say_computed_and_share_no_subject(smoke):
    folder, written = smoke
    read = [read_manifest(folder / site, site) for site in SITES]
    assert [m.content_hash() for m in read] == [m.content_hash() for m in written]
    assert all(manifest.computed and manifest.dataset == "demo" for manifest in read)
    check_partition(read)


def test_every_federated_hospital_has_all_splits_and_the_island_is_all_test(smoke):
    for manifest in smoke[1]:
        counts = split_counts(manifest)
        if manifest.site == "island":
            assert counts == {"train": 0, "val": 0, "test": 3}
        else:
            assert min(counts.values()) >= 1


def test_the_demo_has_the_promised_numbers():
    planned = plan_cohort(2026, "demo")
    assert len(planned) == 64 == len({subject.name for subject in planned})
    north = [subject.split for subject in planned if subject.hospital.site == "north"]
    assert [north.count(split) for split in ("train", "val", "test")] == [16, 3, 5]


def test_split_depends_on_the_seed():
    first, second = ([s.split for s in plan_cohort(seed, "demo")] for seed in (1, 2))
    assert first != second


@pytest.mark.parametrize("hospital", HOSPITALS, ids=lambda hospital: hospital.site)
def test_files_hold_the_hospitals_grid_orientation_and_the_word_computed(smoke, hospital):
    manifest = smoke[1][HOSPITALS.index(hospital)]
    for record in manifest.subjects:
        paths = [*record.files.values(), record.mask, record.lesion_mask]
        images = [nib.load(manifest.root / path) for path in paths if path]
        for image in images:
            assert "".join(nib.aff2axcodes(image.affine)) == hospital.orientation
            spacing = (hospital.pixel_mm, hospital.pixel_mm, hospital.slice_mm)
            np.testing.assert_allclose(image.header.get_zooms(), spacing, rtol=1e-6)
            assert image.header.get_xyzt_units()[0] == "mm"
            assert int(image.header["qform_code"]) == int(image.header["sform_code"]) == 1
            np.testing.assert_allclose(image.get_qform(), image.get_sform(), atol=1e-4)
            assert image.header["descrip"].item() == b"computed"
            np.testing.assert_array_equal(image.affine, images[0].affine)
        assert all(image.get_data_dtype() == np.int16 for image in images[:3])


def test_the_whole_brain_is_inside_the_field_of_view(smoke):
    for manifest in smoke[1]:
        for record in manifest.subjects:
            brain = ras(manifest.root, record.mask) > 0
            edges = [brain[0], brain[-1], brain[:, 0], brain[:, -1], brain[..., 0], brain[..., -1]]
            assert not any(edge.any() for edge in edges)
            volume_ml = brain.sum() * np.prod(
                nib.load(manifest.root / record.mask).header.get_zooms()
            )
            assert 1.2e6 < volume_ml < 2.4e6


def test_images_are_zero_outside_the_mask_and_lesions_lie_inside_it(smoke):
    for manifest in smoke[1]:
        for record in manifest.subjects:
            brain = ras(manifest.root, record.mask) > 0
            assert np.all(voxels_of(manifest, record, "t2")[~brain] == 0)
            assert record.metadata["has_lesion"] == (record.lesion_mask is not None)
            if record.lesion_mask:
                lesion = ras(manifest.root, record.lesion_mask) > 0
                assert lesion.any() and brain[lesion].all()


def test_two_subjects_of_one_hospital_differ(smoke):
    north = smoke[1][0]
    first, second = (ras(north.root, record.mask) for record in north.subjects[:2])
    overlap = 2 * np.sum(first * second) / (first.sum() + second.sum())
    assert 0.7 < overlap < 0.99


def test_the_same_seed_gives_the_same_bytes_in_another_process_and_folder(smoke, atlas, tmp_path):
    folder, _ = smoke
    # The cohort was computed in worker processes from memory-mapped arrays; this one is not.
    for subject in [s for s in plan_cohort(7, "demo") if s.name in ("west-002", "east-001")]:
        write_subject(tmp_path, subject, atlas)
        site = subject.hospital.site
        for path in sorted((tmp_path / site / subject.name).glob("*.nii.gz")):
            assert path.read_bytes() == (folder / site / subject.name / path.name).read_bytes()


def test_a_finished_cohort_is_recognised_and_nothing_is_computed_again(smoke, monkeypatch):
    folder, written = smoke

    def refuse(*_):
        raise AssertionError("computed again")

    monkeypatch.setattr(cohort, "_compute", refuse)
    again = write_cohort(folder, seed=7, size="smoke")
    assert [m.content_hash() for m in again] == [m.content_hash() for m in written]


def test_interrupted_work_computes_only_the_missing_subject(smoke, monkeypatch):
    folder, written = smoke
    lost = folder / "west" / "west-001" / "t2.nii.gz"
    before = lost.read_bytes()
    others = {p: p.stat().st_mtime_ns for p in folder.rglob("*.nii.gz") if "west-001" not in str(p)}
    lost.unlink()
    again = write_cohort(folder, seed=7, size="smoke", workers=1)
    assert lost.read_bytes() == before
    assert {path: path.stat().st_mtime_ns for path in others} == others
    assert [m.content_hash() for m in again] == [m.content_hash() for m in written]
    assert json.loads((folder / "cohort.json").read_text())["finished"] is True


def test_a_folder_with_another_cohort_is_refused(smoke):
    with pytest.raises(DataError, match=r"holds another computed cohort \(seed 7, size smoke"):
        write_cohort(smoke[0], seed=8, size="smoke")


def test_changed_parameters_are_another_cohort(monkeypatch):
    before = plan.cohort_key(7, "smoke")
    monkeypatch.setattr(plan, "HOSPITALS", plan.HOSPITALS[:-1])
    assert plan.cohort_key(7, "smoke") != before


def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="is not empty and holds no computed cohort"):
        write_cohort(tmp_path, size="smoke")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"size": "dmeo"}, "did you mean 'demo'"),
        ({"seed": -1}, "seed"),
        ({"workers": 0}, "workers"),
    ],
)
def test_a_bad_argument_is_named_and_nothing_is_written(tmp_path, arguments, words):
    with pytest.raises(ConfigError, match=words):
        write_cohort(tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()
