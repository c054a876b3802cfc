"""CT is measured in HU on the voxels of the scan, against the scan as it is stored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from fedi2i.errors import DataError
from lightning_modules.evaluation.images import anatomy_of
from lightning_modules.evaluation.panels import middle_slice, panel
from lightning_modules.evaluation.results import evaluate
from lightning_modules.evaluation.validation import (
    Patient,
    mean_over_patients,
    patient_metrics,
    patients,
)
from lightning_modules.metrics.presets.catalogue import PRESETS
from lightning_modules.training.hardware import Hardware
from partitions.manifest import SiteManifest, SubjectRecord, write_manifest
from partitions.preparation import PreparationConfig, PreparedSite, open_prepared, prepare_site
from partitions.preparation.scaling import Scaling

SHAPE = (36, 30, 9)
RAS = np.array([[1.2, 0, 0, 5], [0, 1.2, 0, -7], [0, 0, 3, 11], [0, 0, 0, 1.0]])
"""Stored with other axes than slices have, so that the way back has to turn them."""
WIDE, NARROW = Scaling("window", -1024, 3071, "HU"), Scaling("window", -1000, 1000, "HU")
CONFIG = PreparationConfig(
    "cbct", "ct", size=(32, 32), spacing=None, source_scaling=NARROW, target_scaling=WIDE
)
Scans = dict[str, NDArray[np.float32]]


def _scans(seed: int, with_mask: bool) -> Scans:
    """Soft tissue with bone and one metal voxel beyond the window; slices at the ends without."""
    rng = np.random.default_rng(seed)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    body = ((x / 0.8) ** 2 + (y / 0.8) ** 2 < 1) & (np.abs(z) < 0.9)
    ct = np.where(body, 40 + 10 * rng.normal(size=SHAPE), -1000)
    ct[14:18, 12:16] = np.where(body[14:18, 12:16], 900, -1000)
    ct[20, 15, 4] = 3500
    cbct = ct + np.where(body, 60 + 30 * rng.normal(size=SHAPE), 0)
    found = {"ct": np.rint(ct).astype(np.float32), "cbct": np.rint(cbct).astype(np.float32)}
    return {**found, **({"mask": body.astype(np.float32)} if with_mask else {})}


def _site(folder: Path, body_part: str = "", with_mask: bool = True) -> tuple[SiteManifest, Scans]:
    """A training and a test patient; the scans of the second."""
    records = []
    for number, split in enumerate(("train", "test")):
        scans = _scans(number, with_mask)
        for name, data in scans.items():
            image = nibabel.Nifti1Image(data, RAS)
            (folder / f"p{number}").mkdir(parents=True, exist_ok=True)
            image.to_filename(folder / f"p{number}/{name}.nii")
        files = {name: f"p{number}/{name}.nii" for name in ("cbct", "ct")}
        mask = f"p{number}/mask.nii" if with_mask else None
        metadata = {"body_part": body_part} if body_part else {}
        records.append(SubjectRecord(f"p{number}", "A", split, files, mask, metadata=metadata))
    manifest = SiteManifest("ct", "A", tuple(records), folder)
    write_manifest(manifest)
    return manifest, scans


def _prepared(folder: Path, config: PreparationConfig = CONFIG, **about: object) -> PreparedSite:
    manifest, _ = _site(folder, **about)  # type: ignore[arg-type]
    return prepare_site(manifest, config, folder / "prepared", False)


def _evaluated(site: PreparedSite, out: Path, hardware: Hardware, preset: str) -> pd.DataFrame:
    table = pd.read_csv(
        evaluate({"copy": nn.Identity()}, [site], hardware, out, preset=preset),
        dtype={"value": float},
    )
    assert set(table.preset) == {preset}
    return table.set_index(["arm", "metric"]).value


def test_a_process_that_only_measures_finds_the_same_values(
    tmp_path: Path, hardware: Hardware
) -> None:
    site = _prepared(tmp_path / "A")
    alone, beside = (
        evaluate(
            {"copy": nn.Identity()},
            [site],
            replace(hardware, threads=threads),
            tmp_path / f"{threads} threads",
            preset="synthrad2025",
        )
        for threads in (1, 2)
    )
    assert alone.read_bytes() == beside.read_bytes()


def test_the_error_is_that_of_the_stored_scans_in_hu(tmp_path: Path, hardware: Hardware) -> None:
    manifest, scans = _site(tmp_path / "A")
    site = prepare_site(manifest, CONFIG, tmp_path / "cache", False)
    found = _evaluated(site, tmp_path, hardware, "synthrad2023")
    inside = scans["mask"] > 0
    # The source is read through its own window, which ends at 1000 HU.
    predicted = np.clip(scans["cbct"], -1000, 1000)
    error = (predicted - scans["ct"])[inside]
    assert found["source", "mae_hu"] == pytest.approx(np.abs(error).mean(), abs=1e-3)
    clipped = (np.clip(predicted, -1024, 3000) - np.clip(scans["ct"], -1024, 3000))[inside]
    expected = 20 * np.log10(4024 / np.sqrt((clipped**2).mean()))
    assert found["source", "psnr"] == pytest.approx(expected, abs=1e-4)
    # A network that copies knows nothing of the two windows: its 1 means 3071 HU.
    assert found["copy", "mae_hu"] > 2 * found["source", "mae_hu"]
    tissues = {"mae_air_hu", "mae_soft_hu", "mae_bone_hu"}
    assert set(found.index.get_level_values("metric")) == {"mae_hu", "psnr", "ssim", *tissues}
    bone = inside & (scans["ct"] >= 200)
    expected = np.abs(predicted - scans["ct"])[bone].mean()
    assert found["source", "mae_bone_hu"] == pytest.approx(expected, abs=1e-3)


def test_figures_on_prepared_slices_have_a_name_of_their_own(
    tmp_path: Path, hardware: Hardware
) -> None:
    """They do not see the metal beyond the window, nor what was resampled away."""
    site = _prepared(tmp_path / "A", replace(CONFIG, spacing=2.0))
    native = _evaluated(site, tmp_path / "native", hardware, "synthrad2025")
    prepared = _evaluated(site, tmp_path / "prepared", hardware, "synthrad2025-prepared")
    assert native["source", "mae_hu"] > prepared["source", "mae_hu"] > 0
    (patient,) = patients(site.split("test"))
    in_training = patient_metrics(
        patient.source_as_target, patient, PRESETS["synthrad2025-prepared"]
    )
    assert in_training["mae_hu"] == pytest.approx(prepared["source", "mae_hu"], rel=1e-9)


def test_without_a_mask_file_the_foreground_is_computed_as_in_preparation(
    tmp_path: Path, hardware: Hardware
) -> None:
    site = _prepared(tmp_path / "A", with_mask=False)
    found = _evaluated(site, tmp_path, hardware, "synthrad2023")
    _, scans = _site(tmp_path / "A", with_mask=False)
    body = _scans(1, True)["mask"] > 0
    error = np.abs(np.clip(scans["cbct"], -1000, 1000) - scans["ct"])[body].mean()
    assert found["source", "mae_hu"] == pytest.approx(error, rel=0.02)


def test_low_dose_is_measured_through_the_window_of_the_anatomy_or_refused(
    tmp_path: Path, hardware: Hardware
) -> None:
    site = _prepared(tmp_path / "A", body_part="Abdomen")
    found = _evaluated(site, tmp_path, hardware, "ldct")
    assert np.isfinite(found["source", "psnr"])
    assert np.isnan(found["source", "vif"])  # slices of 30 x 36 are too small for it
    other = _prepared(tmp_path / "B")
    with pytest.raises(DataError, match=r"'p1': preset 'ldct' looks .* give one of chest, abdomen"):
        evaluate({}, [other], hardware, tmp_path / "refused", preset="ldct")
    image = torch.zeros(1, 2, 2)
    of_set = [
        Patient("x", image, image, image > 0, None, body_part=letter) for letter in ("C", "L", "N")
    ]
    names = [anatomy_of(patient, PRESETS["ldct"]) for patient in of_set]
    assert names == ["chest", "abdomen", "head"]
    assert anatomy_of(Patient("x", image, image, image > 0, None), PRESETS["synthrad2023"]) == ""


def test_slices_without_the_way_to_their_scans_are_refused(
    tmp_path: Path, hardware: Hardware
) -> None:
    site = open_prepared(_prepared(tmp_path / "A").folder)
    with pytest.raises(DataError, match="subject 'p1': its scan is not known"):
        evaluate({}, [site], hardware, tmp_path, preset="synthrad2023")


def test_pictures_are_seen_through_the_preset_s_window(tmp_path: Path, hardware: Hardware) -> None:
    site = _prepared(tmp_path / "A")
    evaluate({}, [site], hardware, tmp_path, preset="synthrad2025")
    (patient,) = patients(site.split("test"))
    index = middle_slice(patient.mask)
    with np.load(tmp_path / "slices.npz") as arrays:
        target, source = arrays["A/p1/target"], arrays["A/p1/source"]
    for kept, domain, image in (
        (target, "target", patient.target),
        (source, "source", patient.source),
    ):
        values = patient.scales[domain].to_unit(image[index].numpy())
        np.testing.assert_allclose(kept, np.clip((values + 1000) / 2000, 0, 1), atol=1e-3)
    picture = panel(patient, patient.source_as_target, PRESETS["synthrad2025"])[0]
    columns = patient.target.shape[2]
    shown = target.astype(float) * 255
    assert np.abs(picture[:, columns : 2 * columns] - shown).max() <= 1


def test_what_is_not_defined_for_a_patient_or_infinite_is_left_out_of_a_mean() -> None:
    nan, inf = float("nan"), float("inf")
    rows = [{"psnr": inf, "ms_ssim": nan}, {"psnr": 30.0, "ms_ssim": 0.5}]
    assert mean_over_patients(rows) == {"val/psnr": 30.0, "val/ms_ssim": 0.5}
    assert mean_over_patients(rows[:1]) == {"val/psnr": inf}
    diverged = mean_over_patients([{"psnr": nan, "ms_ssim": nan}, *rows])
    assert np.isnan(list(diverged.values())).all()
