"""Several contrasts of a source on one grid, of which a subject may lack some."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from three_contrasts import write_three_contrasts

from fedi2i.errors import ConfigError, DataError
from fedi2i.typed_config import as_dict
from partitions.manifest import SiteManifest, read_manifest, write_manifest
from partitions.preparation import PreparationConfig, PreparedSite, prepare_site
from partitions.preparation.corrections.shifts import SHIFT
from partitions.preparation.grids.stored_target import stored_target
from partitions.preparation.site import find_prepared

ONE = PreparationConfig(source="t1", target="t2", size=(48, 40), spacing=1.5)
BOTH = replace(ONE, further_sources=("flair",))


@pytest.fixture
def manifest(tmp_path: Path) -> SiteManifest:
    return read_manifest(write_three_contrasts(tmp_path, ["north"]) / "north")


def _lacking(manifest: SiteManifest, lacks: Mapping[str, tuple[str, ...]]) -> SiteManifest:
    """The site, some of whose subjects lack sequences."""
    subjects = [
        replace(
            record,
            files={
                name: path
                for name, path in record.files.items()
                if name not in lacks.get(record.subject, ())
            },
        )
        for record in manifest.subjects
    ]
    write_manifest(replace(manifest, subjects=tuple(subjects)))
    return read_manifest(manifest.root)


def _prepared(manifest: SiteManifest, config: PreparationConfig) -> PreparedSite:
    return prepare_site(manifest, config, manifest.root / "prepared", progress=False)


def test_every_contrast_is_what_it_would_be_as_the_only_source(manifest: SiteManifest) -> None:
    both = _prepared(manifest, BOTH).split("train")
    t1, flair = (
        _prepared(manifest, replace(ONE, source=name)).split("train") for name in ("t1", "flair")
    )
    assert both.contrasts == ("t1", "flair")
    for subject in both.subjects:
        where = slice(subject.start, subject.stop)
        assert subject.contrasts == ("t1", "flair")
        stacked = np.stack([t1.source[where], flair.source[where]])
        np.testing.assert_array_equal(both.contrasts_at(where, subject), stacked)
    np.testing.assert_array_equal(both.target, t1.target)
    assert not np.array_equal(t1.source, flair.source)


def test_a_missing_contrast_is_zeros_and_the_record_says_who_has_which(
    manifest: SiteManifest,
) -> None:
    complete = _prepared(manifest, BOTH).split("train")
    mixed = _lacking(manifest, {"north-000": ("flair",), "north-001": ("t1",)})
    site = _prepared(mixed, BOTH)
    train = site.split("train")
    held = {subject.subject: subject.contrasts for subject in train.subjects}
    assert held == {
        "north-000": ("t1",),
        "north-001": ("flair",),
        "north-002": ("t1", "flair"),
    }
    record = json.loads((site.folder / "prepared.json").read_text())
    told = [entry["contrasts"] for entry in record["splits"]["train"]["subjects"]]
    assert told == [["t1"], ["flair"], ["t1", "flair"]]
    assert {subject.domains for subject in train.subjects} == {("source", "target")}
    for subject, whole in zip(train.subjects, complete.subjects, strict=True):
        there = np.array([name in subject.contrasts for name in train.contrasts])
        expected = complete.contrasts_at(slice(whole.start, whole.stop), whole)
        found = train.contrasts_at(slice(subject.start, subject.stop), subject)
        np.testing.assert_array_equal(found[there], expected[there])
        assert found[there].any() and not found[~there].any()
    # The image to look at, and its scale, are those of the first contrast that there is.
    lacks_t1 = train.subjects[1]
    where = slice(lacks_t1.start, lacks_t1.stop)
    np.testing.assert_array_equal(train.source[where], train.further[0][where])
    assert lacks_t1.scales["source"] == lacks_t1.scales["source_2"]


def test_subjects_without_any_source_or_without_the_target_are_left_out(
    manifest: SiteManifest,
) -> None:
    mixed = _lacking(
        manifest, {"north-000": ("t1", "flair"), "north-001": ("t2",), "north-004": ("t1",)}
    )
    site = _prepared(mixed, BOTH)
    assert site.skipped == {"north-000": ("t1", "flair"), "north-001": ("t2",)}
    (tested,) = site.split("test").subjects
    assert tested.contrasts == ("flair",)


def test_a_site_that_lacks_all_contrasts_is_told_so_in_one_sentence(
    manifest: SiteManifest,
) -> None:
    with pytest.raises(
        DataError, match=r"no subject of site 'north' has 't2' and one of 'pd', 'dwi'; sequences"
    ):
        _prepared(manifest, replace(ONE, source="pd", further_sources=("dwi",)))


def test_a_contrast_that_a_site_lacks_altogether_is_named_in_the_log(
    manifest: SiteManifest, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        site = _prepared(manifest, replace(ONE, further_sources=("pd",)))
    assert "north: no subject has pd; it is missing for all of them" in caplog.text
    assert {subject.contrasts for subject in site.split("train").subjects} == {("t1",)}


def test_without_a_mask_file_the_foreground_is_that_of_the_first_contrast_there_is(
    manifest: SiteManifest,
) -> None:
    bare = replace(
        manifest, subjects=tuple(replace(record, mask=None) for record in manifest.subjects)
    )
    write_manifest(bare)
    lacking = _lacking(read_manifest(bare.root), {"north-000": ("t1",)})
    both = _prepared(lacking, BOTH).split("train")
    flair = _prepared(lacking, replace(ONE, source="flair")).split("train")
    first = both.subjects[0]
    where = slice(first.start, first.stop)
    np.testing.assert_array_equal(both.mask[where], flair.mask[where])
    again = stored_target(lacking.subjects[0], lacking.root, BOTH)
    assert again.mask.shape == (40, 48, 6) and again.mask.any()


def test_contrasts_on_another_grid_are_refused(manifest: SiteManifest) -> None:
    path = manifest.root / manifest.subjects[0].files["flair"]
    image = nibabel.load(path)
    nibabel.save(nibabel.Nifti1Image(image.get_fdata()[:-4], image.affine), path)
    with pytest.raises(DataError, match="flair"):
        _prepared(manifest, BOTH)


def test_a_site_s_misregistration_moves_all_contrasts_of_the_source_alike(
    manifest: SiteManifest,
) -> None:
    for record in manifest.subjects:  # so that both contrasts are one image
        t1, flair = (manifest.root / record.files[name] for name in ("t1", "flair"))
        nibabel.save(nibabel.load(t1), flair.with_name("copy.nii.gz"))
        data = nibabel.load(t1)
        other = np.asarray(data.dataobj) * 2  # another file of the same intensities
        nibabel.save(nibabel.Nifti1Image(other.astype(np.int16), data.affine), flair)
    shift = {SHIFT: {"misregistration": 1.0, "seed": 1}}
    moved = replace(
        manifest, subjects=tuple(replace(record, metadata=shift) for record in manifest.subjects)
    )
    write_manifest(moved)
    train = _prepared(read_manifest(moved.root), BOTH).split("train")
    np.testing.assert_array_equal(train.source, train.further[0])


def test_a_preparation_of_one_source_is_what_it_was(manifest: SiteManifest) -> None:
    assert "further_sources" not in as_dict(ONE)
    site = _prepared(manifest, ONE)
    record = json.loads((site.folder / "prepared.json").read_text())
    assert "contrasts" not in record["splits"]["train"]["subjects"][0]
    assert record["splits"]["train"]["arrays"] == ["source", "target", "mask"]
    assert site.split("train").contrasts == () and site.split("train").further == ()
    assert find_prepared(manifest, BOTH, manifest.root / "prepared") is None


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"further_sources": ["t1"]}, "'t1' is named twice among source, further_sources"),
        ({"further_sources": ["t2"]}, "'t2' is named twice among source, further_sources"),
        ({"further_sources": ["a/b"]}, "source_2 'a/b' is no name of a sequence"),
        ({"further_sources": list("abcdefgh")}, "are 9 sequences, and 8 are the most"),
        ({"further_sources": ["flair"], "pairing": "unpaired"}, "set it to 'paired'"),
        ({"further_sources": ["flair"], "registration": "rigid"}, "must lie on one grid with it"),
    ],
)
def test_what_several_contrasts_cannot_be_is_refused(
    changes: dict[str, object], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        PreparationConfig(**changes)  # type: ignore[arg-type]
