"""Models of volumes on new patients, and where they cannot go."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from translated_scans import experiment_of, head, save_nifti

from fedi2i.cli.program import main
from fedi2i.errors import ConfigError
from lightning_modules.evaluation.windows import translate_volume
from lightning_modules.networks.building import build_networks
from lightning_modules.training.hardware import Hardware
from lightning_modules.translation.bundle import export_bundle
from lightning_modules.translation.model_card import card_of, training_record
from lightning_modules.translation.model_file import (
    ModelFile,
    build_network,
    read_card,
    read_model,
    write_model,
)
from lightning_modules.translation.onnx_file import export_onnx
from lightning_modules.translation.translator import Translator
from lightning_modules.translation.unlike_training import other_distances
from partitions.preparation.grids.native_grid import SliceGeometry


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A drawn network of MR to CT that translates patches of 8 x 16 x 16 voxels."""
    experiment = experiment_of("t1:ct")
    discriminator = replace(experiment.model.discriminator, layers=1)
    changed = replace(experiment.model, patch=(8, 16, 16), discriminator=discriminator)
    experiment = replace(experiment, model=changed)
    record = training_record(experiment, "tiny", [], "final", 2)
    drawn = build_networks(experiment.model, 1)["generator"].state_dict()
    card = card_of(experiment, record, slice_distances=(4.0, 5.5))
    later = {key: value * 1.5 for key, value in drawn.items()}
    return write_model(tmp_path / "model.safetensors", ModelFile(card, later, {1: drawn, 2: later}))


def test_a_new_scan_is_translated_by_windows_on_its_own_grid(model: Path, tmp_path: Path) -> None:
    scan = save_nifti(tmp_path / "scan.nii.gz", head("MR"))
    arguments = ["--model", str(model), "--out", str(tmp_path / "out"), "--threads", "1"]
    assert main(["translate", *arguments, "--uncertainty", str(scan)]) == 0
    found = nibabel.load(tmp_path / "out" / "scan_ct.nii.gz")
    assert found.shape == nibabel.load(scan).shape
    assert np.allclose(found.affine, nibabel.load(scan).affine)
    inside = head("MR") > 100
    assert float(np.ptp(found.get_fdata()[inside])) > 1.0
    spread = nibabel.load(tmp_path / "out" / "scan_ct_uncertainty.nii.gz").get_fdata()
    assert float(spread[inside].max()) > 0


def test_the_translator_puts_windows_together_as_validation_does(model: Path) -> None:
    read = read_model(model)
    source = np.random.default_rng(1).random((11, 32, 32), dtype=np.float32)
    heights = [3, 4, 5, 6, 7, 8, 9, 10, 12, 13, 14]  # the second part is smaller than a patch
    found = Translator(read, batch=3).translate(source, heights)
    network, view = build_network(read.card, read.weights), read.card.network.view
    expected = translate_volume(
        network, torch.from_numpy(source), Hardware("cpu", "32-true", 1), view, heights, 1
    )
    assert found.shape == source.shape
    assert np.abs(found - expected.clamp(0, 1).numpy()).max() < 1e-5


def test_a_card_says_that_its_network_is_one_of_volumes_and_a_wrong_patch_is_refused(
    model: Path, tmp_path: Path
) -> None:
    content = json.loads(model.with_suffix(".json").read_text())
    assert content["network"]["patch"] == [8, 16, 16]
    assert "8 x 16 x 16 voxels" in read_card(model).network.view.text
    read = read_model(model)
    for patch, sentence in (
        ((8, 64, 16), "is larger than the prepared slices"),
        ((8, 16), "give slices, rows and columns"),
        ((7, 16, 16), "must be divisible by 2"),
    ):
        network = replace(read.card.network, patch=patch)
        path = tmp_path / "other.safetensors"
        write_model(path, replace(read, card=replace(read.card, network=network)))
        with pytest.raises(ConfigError, match=sentence):
            read_card(path)


def test_weights_of_volumes_do_not_pass_for_those_of_slices(model: Path, tmp_path: Path) -> None:
    read = read_model(model)
    card = replace(read.card, network=replace(read.card.network, patch=()))
    path = write_model(tmp_path / "other.safetensors", replace(read, card=card))
    with pytest.raises(Exception, match="do not fit the network that its card describes"):
        read_model(path)


def test_exports_of_slices_refuse_a_network_of_volumes(model: Path, tmp_path: Path) -> None:
    read = read_model(model)
    sentence = "exports hold networks of slices; use 'fedi2i translate', which joins the patches"
    with pytest.raises(ConfigError, match=sentence):
        export_onnx(read, tmp_path / "model.onnx")
    with pytest.raises(ConfigError, match=sentence):
        export_bundle(read, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_a_scan_whose_slices_are_farther_apart_than_the_training_s_is_doubted(model: Path) -> None:
    affine = tuple(tuple(float(v) for v in row) for row in np.diag([1.0, 1.0, 9.0, 1.0]))
    geometry = SliceGeometry((4, 4, 2), affine, affine, (0, 0), (0, 1))
    assert "9 mm apart" in other_distances(geometry, read_card(model))
