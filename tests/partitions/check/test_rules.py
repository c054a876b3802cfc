"""Every rule is planted in a site: ``check`` finds it, and preparation refuses or records it."""

from __future__ import annotations

import gzip
import json
import shutil
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from fedi2i.errors import ConfigError, DataError
from partitions.check.catalogue import RULES
from partitions.check.finding import ERROR
from partitions.check.inspection import Inspection, Plan, inspect
from partitions.check.results import exit_code
from partitions.manifest import SiteManifest, write_manifest
from partitions.preparation import PreparationConfig, prepare_site

MakeSite = Callable[..., SiteManifest]
Plant = Callable[[SiteManifest], "SiteManifest | None"]
CONFIG = PreparationConfig(size=(40, 40), spacing=None)
HEADER_ONLY = Plan()
VOXELS = Plan(voxels=True)


def look(manifest: SiteManifest, plan: Plan = VOXELS) -> Inspection:
    return inspect([manifest.root], plan, lambda results, _: results)


def rules_in(inspection: Inspection) -> set[str]:
    return {finding.rule for finding in inspection.findings} - {"unit-unknown"}


def patch(site: SiteManifest, name: str, offset: int, fmt: str, *values: object) -> None:
    """Overwrite a field of a header, as nibabel would not write it."""
    path = site.root / f"A0/{name}.nii.gz"
    content = bytearray(gzip.decompress(path.read_bytes()))
    struct.pack_into("<" + fmt, content, offset, *values)
    path.write_bytes(gzip.compress(bytes(content)))


def rewrite(site: SiteManifest, name: str, change: Callable[[Any], Any]) -> None:
    """Replace the voxels of a scan; a change that gives an image replaces that."""
    path = site.root / f"A0/{name}.nii.gz"
    scan = nibabel.load(path)
    data = change(np.asarray(scan.dataobj).copy())
    image = data if hasattr(data, "header") else nibabel.Nifti1Image(data, scan.affine)
    image.to_filename(path)


def rename(site: SiteManifest, name: str, content: bytes) -> SiteManifest:
    """Give the first subject's T2 another name and content."""
    (site.root / name).write_bytes(content)
    return changed(site, files={**site.subjects[0].files, "t2": name})


def changed(site: SiteManifest, **fields: object) -> SiteManifest:
    record = replace(site.subjects[0], **fields)  # type: ignore[arg-type]
    new = replace(site, subjects=(record, *site.subjects[1:]))
    write_manifest(new)
    return new


def t2(site: SiteManifest) -> bytes:
    return (site.root / "A0/t2.nii.gz").read_bytes()


def write(site: SiteManifest, content: bytes) -> None:
    (site.root / "A0/t2.nii.gz").write_bytes(content)


def qform(site: SiteManifest, origin: float, flip: float = 1.0) -> None:
    path = site.root / "A0/t2.nii.gz"
    scan = nibabel.load(path)
    form = scan.affine.copy()
    form[0] *= flip
    form[0, 3] += origin
    scan.set_qform(form, 1)
    scan.to_filename(path)


def thick(site: SiteManifest) -> None:
    for name in ("t1", "t2", "mask"):
        path = site.root / f"A0/{name}.nii.gz"
        affine = np.diag([-6.0, -2.0, 2.0, 1.0])
        nibabel.Nifti1Image(np.asarray(nibabel.load(path).dataobj), affine).to_filename(path)


def annex(site: SiteManifest) -> None:
    (site.root / "A0/t2.nii.gz").unlink()
    (site.root / "A0/t2.nii.gz").symlink_to("../.git/annex/objects/x/SHA256E-s1--0.nii.gz")


def unoriented(site: SiteManifest) -> None:
    for name in ("t1", "t2", "mask"):
        path = site.root / f"A0/{name}.nii.gz"
        image = nibabel.Nifti1Image(np.asarray(nibabel.load(path).dataobj), None)
        image.header.set_zooms((2, 2, 3))
        image.to_filename(path)


