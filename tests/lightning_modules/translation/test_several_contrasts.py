"""Models that read several contrasts, on new patients who may lack some, and in other programs."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from three_contrasts import write_three_contrasts
from translated_scans import MakeModel

from fedi2i.cli.program import main
from fedi2i.errors import ConfigError
from lightning_modules.evaluation.disagreement import uncertain_arms
from lightning_modules.evaluation.validation import patients, translate_patient
from lightning_modules.training.hardware import Hardware
from lightning_modules.translation.bundle import export_bundle
from lightning_modules.translation.model_file import build_network, read_model, write_model
from lightning_modules.translation.new_scans import scans_of_patient
from lightning_modules.translation.onnx_file import described
from lightning_modules.translation.translator import RELATIVE
from partitions.manifest import read_manifest, write_manifest
from partitions.preparation import PreparationConfig, prepare_site
from partitions.preparation.grids.native_grid import to_native_grid

HARDWARE = Hardware("cpu", "32-true", 1)
SIZE: dict[str, Any] = {"size": [48, 40]}
CONFIG = PreparationConfig(further_sources=("flair",), size=(48, 40), spacing=None)


@pytest.fixture
def model(make_model: MakeModel) -> Path:
    return make_model("t1:t2", (1, 2), further_sources=["flair"], **SIZE)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site whose subjects have no mask file, as new patients."""
    folder = write_three_contrasts(tmp_path / "cohort", ["north"]) / "north"
    manifest = read_manifest(folder)
    subjects = [replace(record, mask=None) for record in manifest.subjects]
    write_manifest(replace(manifest, subjects=tuple(subjects)))
    return folder


def _translate(model: Path, out: Path, *given: str) -> int:
    return main(["translate", "--model", str(model), "--out", str(out), "--threads", "1", *given])


def _given(site: Path, *names: str) -> str:
    return ",".join(f"{name}={site}/north-004/{name}.nii.gz" for name in names)


@pytest.mark.parametrize("held", [("t1", "flair"), ("t1",), ("flair",)])
def test_a_new_patient_is_translated_as_in_a_cohort_whatever_contrasts_there_are(
    model: Path, site: Path, tmp_path: Path, held: tuple[str, ...]
) -> None:
    assert _translate(model, tmp_path / "out", _given(site, *held)) == 0
    found = nibabel.load(tmp_path / "out" / f"{held[0]}_t2.nii.gz")
    manifest = read_manifest(site)
    (tested,) = [record for record in manifest.subjects if record.split == "test"]
    files = {name: path for name, path in tested.files.items() if name in (*held, "t2")}
    alone = replace(manifest, subjects=(replace(tested, files=files),))
    prepared = prepare_site(alone, CONFIG, tmp_path / "prepared", progress=False)
    (patient,) = patients(prepared.split("test"))
    read = read_model(model)
    network = build_network(read.card, read.weights)
    expected = translate_patient(network, patient, HARDWARE, read.card.network.view).numpy()
    assert patient.geometry is not None
    values = to_native_grid(expected.clip(0, 1), patient.geometry, RELATIVE)
    np.testing.assert_allclose(np.asarray(found.dataobj), values, atol=1.0)


def test_contrasts_change_what_is_made_and_their_order_does_not(
    model: Path, site: Path, tmp_path: Path
) -> None:
    given = {
        "both": _given(site, "t1", "flair"),
        "turned": _given(site, "flair", "t1"),
        "alone": _given(site, "t1"),
    }
    made = {}
    for name, words in given.items():
        assert _translate(model, tmp_path / name, words) == 0
        made[name] = (tmp_path / name / "t1_t2.nii.gz").read_bytes()
    assert made["both"] == made["turned"] != made["alone"]
    # A result that is there is no other patient's.
    assert _translate(model, tmp_path / "alone", given["both"]) == 2


def test_a_missing_contrast_is_doubted_where_none_was_taken_away_in_training(
    model: Path, site: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    doubt = "has no flair, and the model was trained without contrast_dropout"
    with caplog.at_level(logging.WARNING):
        _translate(model, tmp_path / "alone", _given(site, "t1"))
        assert doubt in caplog.text
        caplog.clear()
        _translate(model, tmp_path / "both", _given(site, "t1", "flair"))
        assert "has no" not in caplog.text
        read = read_model(model)
        settings = {"model": {"contrast_dropout": 0.3}}
        training = replace(read.card.training, experiment=settings)
        other = replace(read, card=replace(read.card, training=training))
        _translate(write_model(model, other), tmp_path / "dropped", _given(site, "t1"))
        assert "has no" not in caplog.text


def test_uncertainty_is_of_one_volume_whatever_is_read(
    model: Path, site: Path, tmp_path: Path
) -> None:
    given = _given(site, "t1", "flair")
    assert _translate(model, tmp_path / "out", given, "--uncertainty") == 0
    apart = nibabel.load(tmp_path / "out" / "t1_t2_uncertainty.nii.gz")
    assert apart.shape == (40, 48, 6) and np.asarray(apart.dataobj).any()
    prepared = prepare_site(read_manifest(site), CONFIG, tmp_path / "prepared", progress=False)
    (patient,) = patients(prepared.split("test"))
    read = read_model(model)
    network = build_network(read.card, read.weights)
    files = {"arm": model.with_suffix(".pt")}
    arms = uncertain_arms(files, {"arm": network}, {}, HARDWARE, read.card.network.view)
    translated, uncertainty = arms["arm"].translate(patient)
    assert translated.shape == uncertainty.shape == patient.target.shape


@pytest.mark.parametrize(
    "given", ["scan.nii.gz", "pd=a.nii.gz", "t1=a.nii.gz,t1=b.nii.gz", "t1=", "t1=a.nii.gz,"]
)
def test_scans_that_are_not_told_apart_are_refused_in_one_sentence(given: str) -> None:
    sentence = r"the model reads t1, flair; write as many .* such as t1=FILE,flair=FILE"
    if given == "t1=a.nii.gz,":  # the comma is the file's
        assert scans_of_patient(Path(given), CONFIG) == {"source": Path("a.nii.gz,")}
        return
    with pytest.raises(ConfigError, match=sentence):
        scans_of_patient(Path(given), CONFIG)


def test_contrasts_on_different_grids_are_refused(
    model: Path, site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = site / "north-004" / "flair.nii.gz"
    image = nibabel.load(path)
    nibabel.save(nibabel.Nifti1Image(image.get_fdata()[:-1], image.affine), path)
    assert _translate(model, tmp_path / "out", _given(site, "t1", "flair")) == 2
    assert "flair.nii.gz: does not lie on the voxel grid of" in capsys.readouterr().err


def test_a_file_says_what_it_reads(model: Path, tmp_path: Path) -> None:
    read = read_model(model)
    assert read.card.task == "t1+flair to t2"
    assert "t1, flair; a missing one is -1" in described(read.card)["channels"]
    with pytest.raises(ConfigError, match="reads t1\\+flair, and a bundle takes one scan"):
        export_bundle(read, tmp_path / "bundle")
    network = replace(read.card.network, contrasts=1)
    broken = write_model(
        tmp_path / "broken.safetensors", replace(read, card=replace(read.card, network=network))
    )
    with pytest.raises(ConfigError, match=r"is shown 1 contrast\(s\), and its preparation"):
        read_model(broken)
