"""Models that are shown neighbouring slices, on new patients and in other programs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from translated_scans import experiment_of, head, save_nifti, translated_by_monai

from fedi2i.cli.program import main
from fedi2i.errors import ConfigError
from lightning_modules.networks.building import build_networks
from lightning_modules.translation.bundle import export_bundle, metadata
from lightning_modules.translation.model_card import ModelCard, card_of, training_record
from lightning_modules.translation.model_file import (
    ModelFile,
    build_network,
    read_card,
    read_model,
    write_model,
)
from lightning_modules.translation.onnx_file import described, export_onnx
from lightning_modules.translation.translator import Translator
from lightning_modules.translation.unlike_training import other_distances, slice_distances
from partitions.preparation import PreparedSite
from partitions.preparation.grids.native_grid import SliceGeometry


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A drawn network of MR to CT that is shown a slice on either side."""
    experiment = experiment_of("t1:ct")
    experiment = replace(experiment, model=replace(experiment.model, neighbours=1))
    record = training_record(experiment, "tiny", [], "final", 1)
    drawn = build_networks(experiment.model, 1)["generator"].state_dict()
    card = card_of(experiment, record, slice_distances=(4.0, 5.5))
    return write_model(tmp_path / "model.safetensors", ModelFile(card, drawn, {1: drawn}))


def _translated(model: Path, scan: Path, out: Path) -> nibabel.Nifti1Image:
    arguments = ["--model", str(model), "--out", str(out), "--threads", "1"]
    assert main(["translate", *arguments, str(scan)]) == 0
    return nibabel.load(out / "scan_ct.nii.gz")


def test_a_volume_is_translated_from_three_slices_each_as_by_hand(model: Path) -> None:
    read = read_model(model)
    source = np.random.default_rng(1).random((6, 32, 32), dtype=np.float32)
    # The scan's slice 12 was left out: the volume has two ends in its middle.
    found = Translator(read, batch=4).translate(source, [9, 10, 11, 13, 14, 15])
    network = build_network(read.card, read.weights)
    for place, (below, above) in enumerate([(0, 1), (0, 2), (1, 2), (3, 4), (3, 5), (4, 5)]):
        shown = torch.from_numpy(source[[below, place, above]])[None] * 2 - 1
        with torch.inference_mode():
            expected = (network(shown)[0, 0] + 1) / 2
        assert np.abs(found[place] - expected.numpy()).max() < 1e-6


def test_a_file_says_what_its_network_is_shown_and_an_older_one_says_nothing(model: Path) -> None:
    card = read_card(model)
    assert card.network.view.channels == 3
    content = json.loads(model.with_suffix(".json").read_text())
    assert content["network"]["neighbours"] == 1
    assert content["slice_distances"] == [4.0, 5.5]
    plain = experiment_of("t1:ct")
    older = card_of(plain, training_record(plain, "x", [], "final", 1), slice_distances=(4.0, 5.5))
    assert "channels" not in described(older)
    assert older.slice_distances == ()


@pytest.mark.parametrize("distances", [(4.0,), (5.0, 4.0), (0.0, 1.0), (1.0, float("inf"))])
def test_distances_that_are_none_are_refused(
    model: Path, tmp_path: Path, distances: tuple[float, ...]
) -> None:
    read = read_model(model)
    path = tmp_path / "other.safetensors"
    write_model(path, replace(read, card=replace(read.card, slice_distances=distances)))
    with pytest.raises(ConfigError, match="'slice_distances' are not a smallest and a largest"):
        read_card(path)


def test_weights_of_a_network_that_is_shown_one_slice_do_not_pass_for_one_of_three(
    model: Path, tmp_path: Path
) -> None:
    read = read_model(model)
    card = replace(read.card, network=replace(read.card.network, neighbours=2))
    path = write_model(tmp_path / "other.safetensors", replace(read, card=card))
    with pytest.raises(Exception, match="do not fit the network that its card describes"):
        read_model(path)


def _geometry(distance: float) -> SliceGeometry:
    affine = tuple(tuple(float(v) for v in row) for row in np.diag([1.0, 1.0, distance, 1.0]))
    return SliceGeometry((4, 4, 2), affine, affine, (0, 0), (0, 1))


def test_a_scan_whose_slices_are_nearer_or_farther_than_the_training_s_is_doubted(
    model: Path,
) -> None:
    card = read_card(model)
    assert "its slices lie 1 mm apart, and those of the training 4 to 5.5 mm" in other_distances(
        _geometry(1.0), card
    )
    assert "8 mm" in other_distances(_geometry(8.0), card)
    assert other_distances(_geometry(5.0), card) == other_distances(_geometry(5.6), card) == ""
    assert other_distances(_geometry(1.0), replace(card, slice_distances=())) == ""
    assert other_distances(_geometry(1.0), ModelCard(slice_distances=(4.0, 5.5))) == ""


def test_the_record_has_the_distances_of_the_prepared_scans(
    sites: dict[str, PreparedSite],
) -> None:
    assert slice_distances([site.split("train") for site in sites.values()]) == (5.0, 5.0)


def test_onnx_runtime_computes_the_same_from_three_channels(model: Path, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    read = read_model(model)
    assert export_onnx(read, tmp_path / "model.onnx") <= 1e-4
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    source = np.random.default_rng(3).uniform(-1, 1, (4, 3, 32, 32)).astype(np.float32)
    (found,) = session.run(["target"], {"source": source})
    with torch.inference_mode():
        expected = build_network(read.card, read.weights)(torch.from_numpy(source))
    assert found.shape == (4, 1, 32, 32)
    assert np.abs(found - expected.numpy()).max() <= 1e-4
    said = session.get_modelmeta().custom_metadata_map["channels"]
    assert said.startswith("3 slices from the feet to the head: 1 below")


def test_a_bundle_run_by_monai_writes_what_translate_writes_from_three_slices(
    model: Path, tmp_path: Path
) -> None:
    scan = save_nifti(tmp_path / "scan.nii.gz", head("MR")[..., :9])
    read = read_model(model)
    folder = export_bundle(read, tmp_path / "bundle")
    image = metadata(read.card, "x")["network_data_format"]["inputs"]["image"]
    assert image["num_channels"] == 3
    assert image["channel_def"] == {"0": "t1, slice -1", "1": "t1", "2": "t1, slice +1"}
    translated_by_monai(folder, scan, tmp_path / "by-monai")
    found = np.asarray(nibabel.load(tmp_path / "by-monai" / "scan_ct.nii.gz").dataobj, float)
    expected = np.asarray(_translated(model, scan, tmp_path / "by-us").dataobj, float)
    assert np.abs(found - expected).max() <= 1  # a whole HU may round the other way
    assert (found != expected).mean() < 0.01
