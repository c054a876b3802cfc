"""A model in other programs' hands computes what ``translate`` computes."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from translated_scans import MakeModel, head, save_nifti, translated_by_monai

from fedi2i.cli.program import main
from fedi2i.errors import ConfigError, DataError
from lightning_modules.translation import onnx_file
from lightning_modules.translation.bundle import export_bundle
from lightning_modules.translation.model_card import NOTICE
from lightning_modules.translation.model_file import build_network, read_model
from lightning_modules.translation.onnx_file import export_onnx


@pytest.mark.parametrize("norm", ["instance", pytest.param("batch", marks=pytest.mark.nightly)])
def test_onnx_runtime_opens_the_file_and_computes_the_same(
    make_model: MakeModel, tmp_path: Path, norm: str
) -> None:
    """The nightly one is the faster one with another layer."""
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = read_model(make_model(norm=norm))
    assert export_onnx(model, tmp_path / "model.onnx") <= 1e-4
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    for slices in (1, 3, 9):
        source = np.random.default_rng(slices).uniform(-1, 1, (slices, 1, 32, 32))
        (found,) = session.run(["target"], {"source": source.astype(np.float32)})
        with torch.inference_mode():
            expected = build_network(model.card, model.weights)(torch.from_numpy(source).float())
        assert np.abs(found - expected.numpy()).max() <= 1e-4
    described = session.get_modelmeta().custom_metadata_map
    assert "not for diagnosis" in described["notice"]
    assert json.loads(described["preparation"])["target_scaling"]["unit"] == "HU"
    assert described["weights"] == model.card.weights


def test_a_file_that_computes_something_else_is_not_left(
    make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx = pytest.importorskip("onnx")
    runtime = SimpleNamespace(InferenceSession=lambda *_, **__: None)

    def export(_: torch.nn.Module, __: tuple[torch.Tensor], path: Path, **___: Any) -> None:
        onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], "none", [], [])), path)

    monkeypatch.setattr(torch.onnx, "export", export)
    monkeypatch.setattr(onnx_file, "_packages", lambda: (onnx, runtime))
    monkeypatch.setattr(onnx_file, "_difference", lambda *_: float("nan"))
    with pytest.raises(DataError, match="not written, as ONNX Runtime differs"):
        export_onnx(read_model(make_model()), tmp_path / "out" / "model.onnx")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_missing_package_is_named_with_what_installs_it(
    make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match=r"pip install 'fedi2i\[onnx\]'"):
        export_onnx(read_model(make_model()), tmp_path / "model.onnx")


def _translated(model: Path, scan: Path, out: Path) -> Any:
    arguments = ["--model", str(model), "--out", str(out), "--threads", "1"]
    assert main(["translate", *arguments, str(scan)]) == 0
    return nibabel.load(out / "scan_ct.nii.gz")


def _same(found: Any, expected: Any) -> bool:
    """Voxel by voxel, and the grids too; a whole HU may round the other way."""
    apart = np.abs(np.asarray(found.dataobj, float) - np.asarray(expected.dataobj, float))
    return bool(
        found.shape == expected.shape
        and np.array_equal(found.affine, expected.affine)
        and apart.max() <= 1
        and (apart > 0).mean() < 0.01
    )


def test_a_bundle_run_by_monai_writes_what_translate_writes(
    make_model: MakeModel, tmp_path: Path
) -> None:
    model = make_model(spacing=1.1, size=[48, 48])
    # Nine slices: the network gets eight, and then one alone.
    scan = save_nifti(tmp_path / "scan.nii.gz", head("MR")[..., :9])
    folder = export_bundle(read_model(model), tmp_path / "bundle")
    translated_by_monai(folder, scan, tmp_path / "by-monai")
    found = nibabel.load(tmp_path / "by-monai" / "scan_ct.nii.gz")
    assert _same(found, _translated(model, scan, tmp_path / "by-us"))


@pytest.mark.nightly
@pytest.mark.slow
def test_a_bundle_is_run_from_its_own_folder_by_the_command_that_it_names(
    make_model: MakeModel, tmp_path: Path
) -> None:
    """A faster test of the same: ``test_a_bundle_run_by_monai_writes_what_translate_writes``."""
    pytest.importorskip("fire")
    model = make_model()
    scan = save_nifti(tmp_path / "scan.nii.gz", head("MR"))
    folder = export_bundle(read_model(model), tmp_path / "bundle")
    command = [sys.executable, "-m", "monai.bundle", "run"]
    command += ["--config_file", "configs/inference.json"]
    command += ["--meta_file", "configs/metadata.json", "--input", str(scan)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = nibabel.load(folder / "output" / "scan_ct.nii.gz")
    assert _same(found, _translated(model, scan, tmp_path / "by-us"))


def test_no_word_of_a_card_is_evaluated_by_a_bundle(make_model: MakeModel, tmp_path: Path) -> None:
    model = read_model(make_model())
    trap = f"$open({str(tmp_path / 'made')!r}, 'w')"
    hostile = replace(model, card=replace(model.card, notice=trap))
    folder = export_bundle(hostile, tmp_path / "bundle")
    bundle = pytest.importorskip("monai.bundle")
    parser = bundle.ConfigParser(json.loads((folder / "configs" / "metadata.json").read_text()))
    parser.get_parsed_content()
    assert not (tmp_path / "made").exists()
    assert NOTICE in (folder / "docs" / "README.md").read_text()
    with pytest.raises(ConfigError, match="which MONAI evaluates"):
        export_bundle(model, tmp_path / "$other")
    assert [path.name for path in tmp_path.glob("*other*")] == []


def test_a_bundle_has_the_fields_that_monai_asks_for_and_no_pickle(
    make_model: MakeModel, tmp_path: Path
) -> None:
    folder = export_bundle(read_model(make_model()), tmp_path / "bundle")
    metadata = json.loads((folder / "configs" / "metadata.json").read_text())
    required = {"version", "changelog", "monai_version", "pytorch_version", "task", "description"}
    required |= {"required_packages_version", "authors", "copyright", "network_data_format"}
    assert required <= metadata.keys()
    assert metadata["network_data_format"]["inputs"]["image"]["spatial_shape"] == [32, 32]
    assert (folder / "models" / "model.json").is_file()
    with zipfile.ZipFile(folder / "models" / "model.pt2") as archive:
        assert not [name for name in archive.namelist() if name.endswith((".pkl", ".pickle"))]
    with pytest.raises(ConfigError, match="exists; name a folder that does not"):
        export_bundle(read_model(make_model()), folder)
