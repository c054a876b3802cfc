"""What a file says before its voxels are read."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest

from partitions.scans.header import read_scan_file
from partitions.scans.volume import read_volume

DATA = np.random.default_rng(0).integers(-500, 500, (5, 6, 7)).astype(np.int16)
AFFINE = np.array([[0, 0, 2.0, -5], [-1.5, 0, 0, 7], [0, 3.0, 0, 9], [0, 0, 0, 1]])


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("kind", ["NIfTI-1", "NIfTI-2", "big-endian"])
def test_the_voxels_and_the_affine_are_those_of_nibabel(
    tmp_path: Path, name: str, kind: str
) -> None:
    path = tmp_path / name
    image = (nibabel.Nifti2Image if kind == "NIfTI-2" else nibabel.Nifti1Image)(DATA, AFFINE)
    if kind == "big-endian":
        header = image.header.as_byteswapped(">")
        image = nibabel.Nifti1Image(DATA, AFFINE, header)
    image.header.set_slope_inter(0.5, -3)
    image.header.set_xyzt_units("mm")
    image.to_filename(path)
    file = read_scan_file(path)
    assert file.fault is None
    assert file.header is not None
    np.testing.assert_array_equal(file.header.affine, nibabel.load(path).affine)
    assert (file.header.shape, file.header.unit) == ((5, 6, 7), "mm")
    volume = read_volume(file)
    turned = nibabel.as_closest_canonical(nibabel.load(path))
    expected = np.asarray(turned.dataobj)[::-1, ::-1]  # right, anterior, superior to LPS
    np.testing.assert_array_equal(volume.data, expected.astype(np.float32))


def test_a_file_compressed_in_several_members_is_whole(tmp_path: Path) -> None:
    """Parallel compressors write such files, whose last bytes say the size of a part only."""
    content = nibabel.Nifti1Image(DATA, AFFINE).to_bytes()
    parts = (content[:400], content[400:500], content[500:], b"")
    path = tmp_path / "a.nii.gz"
    path.write_bytes(b"".join(gzip.compress(part) for part in parts))
    file = read_scan_file(path)
    assert file.fault is None
    assert read_volume(file).data.sum() == DATA.sum()


@pytest.mark.parametrize(("cut", "rule"), [(30, "truncated"), (4, "damaged")])
def test_a_cut_compressed_file_says_how_much_is_there(tmp_path: Path, cut: int, rule: str) -> None:
    path = tmp_path / "a.nii.gz"
    nibabel.Nifti1Image(DATA, AFFINE).to_filename(path)
    path.write_bytes(path.read_bytes()[:-cut])
    fault = read_scan_file(path).fault
    assert fault is not None
    assert fault.rule == rule
    if rule == "truncated":
        assert fault.details["expected"] == 352 + 2 * DATA.size
        assert 0 < int(str(fault.details["got"])) < 352 + 2 * DATA.size


def test_what_is_no_scan_at_all_is_damaged(tmp_path: Path) -> None:
    for content in (b"", b"\x1f\x8b", b"text", gzip.compress(b"text"), bytes(348)):
        for name in ("a.nii", "a.nii.gz"):
            (tmp_path / name).write_bytes(content)
            fault = read_scan_file(tmp_path / name).fault
            assert fault is not None
            assert fault.rule in ("damaged", "compressed-name")
