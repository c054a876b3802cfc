"""A miniature of LDCT-and-Projection-data: its folders, its spellings, its projections."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from dicom_series import SHAPE, write_series
from miniature_scans import check_withdrawn_stays_away
from numpy.typing import NDArray
from pydicom import dcmread

from fedi2i.errors import DataError
from fedi2i.typed_config import read_yaml, record_from
from partitions.__main__ import main
from partitions.manifest import SiteManifest, read_manifest
from partitions.preparation import PreparationConfig, prepare_site
from partitions.readers.ldct import import_ldct

EXPERIMENT = Path(__file__).parents[3] / "jobs" / "experiments" / "ldct.yaml"


def body(seed: int) -> NDArray[np.float64]:
    """An ellipse of soft tissue in air."""
    x, y, _ = np.meshgrid(*(np.linspace(-1, 1, size) for size in SHAPE), indexing="ij")
    drawn = np.random.default_rng(seed).normal(40, 20, SHAPE)
    return np.asarray(np.rint(np.where(x**2 + y**2 < 0.7, drawn, -1000)))


def write_images(study: Path, patient: str, description: str, hu: NDArray[np.float64]) -> Path:
    """A series as the retriever names it: ``1.000000-Low Dose Images-00959/1-01.dcm``."""
    folder = study / f"1.000000-{description}-00959"
    paths = write_series(
        folder, hu, name=description, patient=patient, SeriesDescription=description
    )
    for path in paths:
        path.rename(folder / f"1-{paths.index(path) * 5 % 12 + 1:02d}.dcm")
    return folder


def write_projections(study: Path, patient: str) -> None:
    """Projections have rows and columns, but no position in the patient."""
    folder = study / "1.000000-Full dose projections-00951"
    for path in write_series(folder, patient=patient, name="p", SeriesDescription=""):
        dataset = dcmread(path)
        dataset.SeriesDescription = "Full dose projections"
        del dataset.ImagePositionPatient
        dataset.save_as(path)


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """Two patients per region with both doses; C900 came from a GE scanner."""
    root = tmp_path / "manifest-1643127346914" / "LDCT-and-Projection-data"
    for number, patient in enumerate(("L004", "L019", "C002", "C121", "N005", "N012")):
        study = root / patient / "12-23-2021-NA-NA-61870"
        full = body(number)
        spelling = "Images" if number % 2 else "images"
        write_images(study, patient, f"Full Dose {spelling}", full)
        write_images(study, patient, f"Low {'Dose' if number else 'dose'} Images", full + 7)
        write_projections(study, patient)
    write_projections(root / "C900" / "12-23-2021-NA-NA-61871", "C900")
    (root.parent / "metadata.csv").write_text("Subject ID\n")
    return root.parent


def test_each_region_is_a_site_with_pairs_in_hu(
    release: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manifests = import_ldct(release, tmp_path / "out", seed=1)
    assert [(one.site, len(one.subjects)) for one in manifests] == [
        ("abdomen", 2), ("chest", 2), ("head", 2)
    ]  # fmt: skip
    assert "1 patients have no images and 0 have them at one dose only" in caplog.text
    chest = manifests[1].subjects[0]
    assert (chest.subject, chest.metadata["low_dose"], chest.metadata["kvp"]) == ("C002", 0.1, 120)
    pair = {
        name: np.asarray(nibabel.load(manifests[1].root / path).dataobj)
        for name, path in chest.files.items()
    }
    assert chest.metadata["body_part"] == "chest"
    np.testing.assert_array_equal(pair["ct"], body(2))
    np.testing.assert_array_equal(pair["ct_low"], body(2) + 7)


def test_the_import_is_checked_and_prepared_in_hu(
    release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["ldct", "--source", str(release), "--out", str(out)]) == 0
    said = capsys.readouterr().out.splitlines()[-1]
    assert "'target_scaling={kind: window, low: -1024, high: 3071, unit: HU}'" in said
    assert main(["check", "--voxels", str(out)]) == 0
    experiment = read_yaml(EXPERIMENT)
    sites = [path.parent.name for path in sorted(out.glob("*/manifest.json"))]
    assert sites == experiment["federation"]["sites"]
    settings = {**experiment["experiment"]["data"]["preparation"], "size": [32, 24]}
    config = record_from(PreparationConfig, settings, "experiment")
    manifest: SiteManifest = read_manifest(out / "head")
    train = prepare_site(manifest, config, tmp_path / "cache", progress=False).split("train")
    inside = train.mask[:] == 1
    apart = (train.source[:].astype(float) - train.target[:])[inside] * 4095 / 65535
    np.testing.assert_allclose(apart, 7, atol=0.1)


def test_inspect_knows_the_release(release: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(release)]) == 0
    said = capsys.readouterr().out
    assert "sites      3: abdomen 2, chest 2, head 2" in said
    assert "pairs      6 subjects" in said
    assert "C900: projections only" in said
    assert said.splitlines()[-1] == f"next: fedi2i data ldct --source {release}"


def test_a_folder_with_another_patients_headers_is_left_out(
    release: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (release / "LDCT-and-Projection-data/N012").rename(release / "LDCT-and-Projection-data/N099")
    manifests = import_ldct(release, tmp_path / "out", seed=1)
    assert [record.subject for record in manifests[2].subjects] == ["N005"]
    assert "N099: its headers belong to patient N012" in caplog.text


def test_a_missing_slice_costs_one_patient_only(
    release: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    next(release.glob("*/L019/*/*Low*/1-06.dcm")).unlink()
    manifests = import_ldct(release, tmp_path / "out", seed=1)
    assert [record.subject for record in manifests[0].subjects] == ["L004"]
    assert "L019 is left out" in caplog.text
    assert not (tmp_path / "out/abdomen/L019").exists()


def test_a_folder_without_patients_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder of a patient such as 'L004'"):
        import_ldct(tmp_path, tmp_path / "out", seed=1)
    with pytest.raises(DataError, match="no such data folder"):
        import_ldct(tmp_path / "gone", tmp_path / "out", seed=1)


def test_a_withdrawn_patients_scans_are_not_written_again(release: Path, tmp_path: Path) -> None:
    check_withdrawn_stays_away(lambda: import_ldct(release, tmp_path / "out", seed=1))


def test_a_cut_file_costs_one_patient_only(
    release: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where it is the first of its folder, which says what the folder holds, or an end slice.

    Without the file, the others would be an even stack, shorter than the other dose's.
    """
    path = next(release.glob("*/L019/*/*Low*/1-01.dcm"))
    path.write_bytes(path.read_bytes()[:152])
    manifests = import_ldct(release, tmp_path / "out", seed=1)
    assert [record.subject for record in manifests[0].subjects] == ["L004"]
    assert "Low Dose Images-00959: holds 1 DICOM with a damaged header; copy it" in caplog.text
