"""Registration and bias correction as settings of the preparation."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage
from test_registration import TRUTH, pair

from fedi2i.errors import ConfigError, DataError
from fedi2i.typed_config import as_dict
from partitions.check.scans import open_scans
from partitions.manifest import SiteManifest, SubjectRecord, write_manifest
from partitions.preparation import PreparationConfig, prepare_site
from partitions.preparation.inputs import scan_findings

SIZE = (60, 52)


def settings(**changes: Any) -> PreparationConfig:
    return PreparationConfig(size=SIZE, spacing=2.5, **changes)


@pytest.fixture(scope="module")
def displaced(tmp_path_factory: pytest.TempPathFactory) -> SiteManifest:
    """A site with one subject, whose target lies elsewhere and on a grid of its own."""
    root = tmp_path_factory.mktemp("site")
    source, target, (here, _) = pair()
    scans = {"t1": source.data, "mask": here.astype(np.uint8)}
    for name, data in scans.items():
        nib.save(nib.Nifti1Image(data, source.affine), root / f"{name}.nii.gz")
    nib.save(nib.Nifti1Image(target.data, target.affine), root / "t2.nii.gz")
    record = SubjectRecord(
        subject="a",
        site="north",
        split="train",
        files={"t1": "t1.nii.gz", "t2": "t2.nii.gz"},
        mask="mask.nii.gz",
    )
    manifest = SiteManifest("house", "north", (record,), root)
    write_manifest(manifest)
    return manifest


def test_a_target_on_another_grid_is_laid_over_its_source_and_the_record_says_how(
    displaced: SiteManifest, tmp_path: Path
) -> None:
    config = settings(registration="rigid", bias_correction="n4")
    site = prepare_site(displaced, config, tmp_path, progress=False)
    split = site.split("train")
    # The phantom's second contrast falls where the first one rises; at its rim both fall to air.
    inside = ndimage.binary_erosion(split.mask > 0, np.ones((1, 3, 3)), iterations=3)
    assert np.corrcoef(split.source[inside], split.target[inside])[0, 1] < -0.9
    steps = json.loads((site.folder / "prepared.json").read_text())["splits"]["train"]["subjects"][
        0
    ]["steps"]
    np.testing.assert_allclose(steps["registration"]["matrix"], TRUTH, atol=1.5)
    assert set(steps["bias"]) == {"source", "target"}


def test_without_registration_another_grid_is_refused_and_the_setting_that_helps_is_named(
    displaced: SiteManifest, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="not on the voxel grid of") as refused:
        prepare_site(displaced, settings(), tmp_path, progress=False)
    found = re.search(r"'(\w+): (\w+)'", str(refused.value))
    assert found is not None
    subject = open_scans(displaced.subjects[0], displaced.root, ["t1", "t2"])
    rules = {one.rule for one in scan_findings(subject, settings())}
    assert "other-grid" in rules
    helped = settings(**{found[1]: found[2]})
    assert {one.rule for one in scan_findings(subject, helped)} == rules - {"other-grid"}


def test_settings_that_are_not_asked_for_stand_in_no_record_and_change_no_hash() -> None:
    plain = as_dict(settings())
    assert "registration" not in plain
    assert "bias_correction" not in plain
    assert as_dict(settings(registration="none", bias_correction="none")) == plain
    assert as_dict(settings(registration="rigid"))["registration"] == "rigid"


@pytest.mark.parametrize(
    ("change", "words"),
    [({"registration": "ridig"}, "did you mean 'rigid'"), ({"bias_correction": "N3"}, "n4")],
)
def test_an_unknown_step_is_named(change: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        settings(**change)


def test_scans_without_a_voxel_size_can_be_neither_registered_nor_corrected(
    make_site: Any, tmp_path: Path
) -> None:
    site = make_site(splits=("train",))
    unknown = replace(site.subjects[0], metadata={"voxel_size": "unknown"})
    manifest = replace(site, subjects=(unknown,))
    config = PreparationConfig(spacing=None, size=(40, 30), bias_correction="n4")
    with pytest.raises(DataError, match="neither registered nor corrected"):
        prepare_site(manifest, config, tmp_path / "cache", progress=False)