def two_labels(mask: Any) -> Any:
    return mask * (1 + np.indices(mask.shape)[2] % 2).astype(mask.dtype)


def half(mask: Any) -> Any:
    mask[..., 2:] = 0
    return mask


def colours(data: Any) -> Any:
    return np.zeros(data.shape, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])


# Offsets of fields of a NIfTI-1 header: datatype 70, pixdim 80, slope 112, intercept 116,
# xyzt_units 123, qform_code 252, sform_code 254, srow_x 280, magic 344.
PLANTED: dict[str, Plant] = {
    "missing-file": lambda site: (site.root / "A0/t2.nii.gz").unlink(),
    "lfs-pointer": lambda site: write(site, b"version https://git-lfs.github.com/spec/v1\noid x"),
    "annex-pointer": annex,
    "other-format": lambda site: rename(site, "t2.mgz", b"any"),
    "detached-voxels": lambda site: rename(
        site, "t2.mha", b"NDims = 3\nElementDataFile = t2.raw\n"
    ),
    "space-unknown": lambda site: rename(site, "t2.nrrd", b"NRRD0004\ndimension: 3\n\n"),
    "scale-unread": lambda site: rename(
        site,
        "t2.mha",
        b"NDims = 3\nElementToIntensityFunctionSlope = 2\nElementDataFile = LOCAL\n",
    ),
    "compressed-name": lambda site: rename(site, "t2.nii", t2(site)),
    "plain-name": lambda site: write(site, gzip.decompress(t2(site))),
    "header-pair": lambda site: rename(
        site, "t2.nii", gzip.decompress(t2(site))[:344] + b"ni1\0" + b"\0" * 200
    ),
    "damaged": lambda site: write(site, gzip.compress(b"no scan at all" * 100)),
    "truncated": lambda site: write(site, t2(site)[:-9000]),
    "complex-data": lambda site: rewrite(site, "t2", lambda d: d.astype(np.complex64)),
    "colour-data": lambda site: rewrite(site, "t2", colours),
    "data-type": lambda site: patch(site, "t2", 70, "h", 1),
    "vector-data": lambda site: rewrite(site, "t2", lambda d: np.stack([d] * 3, -1)[..., None, :]),
    "not-one-volume": lambda site: rewrite(site, "t2", lambda d: np.stack([d, d], -1)),
    "scale-invalid": lambda site: patch(site, "t2", 112, "2f", 1.0, float("nan")),
    "unit": lambda site: patch(site, "t2", 123, "B", 3),
    "unit-unknown": lambda site: None,
    "voxel-size": lambda site: patch(site, "t2", 280, "3f", -2000.0, 0.0, 0.0),
    "axes-dependent": lambda site: patch(site, "t2", 280, "8f", 2, 2, 0, 0, 2, 2, 0, 0),
    "voxel-size-negative": lambda site: patch(site, "t2", 80, "f", -2.0),
    "pixdim-differs": lambda site: patch(site, "t2", 80, "f", 3.0),
    "orientation-unknown": lambda site: unoriented(site),
    "forms-contradict": lambda site: qform(site, 0.0, flip=-1.0),
    "forms-differ": lambda site: qform(site, 5.0),
    "thick-slices": thick,
    "mask-declared": lambda site: changed(site, metadata={"mask_values": "lables"}),
    "not-finite": lambda site: rewrite(site, "t2", lambda d: np.where(d > 600, np.nan, d)),
    "constant-image": lambda site: rewrite(site, "t2", lambda d: d * 0 + 7),
    "mask-probabilities": lambda site: rewrite(site, "mask", lambda d: d * np.float32(0.7) + 1e-5),
    "mask-labels": lambda site: rewrite(
        site, "mask", lambda d: d + (np.indices(d.shape)[2] % 2).astype(d.dtype)
    ),
    "mask-image": lambda site: rewrite(
        site, "mask", lambda d: np.arange(d.size, dtype=np.float32).reshape(d.shape)
    ),
    "mask-empty": lambda site: rewrite(site, "mask", lambda d: d * 0),
    "mask-everywhere": lambda site: rewrite(site, "mask", lambda d: d * 0 + 1),
    "mask-half-empty": lambda site: rewrite(site, "mask", half),
    "other-grid": lambda site: rewrite(site, "t2", lambda d: d[:-1]),
    "nearly-one-grid": lambda site: patch(site, "t2", 292, "f", 0.05),
    "same-file": lambda site: changed(site, files=dict.fromkeys(("t1", "t2"), "A0/t1.nii.gz")),
    "same-voxels": lambda site: (
        shutil.copy(site.root / "A0/t1.nii.gz", site.root / "A0/t2.nii.gz")
        and rewrite(site, "t2", lambda d: d.astype(np.float64))
    ),
    "copied-scan": lambda site: write(site, (site.root / "A3/t2.nii.gz").read_bytes()),
    "patient-in-two-splits": lambda site: changed(site, metadata={"patient_id": "A3"}),
    "sessions": lambda site: sessions(site),
    "personal-metadata": lambda site: changed(site, metadata={"birth_date": "1961"}),
    "nobody-to-test": lambda site: everyone(site, split="train"),
}

