"""Every fault of the input is one sentence that names the file, and no cache is finished."""

from __future__ import annotations

import errno
import gzip
import json
import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from fedi2i.errors import DataError
from partitions.manifest import UNKNOWN_VOXEL_SIZE, SiteManifest, read_manifest
from partitions.preparation import PreparationConfig, prepare_site

CONFIG = PreparationConfig(size=(40, 30), spacing=None)
MakeSite = Callable[..., SiteManifest]
Change = Callable[[NDArray[Any], NDArray[Any]], tuple[NDArray[Any], NDArray[Any]]]


def _rewrite(path: Path, change: Change) -> None:
    """Replace a scan by what ``change`` makes of its voxels and affine."""
    scan = nibabel.load(path)
    data, affine = change(np.asarray(scan.dataobj).copy(), scan.affine.copy())
    nibabel.Nifti1Image(data, affine).to_filename(path)


def _refused(manifest: SiteManifest, cache: Path, config: PreparationConfig = CONFIG) -> str:
    """Prepare, expect a refusal, and check that no finished cache or half file is left."""
    with pytest.raises(DataError) as caught:
        prepare_site(manifest, config, cache, progress=False)
    assert not list(cache.rglob("prepared.json"))
    assert not list(cache.rglob(".writing-*"))
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


@pytest.fixture
def site(make_site: MakeSite) -> SiteManifest:
    return make_site(lesion=True)


def test_a_missing_data_folder_is_named(site: SiteManifest, tmp_path: Path) -> None:
    gone = replace(site, root=tmp_path / "gone")
    assert "gone: no such data folder; correct" in _refused(gone, tmp_path / "cache")


@pytest.mark.parametrize("name", ["A1/t1.nii.gz", "A1/t2.nii.gz", "A1/mask.nii.gz"])
def test_a_missing_file_is_named_before_anything_is_prepared(
    site: SiteManifest, tmp_path: Path, name: str
) -> None:
    (site.root / name).unlink()
    assert f"{name}: no such file, but subject 'A1' needs it; copy it there" in _refused(
        site, tmp_path / "cache"
    )
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.9, -4])
def test_a_truncated_nifti_is_named_and_nothing_is_finished(
    site: SiteManifest, tmp_path: Path, keep: float
) -> None:
    path = site.root / "A0/t2.nii.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if 0 < keep < 1 else int(keep)])
    sentence = _refused(site, tmp_path / "cache")
    assert "A0/t2.nii.gz: damaged" in sentence
    assert "copy it again" in sentence


