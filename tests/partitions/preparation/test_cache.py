"""The cache: content, reuse, resuming, two processes at once."""

from __future__ import annotations

import shutil
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from fedi2i.errors import DataError
from partitions.manifest import SiteManifest
from partitions.preparation import PreparationConfig, PreparedSite, open_prepared, prepare_site
from partitions.preparation import site as site_module
from partitions.preparation import subject as subject_module

CONFIG = PreparationConfig(size=(40, 30), spacing=None)
MakeSite = Callable[..., SiteManifest]


def _tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the subjects whose scans were really prepared."""
    names: list[str] = []
    original = subject_module.prepare_subject

    def counted(record: Any, *rest: Any) -> Any:
        names.append(record.subject)
        return original(record, *rest)

    monkeypatch.setattr(subject_module, "prepare_subject", counted)
    return names


def test_prepared_values_are_the_scans_between_their_percentiles_inside_the_mask(
    make_site: MakeSite, tmp_path: Path
) -> None:
    manifest = make_site()
    train = prepare_site(manifest, CONFIG, tmp_path / "cache", progress=False).split("train")
    assert [s.subject for s in train.subjects] == ["A0", "A1"]
    assert train.subjects[0].start == 0
    assert train.subjects[0].stop == train.subjects[1].start
    assert train.subjects[1].stop == len(train.source) == len(train.target) == len(train.mask)
    second = train.subjects[1]
    assert second.metadata == {"age": 41}
    assert second.spacing == (2.0, 2.0, 3.0)
    for name, prepared in (("t1", train.source), ("t2", train.target)):
        scan = np.asarray(nibabel.load(manifest.root / f"A1/{name}.nii.gz").dataobj)
        mask = np.asarray(nibabel.load(manifest.root / "A1/mask.nii.gz").dataobj) > 0
        low, high = np.percentile(scan[mask], (0.5, 99.5))
        expected = np.clip((scan - low) / (high - low), 0, 1).transpose(2, 1, 0)
        np.testing.assert_allclose(
            prepared[second.start : second.stop] / 65535, expected, atol=1e-5
        )


def test_a_manifest_written_by_hand_leaves_no_age_above_89_in_prepared_data(
    make_site: MakeSite, tmp_path: Path
) -> None:
    manifest = make_site()
    old = tuple(replace(record, metadata={"age": 93}) for record in manifest.subjects)
    site = prepare_site(replace(manifest, subjects=old), CONFIG, tmp_path / "c", progress=False)
    assert {subject.metadata["age"] for subject in site.split("train").subjects} == {"90+"}


def test_arrays_are_read_only_maps_of_the_documented_types(
    make_site: MakeSite, tmp_path: Path
) -> None:
    site = prepare_site(make_site(lesion=True), CONFIG, tmp_path / "cache", progress=False)
    train = site.split("train")
    assert train.lesion is not None
    for array, kind in ((train.source, "uint16"), (train.mask, "uint8"), (train.lesion, "uint8")):
        assert isinstance(array, np.memmap)
        assert array.dtype == kind
        assert array.shape == (16, 40, 30)
        assert not array.flags.writeable
    first, second = train.subjects
    assert train.lesion[first.start : first.stop].sum() == 3 * 3 * 2
    assert train.lesion[second.start : second.stop].sum() == 0
    assert site.split("test").lesion is None


def test_a_split_without_subjects_has_arrays_of_no_slices(
    make_site: MakeSite, tmp_path: Path
) -> None:
    site = prepare_site(make_site(("train",)), CONFIG, tmp_path / "cache", progress=False)
    assert site.split("val").source.shape == (0, 40, 30)
    assert site.split("val").subjects == ()


def test_subjects_are_joined_one_at_a_time_however_many_there_are(
    make_site: MakeSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a site of thousands needs the memory of its largest subject and no more."""
    join, peaks = site_module.assemble_split, []

    def watched(*given: Any) -> dict[str, Any]:
        tracemalloc.start()
        try:
            return join(*given)
        finally:
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()

    monkeypatch.setattr(site_module, "assemble_split", watched)
    manifest = make_site(("train",) * 16 + ("val", "test"))
    config = replace(CONFIG, size=(200, 160), min_mask_fraction=0.0)
    train = prepare_site(manifest, config, tmp_path / "cache", progress=False).split("train")
    together = train.source.nbytes + train.target.nbytes + train.mask.nbytes
    assert len(train.subjects) == 16
    assert max(peaks) < together / 4


def test_preparing_twice_gives_the_same_hash_and_does_no_work(
    make_site: MakeSite, tmp_path: Path, calls: list[str]
) -> None:
    manifest = make_site()
    first = prepare_site(manifest, CONFIG, tmp_path / "cache", progress=False)
    before = {path: path.stat().st_mtime_ns for path in first.folder.rglob("*")}
    calls.clear()
    second = prepare_site(manifest, CONFIG, tmp_path / "cache", progress=False)
    assert second == first
    assert first.folder == tmp_path / "cache" / first.content_hash[:12]
    assert calls == []
    assert {path: path.stat().st_mtime_ns for path in first.folder.rglob("*")} == before


