"""A miniature of the AAPM-Mayo challenge: doses and thicknesses in the names of the files."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from dicom_series import lps, random_hu, write_series
from miniature_scans import check_withdrawn_stays_away

from fedi2i.errors import DataError
from partitions.__main__ import main
from partitions.readers.aapm_mayo import import_aapm_mayo

HU = random_hu()


def write_scan(folder: Path, patient: str, dose: str, thickness: int, kernel: str = "B30f") -> None:
    """``L067_QD_3_1.CT.0004.0001.<date>.IMA``: slice numbers run against the positions."""
    affine = lps()
    affine[2, 2] = thickness
    hu = HU + (10 if dose == "QD" else 0) + thickness
    name = f"{dose}{thickness}{kernel}"
    paths = write_series(folder, hu, affine, name=name, patient=patient, ConvolutionKernel=kernel)
    for number, path in enumerate(reversed(paths), start=1):
        date = "2015.12.22.18.12.56.428910.358293547"
        path.rename(folder / f"{patient}_{dose}_{thickness}_1.CT.0004.{number:04d}.{date}.IMA")


@pytest.fixture
def release(tmp_path: Path) -> Path:
    for patient in ("L067", "L096", "L506"):
        for dose, folder in (("QD", "quarter"), ("FD", "full")):
            for thickness in (1, 3):
                place = tmp_path / "in" / patient / f"{folder}_{thickness}mm"
                write_scan(place, patient, dose, thickness)
    return tmp_path / "in"


@pytest.mark.parametrize("thickness", [1, 3])
def test_pairs_of_one_thickness_are_sorted_by_position(
    release: Path, tmp_path: Path, thickness: int
) -> None:
    (manifest,) = import_aapm_mayo(release, tmp_path / "out", 1, thickness)
    assert [record.subject for record in manifest.subjects] == ["L067", "L096", "L506"]
    record = manifest.subjects[0]
    assert (record.site, record.metadata["low_dose"]) == ("mayo", 0.25)
    full, low = (nibabel.load(manifest.root / record.files[n]) for n in ("ct", "ct_low"))
    np.testing.assert_array_equal(np.asarray(full.dataobj), HU + thickness)
    np.testing.assert_array_equal(np.asarray(low.dataobj), HU + thickness + 10)
    assert full.header.get_zooms() == pytest.approx((1.25, 1.5, thickness))


def test_two_kernels_need_a_choice(
    release: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for dose in ("QD", "FD"):
        write_scan(release / "3mm D45", "L067", dose, 3, "D45f")
    (manifest,) = import_aapm_mayo(release, tmp_path / "a", 1, 3)
    assert [record.subject for record in manifest.subjects] == ["L096", "L506"]
    assert "one series is needed, found: series 3" in caplog.text
    (sharp,) = import_aapm_mayo(release, tmp_path / "b", 1, 3, "D45")
    assert [record.subject for record in sharp.subjects] == ["L067"]
    (soft,) = import_aapm_mayo(release, tmp_path / "c", 1, 3, "b30")
    assert len(soft.subjects) == 3


def test_inspect_knows_the_names_of_the_files(
    release: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(release)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert "  patients   3, in 3 subjects" in said
    assert said[-1] == f"next: fedi2i data aapm_mayo --source {release} --thickness 3"


def test_a_file_that_is_no_scan_costs_one_patient_only(
    release: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    next((release / "L096/full_3mm").iterdir()).write_bytes(b"no scan")
    (manifest,) = import_aapm_mayo(release, tmp_path / "out", 1, 3)
    assert [record.subject for record in manifest.subjects] == ["L067", "L506"]
    assert "not DICOM; copy it again" in caplog.text


def test_a_folder_without_such_files_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file of 3 mm such as 'L067_QD_3_1\.CT"):
        import_aapm_mayo(tmp_path, tmp_path / "out", 1, 3)


def test_a_withdrawn_patients_scans_are_not_written_again(release: Path, tmp_path: Path) -> None:
    check_withdrawn_stays_away(lambda: import_aapm_mayo(release, tmp_path / "out", 1, 3))