def test_one_wrong_byte_among_the_voxels_is_noticed(site: SiteManifest, tmp_path: Path) -> None:
    path = site.root / "A0/t1.nii.gz"
    content = bytearray(gzip.decompress(path.read_bytes()))
    stored = bytearray(gzip.compress(content, compresslevel=0))
    stored[len(stored) // 2] ^= 1  # level 0 stores voxels as they are: only the checksum tells
    path.write_bytes(stored)
    assert "A0/t1.nii.gz: damaged" in _refused(site, tmp_path / "cache")


def test_a_truncated_uncompressed_nifti_is_named(site: SiteManifest, tmp_path: Path) -> None:
    packed = site.root / "A0/t1.nii.gz"
    plain = site.root / "A0/t1.nii"
    plain.write_bytes(gzip.decompress(packed.read_bytes())[:-50])
    record = replace(site.subjects[0], files={**site.subjects[0].files, "t1": "A0/t1.nii"})
    changed = replace(site, subjects=(record, *site.subjects[1:]))
    size = plain.stat().st_size
    sentence = (
        f"A0/t1.nii: damaged: the file ends too early (expected {size + 50} bytes, got {size})"
    )
    assert sentence in _refused(changed, tmp_path / "cache")


def test_a_text_file_in_the_place_of_a_scan_is_named(site: SiteManifest, tmp_path: Path) -> None:
    (site.root / "A0/t1.nii.gz").write_bytes(gzip.compress(b"not an image" * 100))
    said = _refused(site, tmp_path / "cache")
    assert "A0/t1.nii.gz: damaged or not the kind of file that its name says" in said


def _shift(data: NDArray[Any], affine: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    affine[0, 3] += 0.2  # a tenth of the voxel edge
    return data, affine


FAULTS: list[tuple[str, Change, str]] = [
    ("t2", lambda d, a: (d[:-1], a), r"A1/t2.nii.gz: not on the voxel grid of t1.nii.gz \(shape"),
    ("t2", _shift, r"A1/t2.nii.gz: not on the voxel grid of t1.nii.gz \(voxels lie up to 0.1 "),
    ("mask", _shift, "A1/mask.nii.gz: not on the voxel grid"),
    ("t1", lambda d, a: (np.where(d > 600, np.nan, d), a), "A1/t1.nii.gz: .* NaN or infinite"),
    ("t2", lambda d, a: (np.where(d > 600, -np.inf, d), a), "A1/t2.nii.gz: .* NaN or infinite"),
    ("mask", lambda d, a: (d * 0, a), "A1/mask.nii.gz: the mask is empty"),
    ("t1", lambda d, a: (d * 0 + 7, a), "A1/t1.nii.gz: the image is constant, every voxel is 7"),
    (
        "t2",
        lambda d, a: ((d > 200) * np.uint8(7), a),
        "A1/t2.nii.gz: the image is constant inside the mask",
    ),
    ("t1", lambda d, a: (np.stack([d, d], -1), a), r"A1/t1.nii.gz: has shape .*one 3-D volume"),
    ("t1", lambda d, a: (d[..., 0], a), r"A1/t1.nii.gz: has shape .*one 3-D volume"),
]


@pytest.mark.parametrize(("name", "change", "sentence"), FAULTS)
def test_a_scan_that_cannot_be_used_is_named(
    site: SiteManifest, tmp_path: Path, name: str, change: Change, sentence: str
) -> None:
    _rewrite(site.root / f"A1/{name}.nii.gz", change)
    with pytest.raises(DataError, match=sentence):
        prepare_site(site, CONFIG, tmp_path / "cache", progress=False)
    assert not list((tmp_path / "cache").rglob("prepared.json"))


@pytest.mark.parametrize(("share", "noted"), [(0.005, False), (0.033, True)])
def test_affines_within_a_twentieth_of_a_voxel_are_one_grid_which_is_noted_from_a_hundredth(
    site: SiteManifest, tmp_path: Path, share: float, noted: bool
) -> None:
    def nudge(data: NDArray[Any], affine: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        affine[0, 3] += 2 * share
        return data, affine

    _rewrite(site.root / "A1/t2.nii.gz", nudge)
    prepared = prepare_site(site, CONFIG, tmp_path / "cache", progress=False)
    record = json.loads((prepared.folder / "prepared.json").read_text())
    found = [f for s in record["splits"]["train"]["subjects"] for f in s["findings"]]
    said = [(f["file"], f["sentence"]) for f in found if f["rule"] == "nearly-one-grid"]
    expected = "lies on the voxel grid of t1.nii.gz but for 3.3% of a voxel edge"
    assert said == ([("A1/t2.nii.gz", expected)] if noted else [])


def test_a_grid_that_is_shifted_by_whole_voxels_is_named_so(
    site: SiteManifest, tmp_path: Path
) -> None:
    def crop(data: NDArray[Any], affine: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        affine[2, 3] += 3.0
        return data, affine

    _rewrite(site.root / "A1/t2.nii.gz", crop)
    assert "(shifted by (0, 0, 1) voxels)" in _refused(site, tmp_path / "cache")


def test_a_constant_scan_without_mask_has_no_foreground(
    make_site: MakeSite, tmp_path: Path
) -> None:
    site = make_site(mask=False)
    _rewrite(site.root / "A0/t1.nii.gz", lambda d, a: (d * 0 + 3, a))
    assert "A0/t1.nii.gz: the image is constant" in _refused(site, tmp_path / "cache")


def test_a_sequence_that_no_subject_has_is_an_error_that_lists_the_sequences(
    site: SiteManifest, tmp_path: Path
) -> None:
    sentence = _refused(site, tmp_path / "cache", replace(CONFIG, target="flair"))
    assert "no subject of site 'A' has both 't1' and 'flair'; sequences here: t1, t2" in sentence


def test_an_unknown_voxel_size_is_not_resampled(site: SiteManifest, tmp_path: Path) -> None:
    record = replace(site.subjects[0], metadata=dict(UNKNOWN_VOXEL_SIZE))
    changed = replace(site, subjects=(record, *site.subjects[1:]))
    sentence = _refused(changed, tmp_path / "cache", replace(CONFIG, spacing=1.5))
    assert "subject 'A0': its voxel size is unknown" in sentence
    assert "'spacing: null'" in sentence
    prepared = prepare_site(changed, CONFIG, tmp_path / "cache", progress=False)
    assert [s.spacing for s in prepared.split("train").subjects] == [None, (2.0, 2.0, 3.0)]


def test_the_data_of_another_site_are_refused(site: SiteManifest) -> None:
    with pytest.raises(DataError, match="holds the data of site 'A', but this is site 'B'"):
        read_manifest(site.root, expected_site="B")


def test_a_file_size_limit_stands_for_a_full_disk_and_the_room_needed_is_named(
    site: SiteManifest, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        sentence = _refused(site, cache)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    # Four subjects, at most 40 slices each (longest axis), 40 x 30 pixels of 6 bytes, twice.
    assert f"{cache}: no space left on device" in sentence
    assert f"up to {4 * 40 * 40 * 30 * 6 * 2} bytes" in sentence
    assert prepare_site(site, CONFIG, cache, progress=False).site == "A"


def test_a_disk_that_fills_up_while_arrays_are_joined_leaves_no_finished_cache(
    site: SiteManifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("partitions.preparation.assembly._append", full)
        assert "no space left on device" in _refused(site, tmp_path / "cache")
    assert prepare_site(site, CONFIG, tmp_path / "cache", progress=False).site == "A"


def test_a_cache_folder_that_cannot_be_made_is_named(site: SiteManifest, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    sentence = _refused(site, tmp_path / "file" / "cache")
    assert "cannot be written" in sentence
    assert "choose another cache folder" in sentence
