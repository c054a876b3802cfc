"""MetaImage and NRRD files are read where they lie, at the positions that ITK gives them."""

from __future__ import annotations

import gzip
import re
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK
from numpy.typing import NDArray

from partitions.__main__ import main
from partitions.manifest import SiteManifest, SubjectRecord, write_manifest
from partitions.preparation import PreparationConfig, prepare_site
from partitions.preparation.scaling import Scaling
from partitions.scans.header import read_scan_file
from partitions.scans.volume import DamagedScanError, read_volume

DATA = np.random.default_rng(0).integers(-1000, 1000, (5, 6, 7)).astype(np.int16)
TURN = np.array([[0.0, 0, -1], [1, 0, 0], [0, -1, 0]])


def write(path: Path, data: NDArray[Any] = DATA, compress: bool = True, **place: Any) -> Path:
    """Write (x, y, z) voxels by SimpleITK, on a turned grid unless told otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(data.T))
    image.SetSpacing(place.get("spacing", (1.0, 1.5, 3.0)))
    image.SetOrigin(place.get("origin", (5.0, -6.0, 7.5)))
    image.SetDirection(place.get("direction", TURN.ravel().tolist()))
    SimpleITK.WriteImage(image, str(path), useCompression=compress)
    return path


def edit(path: Path, old: bytes, new: bytes) -> Path:
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))
    return path


@pytest.mark.parametrize("name", ["ä b/a.mha", "a.nrrd"])
@pytest.mark.parametrize("compress", [False, True])
def test_voxels_and_positions_are_those_of_the_same_scan_as_nifti(
    tmp_path: Path, name: str, compress: bool
) -> None:
    """The NIfTI file is written by SimpleITK, too, and read by nibabel."""
    path = write(tmp_path / name, compress=compress)
    write(tmp_path / "a.nii.gz")
    file, nifti = read_scan_file(path), read_scan_file(tmp_path / "a.nii.gz")
    assert file.fault is None and file.header is not None
    affine = nibabel.load(tmp_path / "a.nii.gz").affine
    np.testing.assert_allclose(file.header.affine, affine, atol=1e-5)
    assert (file.header.shape, file.header.kind, file.header.is_readable) == ((5, 6, 7), "i", True)
    one, other = read_volume(file), read_volume(nifti)
    np.testing.assert_array_equal(one.data, other.data)
    np.testing.assert_allclose(one.affine, other.affine, atol=1e-5)
    assert one.digest() == other.digest()


@pytest.mark.parametrize("space", [b"right-anterior-superior", b"left-anterior-superior", b"LPS"])
def test_the_space_of_an_nrrd_file_decides_on_its_positions(tmp_path: Path, space: bytes) -> None:
    path = write(tmp_path / "a.nrrd")
    lps = read_scan_file(path).header
    edit(path, b"left-posterior-superior", space)
    turned = read_scan_file(path).header
    assert lps is not None and turned is not None
    signs = {b"LPS": (1, 1), b"left-anterior-superior": (1, -1)}.get(space, (-1, -1))
    np.testing.assert_allclose(turned.affine, np.diag([*signs, 1, 1]) @ lps.affine)


def _no_direction(path: Path) -> Path:
    return edit(path, b"TransformMatrix = 0 1 0 0 0 -1 -1 0 0\n", b"")


def test_without_a_direction_left_and_right_are_called_a_guess(tmp_path: Path) -> None:
    header = read_scan_file(_no_direction(write(tmp_path / "a.mha"))).header
    assert header is not None
    assert not header.is_oriented


def flipped(path: Path) -> Path:
    """One damaged byte among the compressed voxels."""
    content = bytearray(path.read_bytes())
    content[len(content) * 3 // 4] ^= 0xFF
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", ["a.mha", "a.nrrd"])
def test_a_damaged_compressed_file_is_refused_although_itk_may_read_it(
    tmp_path: Path, name: str
) -> None:
    file = read_scan_file(flipped(write(tmp_path / name)))
    with pytest.raises(DamagedScanError):
        read_volume(file)


def split_header(path: Path) -> tuple[bytes, bytes]:
    """The header of a compressed file, and its compressed voxels."""
    content = path.read_bytes()
    end = b"ElementDataFile = LOCAL\n" if path.suffix == ".mha" else b"\n\n"
    header, _, voxels = content.partition(end)
    return header + end, voxels


@pytest.mark.parametrize("name", ["a.mha", "a.nrrd"])
def test_a_small_file_that_holds_more_than_its_header_tells_is_refused_before_it_fills_the_memory(
    tmp_path: Path, name: str
) -> None:
    path = write(tmp_path / name)
    header, _ = split_header(path)
    bomb = (zlib if name == "a.mha" else gzip).compress(DATA.tobytes("F") + bytes(128 << 20))
    lines = [line for line in header.split(b"\n") if b"CompressedDataSize" not in line]
    path.write_bytes(b"\n".join(lines) + bomb)
    file = read_scan_file(path)
    tracemalloc.start()
    with pytest.raises(DamagedScanError, match="more than the 420 bytes needed"):
        read_volume(file)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert path.stat().st_size < 1 << 18 and peak < 32 << 20


@pytest.mark.parametrize("name", ["a.mha", "a.nrrd"])
def test_no_damaged_byte_of_compressed_voxels_passes(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name)
    header, voxels = split_header(path)
    data = read_volume(read_scan_file(path)).data
    begin = 10 if path.suffix == ".nrrd" else 0  # gzip's own header holds a time and a name
    for place in range(begin, len(voxels)):
        damaged = bytearray(voxels)
        damaged[place] ^= 0x01
        path.write_bytes(header + damaged)
        try:
            found = read_volume(read_scan_file(path)).data
        except DamagedScanError:
            continue
        np.testing.assert_array_equal(found, data, err_msg=f"byte {place}")


@pytest.mark.parametrize("name", ["a.mha", "a.nrrd"])
@pytest.mark.parametrize("missing", [2, 210])
def test_a_sound_stream_of_too_few_voxels_is_refused(
    tmp_path: Path, name: str, missing: int
) -> None:
    path = write(tmp_path / name)
    header, _ = split_header(path)
    few = DATA.T.tobytes()[:-missing]
    stream = zlib.compress(few) if path.suffix == ".mha" else gzip.compress(few)
    size = f"CompressedDataSize = {len(stream)}".encode()
    path.write_bytes(re.sub(rb"CompressedDataSize = \d+", size, header) + stream)
    file = read_scan_file(path)
    assert file.fault is None
    with pytest.raises(DamagedScanError, match=f"{420 - missing}"):
        read_volume(file)


def test_compressed_voxels_in_several_members_and_after_skipped_lines_are_read(
    tmp_path: Path,
) -> None:
    """As bgzip writes them, and as NRRD allows a text of its own before the voxels."""
    path = write(tmp_path / "a.nrrd")
    expected = read_volume(read_scan_file(path)).data
    header, _ = split_header(path)
    voxels = DATA.T.tobytes()
    stream = gzip.compress(voxels[:100]) + gzip.compress(voxels[100:])
    path.write_bytes(header + stream)
    np.testing.assert_array_equal(read_volume(read_scan_file(path)).data, expected)
    header = header.replace(b"encoding:", b"line skip: 1\nbyte skip: 4\nencoding:")
    path.write_bytes(header + b"a line\n" + gzip.compress(b"skip" + voxels))
    np.testing.assert_array_equal(read_volume(read_scan_file(path)).data, expected)


@pytest.mark.parametrize(("slope", "offset"), [("1.0", "0.0"), ("1e0", "-0"), ("1", "0.000")])
def test_a_scale_that_changes_nothing_may_be_written_as_any_number(
    tmp_path: Path, slope: str, offset: str
) -> None:
    scale = f"ElementToIntensityFunctionSlope = {slope}\n"
    scale += f"ElementToIntensityFunctionOffset = {offset}\nElementType"
    path = edit(write(tmp_path / "a.mha"), b"ElementType", scale.encode())
    file = read_scan_file(path)
    assert file.fault is None
    assert read_volume(file).data.min() == DATA.min()


@pytest.mark.parametrize("compress", [False, True])
def test_a_cut_file_says_how_much_is_there_before_its_voxels_are_read(
    tmp_path: Path, compress: bool
) -> None:
    path = write(tmp_path / "a.mha", compress=compress)
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-30])
    fault = read_scan_file(path).fault
    assert fault is not None
    assert (fault.rule, dict(fault.details)) == ("truncated", {"expected": size, "got": size - 30})
    nrrd = write(tmp_path / "a.nrrd", compress=compress)
    nrrd.write_bytes(nrrd.read_bytes()[:-30])
    cut = read_scan_file(nrrd)
    if compress:
        with pytest.raises(DamagedScanError):
            read_volume(cut)
    else:
        assert cut.fault is not None and cut.fault.rule == "truncated"


@pytest.mark.parametrize(
    ("name", "old", "new", "rule"),
    [
        ("a.mha", b"= LOCAL", b"= /etc/hostname", "detached-voxels"),
        ("a.nrrd", b"encoding:", b"data file: /etc/hostname\nencoding:", "detached-voxels"),
        ("a.nrrd", b"space: left-posterior-superior", b"space dimension: 3", "space-unknown"),
        ("a.nrrd", b"left-posterior-superior", b"scanner-xyz", "space-unknown"),
        ("a.mha", b"ElementType", b"ElementToIntensityFunctionSlope = 2\nElementType",
         "scale-unread"),
        ("a.mha", b"ElementType", b"ElementToIntensityFunctionOffset = none\nElementType",
         "scale-unread"),
        ("a.mha", b"ElementDataFile", b"Element", "damaged"),
        ("a.mha", b"DimSize", b"Dim", "damaged"),
        ("a.nrrd", b"sizes", b"size", "damaged"),
        ("a.mha", b"ObjectType = Image", b"text", "damaged"),
        ("a.mha", b"ObjectType", b"version https://git-lfs", "lfs-pointer"),
    ],
)  # fmt: skip
def test_what_simpleitk_would_pass_over_is_refused(
    tmp_path: Path, name: str, old: bytes, new: bytes, rule: str
) -> None:
    fault = read_scan_file(edit(write(tmp_path / name, compress=False), old, new)).fault
    assert fault is not None
    assert fault.rule == rule


def test_a_header_beside_its_voxels_is_no_scan(tmp_path: Path) -> None:
    write(tmp_path / "a.mhd")
    fault = read_scan_file(tmp_path / "a.mhd").fault
    assert fault is not None
    assert fault.details["format"] == "detached MetaImage"


@pytest.mark.parametrize("name", ["a.mha", "a.nrrd"])
def test_vectors_and_complex_numbers_are_told_by_the_header(tmp_path: Path, name: str) -> None:
    field = SimpleITK.Image([4, 5, 6], SimpleITK.sitkVectorFloat32, 3)
    SimpleITK.WriteImage(field, str(tmp_path / name))
    header = read_scan_file(tmp_path / name).header
    assert header is not None
    assert header.shape == (4, 5, 6, 1, 3)
    assert not header.is_readable


def synthrad(root: Path) -> SiteManifest:
    """Pairs as SynthRAD2025 has them: compressed int16, a CT clipped at -1024, an odd origin."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, size) for size in (30, 40, 8)), indexing="ij")
    body = (x / 0.7) ** 2 + (y / 0.75) ** 2 + (z / 2) ** 2 < 1
    records = []
    for number, split in enumerate(("train", "train", "val", "test")):
        name = f"1ABA00{number}"
        drawn = np.random.default_rng(number).normal(0, 80, body.shape)
        place = {"spacing": (1.0, 1.0, 3.0), "origin": (-211.3, 40.2, -7.5)}
        place["direction"] = np.eye(3).ravel().tolist()
        ct = np.where(body, drawn + 40, -1024).astype(np.int16)
        write(root / name / "ct.mha", ct, **place)
        write(root / name / "mr.mha", np.where(body, drawn + 400, 0).astype(np.int16), **place)
        write(root / name / "mask.mha", body.astype(np.uint8), **place)
        files = {"mr": f"{name}/mr.mha", "ct": f"{name}/ct.mha"}
        records.append(SubjectRecord(name, root.name, split, files, mask=f"{name}/mask.mha"))
    manifest = SiteManifest("synthrad2025", root.name, tuple(records), root)
    write_manifest(manifest)
    return manifest


def test_pairs_of_metaimage_files_pass_check_and_are_prepared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = synthrad(tmp_path / "A")
    assert main(["check", "--voxels", str(tmp_path)]) == 0
    assert "of 4 subjects: 0 errors, 0 warnings, 0 notes" in capsys.readouterr().out
    hu = Scaling(kind="window", low=-1024, high=3071, unit="HU")
    config = PreparationConfig(
        source="mr", target="ct", size=(40, 32), spacing=None, target_scaling=hu
    )
    train = prepare_site(manifest, config, tmp_path / "cache", progress=False).split("train")
    assert train.subjects[0].spacing == (1.0, 1.0, 3.0)
    assert len(train.source) == 16
