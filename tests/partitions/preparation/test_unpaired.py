"""Sites whose subjects have one of the two sequences."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from fedi2i.errors import ConfigError, DataError
from partitions.__main__ import main
from partitions.manifest import SiteManifest, SubjectRecord, write_manifest
from partitions.preparation import PreparationConfig, PreparedSite, prepare_site
from partitions.preparation.grids.native_grid import geometry_of
from partitions.preparation.intensities import Scale
from partitions.preparation.subject_file import SubjectFacts, SubjectFile, SubjectSlices
from partitions.scans.foreground import foreground_mask
from partitions.scans.grid import Grid

PAIRED = PreparationConfig(size=(40, 30), spacing=None)
UNPAIRED = replace(PAIRED, pairing="unpaired")
SPLITS = ("train", "train", "train", "val", "test")
MakeSite = Callable[..., SiteManifest]


def _with_only(record: SubjectRecord, sequence: str) -> SubjectRecord:
    return replace(record, files={sequence: record.files[sequence]})


def _lacking(manifest: SiteManifest, kept: dict[str, str]) -> SiteManifest:
    """The site with some subjects left one sequence; its manifest file says so, too."""
    records = [
        _with_only(record, kept[record.subject]) if record.subject in kept else record
        for record in manifest.subjects
    ]
    changed = replace(manifest, subjects=tuple(records))
    write_manifest(changed)
    return changed


def _prepare(manifest: SiteManifest, config: PreparationConfig, cache: Path) -> PreparedSite:
    return prepare_site(manifest, config, cache, progress=False)


@pytest.fixture
def mixed(make_site: MakeSite) -> SiteManifest:
    """A0 has both sequences, A1 the source, A2 the target; A3 (val) and A4 (test) have both."""
    return _lacking(make_site(SPLITS), {"A1": "t1", "A2": "t2"})


def test_training_subjects_are_prepared_with_the_sequence_they_have(
    mixed: SiteManifest, make_site: MakeSite, tmp_path: Path
) -> None:
    site = _prepare(mixed, UNPAIRED, tmp_path / "cache")
    train = site.split("train")
    assert {s.subject: s.domains for s in train.subjects} == {
        "A0": ("source", "target"),
        "A1": ("source",),
        "A2": ("target",),
    }
    assert site.skipped == {}
    complete = _prepare(make_site(SPLITS), PAIRED, tmp_path / "cache").split("train")
    both, source, target = (np.arange(s.start, s.stop) for s in train.subjects)
    for domain, there in (("source", source), ("target", target)):
        array, expected = getattr(train, domain), getattr(complete, domain)
        np.testing.assert_array_equal(array[both], expected[both])
        np.testing.assert_array_equal(array[there], expected[there])
        assert array[there].any()
    assert not train.target[source].any()
    assert not train.source[target].any()
    np.testing.assert_array_equal(train.mask, complete.mask)


def test_slices_that_a_subject_lacks_are_in_no_domain(mixed: SiteManifest, tmp_path: Path) -> None:
    train = _prepare(mixed, UNPAIRED, tmp_path / "cache").split("train")
    both, source, target = ([*range(s.start, s.stop)] for s in train.subjects)
    assert train.slices_with(["source"]).tolist() == both + source
    assert train.slices_with(["target"]).tolist() == both + target
    assert train.slices_with(["source", "target"]).tolist() == both
    for domain in ("source", "target"):
        assert getattr(train, domain)[train.slices_with([domain])].any(axis=(1, 2)).all()


def test_paired_is_the_default_and_leaves_those_subjects_out(
    mixed: SiteManifest, tmp_path: Path
) -> None:
    assert PreparationConfig().pairing == "paired"
    site = _prepare(mixed, PAIRED, tmp_path / "cache")
    assert site.skipped == {"A1": ("t2",), "A2": ("t1",)}
    assert [s.subject for s in site.split("train").subjects] == ["A0"]


def test_where_nothing_is_missing_both_pairings_give_the_same_arrays(
    make_site: MakeSite, tmp_path: Path
) -> None:
    manifest = make_site(SPLITS, lesion=True)
    one, other = (_prepare(manifest, config, tmp_path / "c") for config in (PAIRED, UNPAIRED))
    assert one.folder != other.folder
    for path in sorted(one.folder.rglob("*.npy")):
        twin = other.folder / path.relative_to(one.folder)
        assert path.read_bytes() == twin.read_bytes(), path
    for split in ("train", "val", "test"):
        assert one.split(split).subjects == other.split(split).subjects


@pytest.mark.parametrize("pairing", ["paired", "unpaired"])
def test_validation_and_test_need_both_sequences_in_any_case(
    make_site: MakeSite, tmp_path: Path, caplog: pytest.LogCaptureFixture, pairing: str
) -> None:
    manifest = _lacking(make_site(SPLITS), {"A3": "t1", "A4": "t2"})
    site = _prepare(manifest, replace(PAIRED, pairing=pairing), tmp_path / "cache")
    assert site.skipped == {"A3": ("t2",), "A4": ("t1",)}
    assert len(site.split("train").subjects) == 3
    for split in ("val", "test"):
        assert site.split(split).subjects == ()
        assert site.split(split).source.shape == (0, 40, 30)
    assert "subject 'A3' has no t2; left out" in caplog.text
    assert "subject 'A4' has no t1; left out" in caplog.text


@pytest.mark.parametrize(("sequence", "domain"), [("t1", "source"), ("t2", "target")])
def test_a_site_with_one_sequence_alone_is_prepared_without_a_mask_file(
    make_site: MakeSite, tmp_path: Path, sequence: str, domain: str
) -> None:
    complete = make_site(("train", "train"), mask=False)
    manifest = _lacking(complete, dict.fromkeys(("A0", "A1"), sequence))
    train = _prepare(manifest, UNPAIRED, tmp_path / "cache").split("train")
    assert {s.domains for s in train.subjects} == {(domain,)}
    first = train.subjects[0]
    scan = np.asarray(nibabel.load(manifest.root / f"A0/{sequence}.nii.gz").dataobj)
    # The file's axes are the prepared ones but for their order, and nothing is cut or resampled.
    expected = foreground_mask(scan.astype(np.float32)).transpose(2, 1, 0)
    np.testing.assert_array_equal(train.mask[first.start : first.stop] > 0, expected)


def test_the_mask_still_comes_from_the_source_where_there_is_one(
    make_site: MakeSite, tmp_path: Path
) -> None:
    complete = make_site(("train",), mask=False)
    source_only = _prepare(_lacking(complete, {"A0": "t1"}), UNPAIRED, tmp_path / "one")
    both = _prepare(complete, UNPAIRED, tmp_path / "two")
    np.testing.assert_array_equal(source_only.split("train").mask, both.split("train").mask)


def test_subjects_with_neither_sequence_are_left_out(make_site: MakeSite, tmp_path: Path) -> None:
    manifest = make_site(("train", "train"))
    other = replace(manifest.subjects[0], files={"flair": "A0/t1.nii.gz"})
    changed = replace(manifest, subjects=(other, manifest.subjects[1]))
    site = _prepare(changed, UNPAIRED, tmp_path / "cache")
    assert site.skipped == {"A0": ("t1", "t2")}
    assert [s.subject for s in site.split("train").subjects] == ["A1"]


def test_a_site_without_any_usable_subject_is_refused_with_the_sequences_it_has(
    make_site: MakeSite, tmp_path: Path
) -> None:
    # Its training subject has neither, and its test subject has one, which is not enough there.
    manifest = _lacking(make_site(("train", "test")), {"A1": "t1"})
    other = replace(manifest.subjects[0], files={"flair": "A0/t1.nii.gz"})
    changed = replace(manifest, subjects=(other, manifest.subjects[1]))
    with pytest.raises(DataError) as caught:
        _prepare(changed, UNPAIRED, tmp_path / "cache")
    sentence = str(caught.value)
    assert "has both 't1' and 't2', and no training subject has one of them" in sentence
    assert sentence.endswith("sequences here: flair, t1")
    assert "\n" not in sentence


def test_a_missing_scan_of_a_subject_with_one_sequence_is_named_and_its_bytes_count(
    mixed: SiteManifest, tmp_path: Path
) -> None:
    before = _prepare(mixed, UNPAIRED, tmp_path / "cache")
    scan = mixed.root / "A2/t2.nii.gz"
    other = nibabel.load(scan)
    nibabel.Nifti1Image(other.get_fdata() + 1, other.affine).to_filename(scan)
    assert _prepare(mixed, UNPAIRED, tmp_path / "cache").content_hash != before.content_hash
    scan.unlink()
    with pytest.raises(DataError, match=r"A2/t2\.nii\.gz: no such file, .* copy it there"):
        _prepare(mixed, UNPAIRED, tmp_path / "cache")


def test_a_full_disk_is_named_where_the_first_subject_has_no_source(
    make_site: MakeSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = _lacking(make_site(("train",)), {"A0": "t2"})

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("partitions.preparation.assembly._append", full)
    with pytest.raises(DataError, match="no space left on device; preparation needs up to"):
        _prepare(manifest, UNPAIRED, tmp_path / "cache")


def test_the_record_names_every_subjects_domains(mixed: SiteManifest, tmp_path: Path) -> None:
    site = _prepare(mixed, UNPAIRED, tmp_path / "cache")
    content = json.loads((site.folder / "prepared.json").read_text(encoding="utf-8"))
    assert content["config"]["pairing"] == "unpaired"
    entries = [entry for split in content["splits"].values() for entry in split["subjects"]]
    assert {entry["subject"]: entry["domains"] for entry in entries} == {
        "A0": ["source", "target"],
        "A1": ["source"],
        "A2": ["target"],
        "A3": ["source", "target"],
        "A4": ["source", "target"],
    }


@pytest.mark.parametrize("domains", [("source", "target"), ("source",), ("target",)])
def test_the_file_of_a_subject_gives_back_the_domains_it_was_written_with(
    tmp_path: Path, domains: tuple[str, ...]
) -> None:
    images = {d: np.full((2, 3, 4), i + 1, np.uint16) for i, d in enumerate(domains)}
    mask = np.ones((2, 3, 4), np.uint8)
    facts = SubjectFacts("threshold", (1.0, 1.0, 2.0), "LPS", ({"rule": "x"},), {"t1": "ab"})
    geometry = geometry_of(Grid((4, 3, 9), np.eye(4)), np.eye(4), (0, -1), np.array([4, 5]))
    scales = {domain: Scale(-1.5, 2000.25, "HU") for domain in domains}
    slices = SubjectSlices(
        images.get("source"), images.get("target"), mask, None, geometry, scales, None, facts
    )
    file = SubjectFile(SubjectRecord("A0", "A", "train", {}), tmp_path / "000000.npz")
    file.write(slices)
    again = file.read()
    assert again is not None
    assert again.domains == slices.domains == domains
    assert again.facts == facts
    assert (again.geometry, again.scales) == (geometry, scales)
    for domain in domains:
        np.testing.assert_array_equal(getattr(again, domain), images[domain])


def test_an_unknown_pairing_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match="pairing: unknown value 'unpared'; did you mean 'unpa"):
        PreparationConfig(pairing="unpared")


def test_check_accepts_such_a_site_and_prepare_counts_the_slices_of_each_domain(
    mixed: SiteManifest, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(mixed.root)]) == 0
    assert capfd.readouterr().out.splitlines()[1].split()[:5] == ["A", "3", "1", "1", "5"]
    settings = [f"--set={key}" for key in ("spacing=null", "size=[40,30]", "pairing=unpaired")]
    assert main(["prepare", "--data", str(mixed.root), *settings]) == 0
    said = capfd.readouterr().out
    assert "train 3 (16 source and 16 target slices), val 1 (8 slices), test 1 (8 slices)" in said