PLANTED_ELSEWHERE = {
    "manifest": "test_a_manifest_that_cannot_be_read_does_not_hide_the_other_sites",
    "process-killed": "test_a_process_that_is_killed_loses_only_what_it_had_not_read",
    "withdrawn-site": "test_a_site_that_left_the_data_set_is_named_by_check",
    "other-data-set": "test_check_refuses_two_data_sets_at_once",
    "site-twice": "test_check_finds_a_file_that_is_gone_and_a_site_that_appears_twice",
}
ONLY_CHECK = {"patient-in-two-splits", "sessions", "personal-metadata", "nobody-to-test"}
"""About manifests: whoever imports or trains checks them, and preparation has read one of them."""
ALSO = {
    "voxel-size": {"pixdim-differs", "other-grid", "thick-slices"},
    "axes-dependent": {"pixdim-differs"},
}
"""What a planted fault brings about besides."""


def sessions(site: SiteManifest) -> SiteManifest:
    names = iter(("P1_v1", "P1_v2", "P2_v1", "P2_v2"))
    new = replace(
        site, subjects=tuple(replace(record, subject=next(names)) for record in site.subjects)
    )
    write_manifest(new)
    return new


def everyone(site: SiteManifest, **fields: Any) -> SiteManifest:
    new = replace(site, subjects=tuple(replace(record, **fields) for record in site.subjects))
    write_manifest(new)
    return new


def test_every_rule_is_planted_somewhere() -> None:
    assert set(PLANTED) | set(PLANTED_ELSEWHERE) == set(RULES)


@pytest.mark.parametrize("name", sorted(PLANTED))
def test_check_finds_what_is_planted_and_preparation_has_the_same_rule(
    make_site: MakeSite, tmp_path: Path, name: str
) -> None:
    site = make_site()
    assert rules_in(look(site)) == set()
    site = PLANTED[name](site) or site
    rule, found = RULES[name], look(site)
    planted = [finding for finding in found.findings if finding.rule == name]
    assert planted
    assert rules_in(found) <= {name} | ALSO.get(name, set())
    (first, *_) = planted
    assert first.severity == rule.severity
    assert first.remedy
    assert "{" not in first.text()
    assert exit_code(found) == (2 if found.count(ERROR) else 0)
    if name in ONLY_CHECK:
        return
    assert first.subject == ("A3" if name == "copied-scan" else "A0")
    assert f"{first.subject}/" in first.file or first.file.endswith(
        (".mgz", ".mha", ".nrrd", "t2.nii")
    )
    if found.count(ERROR):
        with pytest.raises(DataError) as refused:
            prepare_site(site, CONFIG, tmp_path / "cache", progress=False)
        said = {finding.text() for finding in found.findings if finding.severity == ERROR}
        assert any(str(refused.value).startswith(text) for text in said)
        assert not list((tmp_path / "cache").rglob("prepared.json"))
    else:
        folder = prepare_site(site, CONFIG, tmp_path / "cache", progress=False).folder
        record = json.loads((folder / "prepared.json").read_text())
        kept = record["splits"]["train"]["subjects"][0]["findings"]
        assert (name, first.sentence) in [(one["rule"], one["sentence"]) for one in kept]
        assert str(tmp_path) not in json.dumps(record)


