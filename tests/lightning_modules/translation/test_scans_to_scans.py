"""New patients' scans become translations on their own grids, whatever is wrong with others."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK
import torch
from torch import Tensor
from translated_scans import RAS, MakeModel, experiment_of, head, save_nifti

from fedi2i.cli.program import main
from fedi2i.errors import DataError
from lightning_modules.networks.building import build_networks
from lightning_modules.translation import scans_to_scans
from lightning_modules.translation import translator as networks_at_work
from lightning_modules.translation.model_card import SourceIntensities
from lightning_modules.translation.model_file import read_model
from lightning_modules.translation.new_scans import read_scan, result_names
from lightning_modules.translation.scans_to_scans import Wish, translate_scans
from lightning_modules.translation.translator import Translator
from partitions.preparation.new_scan import prepare_source


def _translate(model: Path, scans: list[Path], out: Path, **wish: Any) -> list[Path]:
    translator = Translator(read_model(model))
    written, refused = translate_scans(scans, translator, Wish(out, **wish), progress=False)
    assert not refused, refused
    return written


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    yield
    os.close(handle)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.usefixtures("identity")
def test_a_network_that_changes_nothing_returns_every_hu_on_the_scan_s_own_grid(
    make_model: MakeModel, tmp_path: Path
) -> None:
    hu = head("CT")
    scan = save_nifti(tmp_path / "cbct.nii.gz", hu)
    (path,) = _translate(make_model("cbct:ct"), [scan], tmp_path / "out")
    assert path == tmp_path / "out" / "cbct_ct.nii.gz"
    found = nibabel.load(path)
    assert found.get_data_dtype() == np.int16
    assert np.array_equal(np.asarray(found.dataobj), hu)
    source = nibabel.load(scan)
    assert np.allclose(found.affine, source.affine, atol=1e-6)
    assert (int(found.header["sform_code"]), int(found.header["qform_code"])) == (2, 2)
    assert np.allclose(found.get_qform(), source.affine, atol=1e-4)
    assert b"SYNTHETIC CT" in bytes(found.header["descrip"])


@pytest.mark.usefixtures("identity")
def test_after_resampling_smooth_values_come_back_nearly(
    make_model: MakeModel, tmp_path: Path
) -> None:
    x, y, _ = np.meshgrid(*(np.linspace(-1, 1, side) for side in head("CT").shape), indexing="ij")
    inside = head("CT") > -1000
    hu = np.where(inside, 400 + 300 * x - 200 * y, -1000).astype(np.float32)
    scan = save_nifti(tmp_path / "cbct.nii.gz", hu)
    (path,) = _translate(make_model("cbct:ct", spacing=1.1, size=[48, 48]), [scan], tmp_path)
    found = np.asarray(nibabel.load(path).dataobj)
    well_inside = x**2 + y**2 < 0.3
    assert np.abs(found - hu)[well_inside].max() < 5


@pytest.mark.usefixtures("identity")
def test_a_metaimage_is_translated_as_the_nifti_of_the_same_scan(
    make_model: MakeModel, tmp_path: Path
) -> None:
    data = head("MR")
    nifti = save_nifti(tmp_path / "a" / "t1.nii.gz", data)
    image = SimpleITK.GetImageFromArray(data.T)
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ RAS
    edges = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(edges.tolist())
    image.SetDirection((lps[:3, :3] / edges).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    mha = tmp_path / "b" / "t1.mha"
    mha.parent.mkdir()
    SimpleITK.WriteImage(image, mha)
    one, other = _translate(make_model("t1:t2"), [nifti, mha], tmp_path / "out")
    assert (one.name, other.name) == ("a_t1_t2.nii.gz", "b_t1_t2.nii.gz")
    found, expected = nibabel.load(other), nibabel.load(one)
    assert np.allclose(found.affine, expected.affine, atol=1e-5)
    assert np.allclose(found.dataobj, expected.dataobj, atol=1e-3)
    # A target without a unit is written in thousandths of its scale.
    assert np.min(expected.dataobj) >= 0 and 900 < np.max(expected.dataobj) <= 1000


def test_the_slices_are_those_of_a_cohort_and_the_network_is_the_model_s(
    make_model: MakeModel, tmp_path: Path
) -> None:
    scan = save_nifti(tmp_path / "t1.nii.gz", head("MR"))
    (path,) = _translate(make_model(), [scan], tmp_path)
    read = read_scan(scan, "t1")
    experiment = experiment_of("t1:ct")
    prepared = prepare_source(read.volume, read.grid, experiment.data.preparation)
    source = torch.from_numpy(prepared.source.astype(np.float32) / 65535 * 2 - 1)[:, None]
    network = build_networks(experiment.model, 1)["generator"].eval()
    with torch.inference_mode():
        hu = (network(source)[:, 0].numpy() + 1) / 2 * (65535 / 16) - 1024
    place = prepared.geometry.corner
    columns, rows = (slice(-low, -low + n) for low, n in zip(place, (28, 30), strict=True))
    lps = hu[:, rows, columns].transpose(2, 1, 0)
    found = np.asarray(nibabel.as_closest_canonical(nibabel.load(path)).dataobj)
    assert np.abs(found[::-1, ::-1] - lps).max() <= 0.51


def test_batches_bound_what_the_network_holds_and_change_nothing(
    make_model: MakeModel, tmp_path: Path
) -> None:
    model = read_model(make_model())
    source = np.random.default_rng(1).random((7, 32, 32), dtype=np.float32)
    sizes: list[int] = []

    def note(_: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
        sizes.append(len(inputs[0]))

    results = []
    for batch in (1, 3, 8):
        translator = Translator(model, batch=batch)
        translator._network.register_forward_pre_hook(note)
        results.append(translator.translate(source))
    assert sizes == [1] * 7 + [3, 3, 1] + [7]
    assert all(np.allclose(results[0], other, atol=1e-6) for other in results)


def test_the_disagreement_is_the_deviation_over_the_last_rounds_in_the_target_s_unit(
    make_model: MakeModel, tmp_path: Path
) -> None:
    scan = save_nifti(tmp_path / "t1.nii.gz", head("MR"))
    out = tmp_path / "out"
    model = make_model(seeds=(1, 2, 3))
    path, apart = _translate(model, [scan], out, uncertainty=True)
    assert apart.name == "t1_ct_uncertainty.nii.gz"
    alone = []
    for seed in (1, 2, 3):
        (one,) = _translate(make_model(seeds=(seed,)), [scan], tmp_path / str(seed))
        alone.append(np.asarray(nibabel.load(one).dataobj, dtype=np.float64))
    found = np.asarray(nibabel.load(apart).dataobj)
    assert np.abs(found - np.std(alone, axis=0)).max() < 1.0  # the volumes are whole HU
    assert found.max() > 50
    assert np.array_equal(nibabel.load(path).dataobj, alone[2])
    (same,) = _translate(make_model(seeds=(1, 1)), [scan], tmp_path / "same", uncertainty=True)[1:]
    assert np.abs(nibabel.load(same).dataobj).max() < 1e-3


def test_a_scan_that_cannot_be_used_does_not_stop_the_others(
    make_model: MakeModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = save_nifti(tmp_path / "good scan ü.nii.gz", head("MR"))
    cut = tmp_path / "cut.nii.gz"
    cut.write_bytes(good.read_bytes()[:2000])
    empty = tmp_path / "empty"
    empty.mkdir()
    out = tmp_path / "out"
    model = make_model()
    arguments = ["translate", "--model", str(model), "--threads", "1", "--out", str(out)]
    assert main([*arguments, str(cut), str(good), str(empty)]) == 2
    shown = capsys.readouterr()
    assert _names(out) == ["good_scan_ü_ct.nii.gz", "translated.json"]
    assert "synthetic: for research, not for diagnosis" in shown.out
    last = shown.err.splitlines()[-1]
    assert last.startswith("error: 2 of 3 scans were not translated") and "cut.nii.gz" in last


def test_a_link_in_circles_and_a_scan_that_fills_the_memory_do_not_stop_the_others(
    make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    circle, large, full, good = (tmp_path / f"{name}.nii.gz" for name in ("c", "l", "f", "good"))
    circle.symlink_to(circle)
    for path in (large, full, good):
        save_nifti(path, head("MR"))
    read = scans_to_scans.read_scan

    def failing(path: Path, *given: Any) -> Any:
        if path == large:
            raise MemoryError
        if path == full:
            raise OSError(5, "Input/output error", str(path))
        return read(path, *given)

    monkeypatch.setattr(scans_to_scans, "read_scan", failing)
    translator = Translator(read_model(make_model()))
    paths = [circle, large, full, good, good]
    written, refused = translate_scans(paths, translator, Wish(tmp_path / "out"), progress=False)
    assert [path.name for path in written] == ["good_ct.nii.gz"]
    assert refused.keys() == {circle, large, full}
    assert "cannot be read (Too many levels of symbolic links); name a scan" in refused[circle]
    assert "l.nii.gz: memory ran out; close other programs" in refused[large]
    assert "f.nii.gz: Input/output error" in refused[full]


def test_a_batch_that_fills_the_memory_is_told_from_a_mistake_of_ours(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    slices = np.zeros((2, 32, 32), dtype=np.float32)
    made = Translator(read_model(make_model()))
    for raised, expected in (
        (torch.OutOfMemoryError("CUDA out of memory"), MemoryError),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), MemoryError),
        (RuntimeError("shapes differ"), RuntimeError),
    ):

        def failing(*_: Any, raised: Exception = raised) -> None:
            raise raised

        monkeypatch.setattr(networks_at_work, "translate_seen", failing)
        with pytest.raises(expected):
            made.translate(slices)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (["--task", "t1:t2"], "translates t1 to ct, not t1 to t2"),
        (["--task", "t1"], "write source:target"),
        (["--uncertainty"], "holds 1 of its run's last global models"),
        (["--batch", "0"], "--batch 0: give 1 or more"),
    ],
)
def test_a_wish_that_the_model_cannot_fulfil_is_one_sentence(
    make_model: MakeModel,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: list[str],
    expected: str,
) -> None:
    scan = save_nifti(tmp_path / "t1.nii.gz", head("MR"))
    arguments = ["translate", "--model", str(make_model()), "--out", str(tmp_path / "out")]
    assert main([*arguments, str(scan), *change]) == 2
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("task", "modality", "expected"),
    [
        ("t1:ct", "CT", "it looks like a CT, and the model translates MR"),
        ("cbct:ct", "MR", "it has no air as a CT in HU has"),
        ("t1:ct", "MR", ""),
        ("cbct:ct", "CT", ""),
    ],
)
def test_a_source_of_another_modality_is_named_with_a_figure(
    make_model: MakeModel,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    task: str,
    modality: str,
    expected: str,
) -> None:
    scan = save_nifti(tmp_path / "scan.nii.gz", head(modality))
    _translate(make_model(task), [scan], tmp_path / "out")
    assert expected in caplog.text and ("% of its voxels lie below -200" in caplog.text) == bool(
        expected
    )


def test_a_source_far_from_the_training_is_named_with_a_figure(
    make_model: MakeModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shares = (1.0, *[0.0] * 63)
    scan = save_nifti(tmp_path / "scan.nii.gz", head("MR"))
    model = make_model(intensities=SourceIntensities(shares, 0.02))
    _translate(model, [scan], tmp_path / "out")
    assert "of the scale away from the mean training patient" in caplog.text


def test_results_that_are_there_stay_so_that_the_same_command_goes_on(
    make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans = [save_nifti(tmp_path / f"{name}.nii.gz", head("MR")) for name in "abc"]
    model, out = make_model(), tmp_path / "out"
    write = scans_to_scans.write_volume

    def stopped(path: Path, *arguments: Any) -> Path:
        if path.name.startswith("b"):
            raise KeyboardInterrupt
        return write(path, *arguments)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(scans_to_scans, "write_volume", stopped)
        _translate(model, scans, out)
    assert _names(out) == ["a_ct.nii.gz", "translated.json"]
    assert [path.name for path in _translate(model, scans, out)] == ["b_ct.nii.gz", "c_ct.nii.gz"]


@pytest.mark.parametrize("other", ["patient", "model", "content"])
def test_a_result_of_another_scan_or_model_is_not_taken_for_this_one(
    make_model: MakeModel, tmp_path: Path, capsys: pytest.CaptureFixture[str], other: str
) -> None:
    scan = save_nifti(tmp_path / "a" / "t1.nii.gz", head("MR", 1))
    out = tmp_path / "out"
    command = ["translate", "--threads", "1", "--out", str(out), "--model"]
    assert main([*command, str(make_model()), str(scan)]) == 0
    before = (out / "t1_ct.nii.gz").read_bytes()
    assert main([*command, str(make_model()), str(scan)]) == 0
    if other != "model":
        scan = save_nifti(
            tmp_path / ("b" if other == "patient" else "a") / "t1.nii.gz", head("MR", 2)
        )
    model = make_model(seeds=(2,) if other == "model" else (1,))
    assert main([*command, str(model), str(scan)]) == 2
    assert "is the translation of another scan" in capsys.readouterr().err
    assert (out / "t1_ct.nii.gz").read_bytes() == before
    assert (out / "translated.json").stat().st_mode & 0o777 == 0o600


def test_a_target_s_name_never_leads_out_of_the_folder() -> None:
    (name,) = result_names([Path("x/t1.nii")], "ct/../../escaped/ct").values()
    assert name == "t1_ct_.._.._escaped_ct"


def test_what_a_killed_command_left_half_written_is_removed(
    make_model: MakeModel, tmp_path: Path
) -> None:
    scan, out = save_nifti(tmp_path / "t1.nii.gz", head("MR")), tmp_path / "out"
    (out / ".writing-folder").mkdir(parents=True)
    (out / ".writing-folder" / "00001.dcm").write_bytes(b"a patient's name")
    (out / ".writing-file.nii.gz").write_bytes(b"half")
    _translate(make_model(), [scan], out)
    assert _names(out) == ["t1_ct.nii.gz", "translated.json"]


def test_a_folder_that_another_command_writes_to_is_left_alone(
    make_model: MakeModel, tmp_path: Path
) -> None:
    scan, out = save_nifti(tmp_path / "t1.nii.gz", head("MR")), tmp_path / "out"
    (out / ".writing-folder").mkdir(parents=True)
    model = make_model()
    with _locked(out), pytest.raises(DataError, match="another"):
        _translate(model, [scan], out)
    assert _names(out) == [".writing-folder"]


def test_pixels_too_small_for_any_memory_are_refused_with_the_figure(
    make_model: MakeModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan = save_nifti(tmp_path / "t1.nii.gz", head("MR"))
    arguments = ["translate", "--threads", "1", "--out", str(tmp_path / "out"), str(scan)]
    assert main([*arguments, "--model", str(make_model(spacing=1e-3))]) == 2
    # 30 voxels of 1.5 mm
    assert "would have 45000 pixels a side at 0.001 mm" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["a/t1.nii.gz", "a/t2.nii"], ["t1_ct", "t2_ct"]),
        (["a/t1.nii.gz", "b/t1.mha"], ["a_t1_ct", "b_t1_ct"]),
        (["x/ä b.NII.GZ"], ["ä_b_ct"]),
        (["x/study/"], ["study_ct"]),
    ],
)
def test_results_are_called_after_their_scans(paths: list[str], expected: list[str]) -> None:
    assert list(result_names([Path(path) for path in paths], "ct").values()) == expected


def test_two_results_of_one_name_are_refused() -> None:
    with pytest.raises(DataError, match="into different folders"):
        result_names([Path("x/a/t1.nii"), Path("y/a/t1.nii")], "ct")
