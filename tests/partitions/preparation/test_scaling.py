"""How domains are said to be scaled, and how scans of each modality are prepared by it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from fedi2i.errors import ConfigError, DataError
from fedi2i.typed_config import as_dict, record_from
from partitions.manifest import SubjectRecord
from partitions.preparation import PreparationConfig
from partitions.preparation.intensities import Scale
from partitions.preparation.subject import prepare_subject

HU = {"kind": "window", "low": -1024, "high": 3071, "unit": "HU"}
LPS = np.diag([-2.0, -2.0, 3.0, 1.0])


def _config(**values: Any) -> PreparationConfig:
    return record_from(PreparationConfig, {"size": [24, 20], "spacing": None, **values}, "x.yaml")


def _save(folder: Path, **scans: NDArray[Any]) -> SubjectRecord:
    for name, data in scans.items():
        nibabel.Nifti1Image(data, LPS).to_filename(folder / f"{name}.nii")
    return SubjectRecord("S", "A", "train", {name: f"{name}.nii" for name in scans})


def _body(air: float) -> NDArray[np.int16]:
    """A CT of 20 x 24 x 6 voxels: bone in soft tissue in air; a corner is outside the circle."""
    scan = np.full((20, 24, 6), air, np.int16)
    scan[4:16, 5:19] = 40
    scan[8:11, 8:12] = 1200
    scan[9, 9] = 37
    scan[:2, :2] = -3024
    return scan


@pytest.mark.parametrize(
    ("scaling", "message"),
    [
        ({"kind": "windw"}, "target_scaling.kind: unknown value 'windw'; did you mean 'window'"),
        ({"kind": "window", "low": 0}, "'window' needs 'low' and 'high'"),
        ({"kind": "window", "low": 5, "high": 5, "unit": "HU"}, "low 5 and high 5 must be"),
        ({"kind": "window", "low": 0, "high": 9}, "needs the 'unit'"),
        ({"kind": "window", "low": 0, "high": 9, "unit": "a b"}, "give one short word"),
        ({"kind": "percentiles", "low": 0}, "takes its limits from each volume"),
        ({"kind": "suv"}, "'suv' needs 'low' and 'high'"),
        ({"kind": "suv", "high": 20, "unit": "HU"}, "the unit of 'suv' is SUV"),
        ({"lo": 0}, "unknown key 'target_scaling.lo'; did you mean 'low'"),
    ],
)
def test_a_scaling_that_does_not_fit_together_is_refused_with_its_key(
    scaling: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        _config(target_scaling=scaling)


@pytest.mark.parametrize("target", ["ct", "cbct", "CT_full", "ldct"])
@pytest.mark.parametrize("kind", ["percentiles", "raw"])
def test_a_ct_target_is_refused_where_its_hu_would_be_lost(target: str, kind: str) -> None:
    with pytest.raises(ConfigError, match=f"the target '{target}' is a CT, and '{kind}'"):
        _config(source="mr", target=target, target_scaling={"kind": kind})
    assert _config(source="mr", target=target, target_scaling=HU).target_scaling.unit == "HU"


def test_settings_that_are_not_used_stand_in_no_file_and_in_no_hash() -> None:
    assert "source_scaling" not in as_dict(PreparationConfig())
    assert as_dict(_config(target_scaling=HU))["target_scaling"] == HU
    assert record_from(PreparationConfig, as_dict(_config(target_scaling=HU)), "y") == _config(
        target_scaling=HU
    )


def test_mr_to_ct_keeps_hu_to_the_bit_and_both_scales(tmp_path: Path) -> None:
    ct = _body(-1000)
    ct[6, 6, 0] = 3500  # metal, beyond the window
    mr = np.random.default_rng(0).gamma(3, 90, ct.shape).astype(np.float32) * (ct > -500)
    _save(tmp_path, head=(ct > -500).astype(np.uint8))
    record = replace(_save(tmp_path, mr=mr, ct=ct), mask="head.nii")
    config = _config(source="mr", target="ct", target_scaling=HU)
    slices = prepare_subject(record, tmp_path, config)
    assert slices.target is not None
    assert slices.scales["target"] == Scale(-1024, 3071, "HU")
    back = slices.scales["target"].levels_to_unit(slices.target)
    np.testing.assert_array_equal(back, np.clip(ct, -1024, 3071).transpose(2, 1, 0))
    low, high = np.percentile(mr[ct > -500], (0.5, 99.5))
    assert slices.scales["source"] == Scale(low, high, "")


@pytest.mark.parametrize("air", [-1000, -1024])
def test_the_foreground_of_a_ct_is_the_body_although_its_border_has_one_value(
    tmp_path: Path, air: float
) -> None:
    scan = _body(air)
    record = _save(tmp_path, cbct=scan, ct=scan + np.int16(1))
    config = _config(source="cbct", target="ct", source_scaling=HU, target_scaling=HU)
    slices = prepare_subject(record, tmp_path, config)
    assert slices.facts.foreground == "above -500 HU"
    body = np.zeros(scan.shape, dtype=bool)
    body[4:16, 5:19] = True
    np.testing.assert_array_equal(slices.mask > 0, body.transpose(2, 1, 0))


def test_pet_is_multiplied_by_the_subjects_factor_or_refused(tmp_path: Path) -> None:
    activity = np.random.default_rng(3).uniform(0, 30_000, (20, 24, 6)).astype(np.float32)
    mr = np.random.default_rng(4).uniform(1, 9, activity.shape).astype(np.float32)
    record = _save(tmp_path, mr=mr, pet=activity)
    config = _config(source="pet", target="mr", source_scaling={"kind": "suv", "high": 10})
    factor = 70_000 / 250e6  # 70 kg, 250 MBq
    known = SubjectRecord("S", "A", "train", record.files, metadata={"suv_factor": factor})
    slices = prepare_subject(known, tmp_path, config)
    assert slices.scales["source"] == Scale(0, 10, "SUV")
    assert slices.source is not None
    back = slices.scales["source"].levels_to_unit(slices.source)
    np.testing.assert_allclose(back, (activity * factor).transpose(2, 1, 0), atol=10 / 65535)
    for given in ({}, {"suv_factor": "unknown"}, {"suv_factor": 0}):
        bare = SubjectRecord("S", "A", "train", record.files, metadata=given)
        with pytest.raises(DataError, match=r"pet.nii: is scaled by SUV, but 'suv_factor'"):
            prepare_subject(bare, tmp_path, config)