@pytest.mark.parametrize(
    "name", ["truncated", "unit", "forms-contradict", "same-file", "copied-scan", "other-grid"]
)
def test_headers_and_hashes_suffice_for_what_is_in_them(make_site: MakeSite, name: str) -> None:
    site = make_site()
    site = PLANTED[name](site) or site
    assert name in rules_in(look(site, HEADER_ONLY))


def test_without_voxels_masks_are_not_judged(make_site: MakeSite) -> None:
    site = make_site()
    PLANTED["mask-labels"](site)
    assert rules_in(look(site, HEADER_ONLY)) == set()


def test_the_sform_wins_where_its_code_is_positive_whatever_pixdim_says(
    make_site: MakeSite, tmp_path: Path
) -> None:
    """MONAI's reader would take the qform here, as pixdim fits that one alone."""
    site = make_site(("train",))
    for name in ("t1", "t2", "mask"):
        path = site.root / f"A0/{name}.nii.gz"
        data = np.asarray(nibabel.load(path).dataobj)
        image = nibabel.Nifti1Image(data, np.diag([-4.0, -4.0, 3.0, 1.0]))
        image.set_qform(np.diag([-2.0, -2.0, 3.0, 1.0]), 1)
        image.set_sform(np.diag([-1.0, -1.5, 3.0, 1.0]), 2)
        image.header["pixdim"][1:4] = (2, 2, 3)
        image.to_filename(path)
        patch(site, name, 80, "3f", 2, 2, 3)
        patch(site, name, 280, "8f", -1, 0, 0, 0, 0, -1.5, 0, 0)
    (subject,) = prepare_site(site, CONFIG, tmp_path, progress=False).split("train").subjects
    assert subject.spacing == (1.5, 1.0, 3.0)
    assert rules_in(look(site)) == {"forms-differ", "pixdim-differs", "nobody-to-test"}


@pytest.mark.parametrize(
    ("values", "declared", "inside"),
    [
        ((0, 255), "", 255),
        ((0, 1, 2, 4), "labels", 1),
        ((0.0, 0.3, 0.7, 1.0), ">0.5", 0.7),
    ],
)
def test_a_mask_is_two_values_or_what_it_is_declared_to_be(
    make_site: MakeSite,
    tmp_path: Path,
    values: tuple[float, ...],
    declared: str,
    inside: float,
) -> None:
    site = make_site(("train",))
    shape = nibabel.load(site.root / "A0/mask.nii.gz").shape
    drawn = np.random.default_rng(0).choice(np.array(values, dtype=np.float32), shape)
    rewrite(site, "mask", lambda _: drawn)
    site = changed(site, metadata={"mask_values": declared} if declared else {})
    mask = prepare_site(site, CONFIG, tmp_path, progress=False).split("train").mask
    assert mask.sum() == (drawn >= inside).sum()


def test_the_record_keeps_how_a_scan_was_acquired(make_site: MakeSite, tmp_path: Path) -> None:
    site = make_site(("train",))
    thick(site)
    folder = prepare_site(site, CONFIG, tmp_path, progress=False).folder
    (subject,) = json.loads((folder / "prepared.json").read_text())["splits"]["train"]["subjects"]
    assert subject["acquired"] == {"spacing": [6.0, 2.0, 2.0], "axes": "LPS"}
    assert subject["foreground"] == "mask file"