def test_the_hash_changes_with_configuration_manifest_and_scans_but_not_with_the_place(
    make_site: MakeSite, tmp_path: Path
) -> None:
    manifest = make_site()
    cache = tmp_path / "cache"

    def hash_of(changed: SiteManifest, config: PreparationConfig = CONFIG) -> str:
        return prepare_site(changed, config, cache, progress=False).content_hash

    shutil.copytree(manifest.root, tmp_path / "moved")
    moved = replace(manifest, root=tmp_path / "moved")
    hashes = [hash_of(manifest), hash_of(moved)]
    assert hashes[0] == hashes[1]
    hashes.append(hash_of(manifest, replace(CONFIG, percentiles=(1.0, 99.0))))
    hashes.append(hash_of(replace(manifest, computed=True)))
    scan = nibabel.load(moved.root / "A0/t1.nii.gz")
    brighter = nibabel.Nifti1Image(scan.get_fdata() + 1, scan.affine)
    brighter.to_filename(moved.root / "A0/t1.nii.gz")
    hashes.append(hash_of(moved))
    assert len(set(hashes)) == 4


def test_an_interrupted_preparation_goes_on_and_ends_with_the_same_files(
    make_site: MakeSite, tmp_path: Path, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = make_site()
    counted = subject_module.prepare_subject

    def killed_in_the_third(record: Any, *rest: Any) -> Any:
        if len(calls) == 2:
            raise KeyboardInterrupt
        return counted(record, *rest)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(subject_module, "prepare_subject", killed_in_the_third)
        prepare_site(manifest, CONFIG, tmp_path / "cache", progress=False)
    assert not list((tmp_path / "cache").rglob("prepared.json"))
    done = list(calls)
    calls.clear()
    resumed = prepare_site(manifest, CONFIG, tmp_path / "cache", progress=False)
    assert len(done) == len(calls) == 2
    assert sorted(done + calls) == ["A0", "A1", "A2", "A3"]
    whole = prepare_site(manifest, CONFIG, tmp_path / "other", progress=False)
    assert _tree(resumed.folder) == _tree(whole.folder)
    assert not (resumed.folder / "parts").exists()


def test_a_damaged_file_of_a_subject_is_made_again_and_leftovers_of_a_killed_process_go(
    make_site: MakeSite, tmp_path: Path, calls: list[str]
) -> None:
    manifest = make_site()
    whole = prepare_site(manifest, CONFIG, tmp_path / "whole", progress=False)
    calls.clear()
    parts = tmp_path / "cache" / whole.folder.name / "parts"
    parts.mkdir(parents=True)
    (parts / "000000.npz").write_bytes(b"half a file")
    leftover = parts.parent / "train" / ".writing-killed.npy"
    leftover.parent.mkdir()
    leftover.touch()
    site = prepare_site(manifest, CONFIG, tmp_path / "cache", progress=False)
    assert len(calls) == 4
    assert _tree(site.folder) == _tree(whole.folder)


def test_two_at_once_prepare_every_subject_only_once(
    make_site: MakeSite, tmp_path: Path, calls: list[str]
) -> None:
    manifest = make_site()

    def prepare(_: int) -> PreparedSite:
        return prepare_site(manifest, CONFIG, tmp_path / "cache", progress=False)

    with ThreadPoolExecutor(2) as pool:
        one, two = pool.map(prepare, range(2))
    assert one == two
    assert sorted(calls) == ["A0", "A1", "A2", "A3"]


def test_a_subject_that_lacks_a_sequence_is_left_out_and_recorded(
    make_site: MakeSite, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = make_site()
    first, *others = manifest.subjects
    lacking = replace(first, files={"t1": first.files["t1"]})
    site = prepare_site(
        replace(manifest, subjects=(lacking, *others)), CONFIG, tmp_path / "cache", progress=False
    )
    assert site.skipped == {"A0": ("t2",)}
    assert [s.subject for s in site.split("train").subjects] == ["A1"]
    assert "subject 'A0' has no t2; left out" in caplog.text


def test_an_opened_cache_is_the_prepared_one(make_site: MakeSite, tmp_path: Path) -> None:
    site = prepare_site(make_site(), CONFIG, tmp_path / "cache", progress=False)
    again = open_prepared(site.folder)
    assert again == site
    assert (again.site, again.dataset, again.computed) == ("A", "synthetic", False)
    assert again.config == CONFIG


@pytest.mark.parametrize("name", ["source.npy", "lesion.npy"])
def test_a_truncated_array_is_refused_when_it_is_opened(
    make_site: MakeSite, tmp_path: Path, name: str
) -> None:
    site = prepare_site(make_site(lesion=True), CONFIG, tmp_path / "cache", progress=False)
    path = site.folder / "train" / name
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(DataError, match=f"{name}: damaged"):
        site.split("train")


def test_a_folder_without_finished_cache_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="run 'fedi2i data prepare'"):
        open_prepared(tmp_path)
    (tmp_path / "prepared.json").write_text('{"format": 99}')
    with pytest.raises(DataError, match="cache format 99"):
        open_prepared(tmp_path)
    (tmp_path / "prepared.json").write_text("{")
    with pytest.raises(DataError, match="damaged"):
        open_prepared(tmp_path)
