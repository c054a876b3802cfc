"""fastMRI's HDF5 files: field strengths, contrasts of one person, files that lack something."""

from __future__ import annotations

from pathlib import Path

import h5py
import nibabel
import numpy as np
import pytest
from miniature_scans import check_withdrawn_stays_away

from fedi2i.errors import DataError
from partitions.__main__ import main
from partitions.readers.fastmri import find_fastmri, import_fastmri

HEADER = """<?xml version="1.0"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
 <acquisitionSystemInformation><systemFieldStrength_T>{strength}</systemFieldStrength_T>
 </acquisitionSystemInformation>
 <encoding><encodedSpace><matrixSize><x>640</x><y>320</y><z>1</z></matrixSize>
  <fieldOfView_mm><x>440</x><y>220</y><z>7.5</z></fieldOfView_mm></encodedSpace>
  <reconSpace><matrixSize><x>20</x><y>20</y><z>1</z></matrixSize>
  <fieldOfView_mm><x>220</x><y>200</y><z>5</z></fieldOfView_mm></reconSpace></encoding>
</ismrmrdHeader>"""


def write_file(
    root: Path, acquisition: str, number: int, patient: str, strength: float, images: bool = True
) -> Path:
    path = root / f"file_brain_{acquisition}_201_{number}.h5"
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(number)
    with h5py.File(path, "w") as file:
        file["kspace"] = np.zeros((3, 2, 40, 20), np.complex64)
        file["ismrmrd_header"] = HEADER.format(strength=strength).encode()
        if images:
            file["reconstruction_rss"] = random.random((3, 20, 18), dtype=np.float32)
        file.attrs.update({"acquisition": acquisition, "patient_id": patient, "max": 1.0})
    return path


@pytest.fixture
def files(tmp_path: Path) -> Path:
    root = tmp_path / "multicoil_train"
    write_file(root, "AXT1", 6000001, "a1", 2.8936)
    write_file(root, "AXT2", 6000002, "a1", 2.8936)
    write_file(root, "AXT2", 6000003, "a1", 2.8936)
    write_file(root, "AXFLAIR", 6000004, "b2", 1.494)
    write_file(root, "AXT1POST", 6000005, "a1", 1.494)
    write_file(tmp_path / "multicoil_test", "AXT2", 6000006, "c3", 1.5, images=False)
    return tmp_path


def test_field_strengths_become_sites_and_contrasts_of_a_person_one_subject(
    files: Path, tmp_path: Path
) -> None:
    low, high = import_fastmri(files, tmp_path / "out", seed=1)
    assert [(low.site, r.subject, set(r.files)) for r in low.subjects] == [
        ("1_5T", "b2", {"flair"})
    ]
    (record,) = high.subjects
    assert (high.site, set(record.files)) == ("3T", {"t1", "t2"})
    image = nibabel.load(high.root / record.files["t1"])
    with h5py.File(files / "multicoil_train/file_brain_AXT1_201_6000001.h5") as file:
        images = np.asarray(file["reconstruction_rss"])
    assert np.array_equal(np.asarray(image.dataobj), images.transpose(2, 1, 0))
    assert image.header.get_zooms() == (11, 10, 5)
    assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (0, 0)
    assert main(["check", str(tmp_path / "out"), "--workers", "1"]) == 0


def test_what_is_left_out_is_said(files: Path) -> None:
    said = "\n".join(find_fastmri(files).problems)
    assert "6000006.h5: has no 'reconstruction_rss', as files of the test set" in said
    assert "1 repeated scans are left out: file_brain_AXT2_201_6000003.h5" in said
    assert "1 persons were scanned at two field strengths" in said
    assert "do not say where their slices lie" in said


def test_a_damaged_file_is_named_and_the_others_go_on(files: Path) -> None:
    path = files / "multicoil_train/file_brain_AXFLAIR_201_6000004.h5"
    path.write_bytes(path.read_bytes()[:500])
    found = find_fastmri(files)
    assert [scan.subject for scan in found.scans] == ["a1"]
    assert any("6000004.h5: is damaged or no HDF5 file" in said for said in found.problems)


def test_a_person_with_a_damaged_block_is_left_out_and_nothing_of_them_is_written(
    files: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The header of the file is whole, so that only reading the images tells."""
    path = files / "multicoil_train/file_brain_AXT2_201_6000002.h5"
    with h5py.File(path, "a") as file:
        images = np.asarray(file["reconstruction_rss"])
        del file["reconstruction_rss"]
        file.create_dataset("reconstruction_rss", data=images, chunks=(1, 20, 18), fletcher32=True)
        place = file["reconstruction_rss"].id.get_chunk_info(1)
    content = bytearray(path.read_bytes())
    content[place.byte_offset + 40] ^= 0xFF
    path.write_bytes(content)
    (manifest,) = import_fastmri(files, tmp_path / "out", seed=1)
    assert [record.subject for record in manifest.subjects] == ["b2"]
    assert "left out: " in caplog.text and "6000002.h5: is damaged" in caplog.text
    assert not (tmp_path / "out/3T").exists()


def test_a_person_s_code_that_is_a_path_is_refused(files: Path, tmp_path: Path) -> None:
    write_file(files / "multicoil_val", "AXT1", 6000007, "../../../elsewhere", 3.0)
    found = find_fastmri(files)
    assert any("6000007.h5" in said and "elsewhere" in said for said in found.problems)
    assert {scan.subject for scan in found.scans} == {"a1", "b2"}


def test_a_header_without_voxel_size_is_named(files: Path) -> None:
    path = write_file(files, "AXT1", 6000008, "d4", 3.0)
    with h5py.File(path, "a") as file:
        del file["ismrmrd_header"]
        file["ismrmrd_header"] = HEADER.format(strength=3).replace("<x>20</x>", "<x>0</x>").encode()
    assert any("6000008.h5: its header has no usable" in p for p in find_fastmri(files).problems)


def test_without_the_package_for_hdf5_the_sentence_says_what_to_install(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(DataError, match=r"pip install 'fedi2i\[hdf5\]'"):
        find_fastmri(files)


def test_a_withdrawn_patients_scans_are_not_written_again(files: Path, tmp_path: Path) -> None:
    write_file(files / "multicoil_val", "AXT2", 6000009, "d4", 3.0)
    check_withdrawn_stays_away(lambda: import_fastmri(files, tmp_path / "out", seed=1))