def test_preparation_says_once_what_is_wrong_with_many_files(
    make_site: MakeSite, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    site = make_site(("train",))
    thick(site)
    prepare_site(site, CONFIG, tmp_path, progress=False)
    (said,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert said.startswith("A: A0/t1.nii.gz: was acquired in sagittal slices of 6 mm")
    assert "(and 1 more file)" in said


def test_what_looks_personal_in_a_manifest_does_not_reach_the_record(
    make_site: MakeSite, tmp_path: Path
) -> None:
    site = changed(make_site(("train",)), metadata={"age": 40, "PatientName": "Doe^Jane"})
    folder = prepare_site(site, CONFIG, tmp_path, progress=False).folder
    assert "Doe" not in (folder / "prepared.json").read_text()
    assert "personal-metadata" in rules_in(look(site))


def test_the_same_voxels_in_another_orientation_type_or_compression_are_a_copy(
    make_site: MakeSite, tmp_path: Path
) -> None:
    site = make_site(mask=False)
    scan = nibabel.load(site.root / "A0/t1.nii.gz")
    turned = nibabel.Nifti1Image(np.asarray(scan.dataobj, dtype=np.float64), scan.affine)
    turned = turned.as_reoriented([[1, -1], [0, 1], [2, -1]])
    turned.to_filename(site.root / "A3/t1.nii.gz")
    turned_t2 = nibabel.load(site.root / "A3/t2.nii.gz").as_reoriented([[1, -1], [0, 1], [2, -1]])
    turned_t2.to_filename(site.root / "A3/t2.nii.gz")
    assert rules_in(look(site, HEADER_ONLY)) == set()
    (copy,) = [finding for finding in look(site).findings if finding.rule == "copied-scan"]
    assert copy.file.endswith("A3/t1.nii.gz")
    assert "has the same voxels as" in copy.sentence
    assert "'A0', site 'A', split 'train'" in copy.sentence
    with pytest.raises(DataError, match="has the same voxels as"):
        prepare_site(site, CONFIG, tmp_path, progress=False)


def test_two_sessions_of_one_patient_in_one_split_may_share_a_scan(make_site: MakeSite) -> None:
    site = make_site(("train", "train", "test"))
    shutil.copy(site.root / "A0/t1.nii.gz", site.root / "A1/t1.nii.gz")
    patient = {"patient_id": "P"}
    both = tuple(replace(record, metadata=patient) for record in site.subjects[:2])
    write_manifest(replace(site, subjects=(*both, site.subjects[2])))
    assert rules_in(look(site)) == set()


def test_a_manifest_that_cannot_be_read_does_not_hide_the_other_sites(
    make_site: MakeSite,
) -> None:
    good, bad = make_site(), make_site(name="B", shift=100)
    (bad.root / "manifest.json").write_text("{")
    PLANTED["unit"](good)
    found = inspect([bad.root, good.root], HEADER_ONLY, lambda results, _: results)
    assert rules_in(found) == {"manifest", "unit"}
    assert [manifest.site for manifest in found.manifests] == ["A"]


def test_only_the_sequences_asked_for_are_looked_at(make_site: MakeSite) -> None:
    site = make_site()
    for record in site.subjects:
        shutil.copy(
            site.root / f"{record.subject}/t2.nii.gz", site.root / f"{record.subject}/pd.nii.gz"
        )
    wide = {"t1": "A0/t1.nii.gz", "t2": "A0/t2.nii.gz", "pd": "A0/pd.nii.gz"}
    site = changed(site, files=wide)
    assert rules_in(look(site, HEADER_ONLY)) == {"copied-scan"}
    assert rules_in(look(site, Plan(sequences=("t1", "t2")))) == set()
    with pytest.raises(ConfigError, match="--sequences: unknown value 't3'; known: pd, t1, t2"):
        look(site, Plan(sequences=("t1", "t3")))
