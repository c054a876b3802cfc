"""Multi-frame files and compressed ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_series import SHAPE, lps, random_hu, write_series
from pydicom import Dataset, dcmread
from pydicom.pixels import get_decoder
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGExtended12Bit,
    JPEGLSLossless,
    RLELossless,
)

from fedi2i.errors import DataError
from partitions.dicom.folder import DAMAGED, read_folder
from partitions.dicom.groups import group
from partitions.dicom.series import SeriesVolume, read_series
from partitions.dicom.values import stored_pixels

HU = random_hu()
FILES = Path(pydicom.__file__).parent / "data" / "test_files"


def read(folder: Path) -> SeriesVolume:
    (only,) = [one for one in group(read_folder(folder).slices) if one.is_volume]
    return read_series(only)


def multi_frame(tmp_path: Path, order: list[int]) -> Path:
    """The series as one enhanced file, its frames in the given order."""
    legacy = pytest.importorskip("highdicom.legacy", reason="highdicom is not installed")
    paths = write_series(tmp_path / "single", HU, lps("oblique"))
    whole = legacy.LegacyConvertedEnhancedCTImage(
        legacy_datasets=[dcmread(path) for path in paths],
        series_instance_uid="1.2.3",
        series_number=9,
        sop_instance_uid="1.2.3.4",
        instance_number=1,
    )
    whole.PixelData = whole.pixel_array[order].tobytes()
    groups = list(whole.PerFrameFunctionalGroupsSequence)
    whole.PerFrameFunctionalGroupsSequence = [groups[k] for k in order]
    (tmp_path / "multi").mkdir()
    whole.save_as(tmp_path / "multi/one")
    return tmp_path / "multi"


@pytest.mark.parametrize("shuffled", [False, True])
def test_the_frames_of_an_enhanced_file_are_sorted_by_their_positions(
    tmp_path: Path, shuffled: bool
) -> None:
    order = list(range(SHAPE[2]))
    if shuffled:
        order = [int(k) for k in np.random.default_rng(2).permutation(SHAPE[2])]
    volume = read(multi_frame(tmp_path, order))
    np.testing.assert_array_equal(volume.data, HU)
    np.testing.assert_allclose(
        volume.affine, np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps("oblique"), atol=1e-6
    )
    frames = [one.frame for one in volume.slices]
    assert (frames in (sorted(order), sorted(order)[::-1])) is not shuffled
    assert len({id(header) for header in volume.headers}) == 1


def test_each_frame_has_its_own_rescale(tmp_path: Path) -> None:
    folder = multi_frame(tmp_path, list(range(SHAPE[2])))
    before = read(folder)
    dataset = dcmread(folder / "one")
    for k, groups in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        transform = Dataset()
        transform.RescaleSlope, transform.RescaleIntercept = 1, -1024 + k
        transform.RescaleType = "HU"
        groups.PixelValueTransformationSequence = [transform]
    dataset.save_as(folder / "one")
    added = np.array([one.frame for one in before.slices])
    np.testing.assert_array_equal(read(folder).data, HU + added)


def write_frames(path: Path, frames: int, described: int) -> None:
    """A file of several frames that says where some of them lie."""
    (one,) = write_series(path.parent, random_hu(shape=(*SHAPE[:2], 1)), modality="MR")
    dataset = dcmread(one)
    one.unlink()
    dataset.NumberOfFrames = frames
    pixels = np.random.default_rng(3).integers(0, 999, (frames, SHAPE[1], SHAPE[0]))
    dataset.PixelData = pixels.astype("<u2").tobytes()
    dataset.PerFrameFunctionalGroupsSequence = [_groups_of_frame(k) for k in range(described)]
    dataset.save_as(path)


def _groups_of_frame(k: int) -> Dataset:
    groups, position, orientation, measures = Dataset(), Dataset(), Dataset(), Dataset()
    position.ImagePositionPatient = [0, 0, 2.5 * k]
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    measures.PixelSpacing = [1.5, 1.25]
    groups.PlanePositionSequence = [position]
    groups.PlaneOrientationSequence = [orientation]
    groups.PixelMeasuresSequence = [measures]
    return groups


@pytest.mark.parametrize(("frames", "described"), [(1, 3), (2, 3), (4, 3), (3, 1)])
def test_a_file_that_describes_another_number_of_frames_than_it_has_is_damaged(
    tmp_path: Path, frames: int, described: int
) -> None:
    write_frames(tmp_path / "right", 3, 3)
    assert read(tmp_path).data.shape == (*SHAPE[:2], 3)
    write_frames(tmp_path / "wrong", frames, described)
    found = read_folder(tmp_path)
    assert found.left_out == {DAMAGED: 1}
    assert {one.path.name for one in found.slices} == {"right"}


@pytest.mark.parametrize(
    "syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless, DeflatedExplicitVRLittleEndian]
)
def test_a_compressed_series_has_the_same_values(tmp_path: Path, syntax: str) -> None:
    hu = random_hu(shape=(64, 64, 3))
    for path in write_series(tmp_path, hu):
        dataset = dcmread(path)
        if syntax == DeflatedExplicitVRLittleEndian:
            dataset.file_meta.TransferSyntaxUID = syntax
        else:
            if not get_decoder(syntax).is_available:
                pytest.skip("the extra 'dicom' is not installed")
            dataset.compress(syntax)
        dataset.save_as(path)
    np.testing.assert_array_equal(read(tmp_path).data, hu)


@pytest.mark.parametrize(
    "name",
    ["RLE", "jp2klossless", "jpeg_ls_lossless", "implicit", "bigendian", "expb", "padded"],
)
def test_one_picture_stored_in_many_ways_is_one_picture(name: str) -> None:
    path = FILES / f"MR_small_{name}.dcm"
    dataset = dcmread(path)
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_compressed and not get_decoder(syntax).is_available:
        pytest.skip("the extra 'dicom' is not installed")
    plain = stored_pixels(dcmread(FILES / "MR_small.dcm"), path)
    np.testing.assert_array_equal(stored_pixels(dataset, path), plain)


def test_a_sign_that_header_and_stream_disagree_on_is_the_headers() -> None:
    path = FILES / "J2K_pixelrep_mismatch.dcm"
    dataset = dcmread(path)
    if not get_decoder(dataset.file_meta.TransferSyntaxUID).is_available:
        pytest.skip("the extra 'dicom' is not installed")
    assert int(stored_pixels(dataset, path).min()) == -2000


def test_a_missing_package_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = FILES / "MR_small_jp2klossless.dcm"
    decoder = get_decoder(dcmread(path).file_meta.TransferSyntaxUID)
    monkeypatch.setattr(decoder, "_available", {})
    with pytest.raises(DataError, match=r"JPEG 2000 .* pip install 'fedi2i\[dicom\]'"):
        stored_pixels(dcmread(path), path)


def test_twelve_bit_jpeg_with_losses_is_refused_in_a_sentence() -> None:
    if "pylibjpeg" in get_decoder(JPEGExtended12Bit).available_plugins:
        pytest.skip("pylibjpeg-libjpeg is installed, which decodes it")
    path = FILES / "JPGExtended.dcm"
    with pytest.raises(DataError, match=r"JPEG Extended .* pip install pylibjpeg-libjpeg"):
        stored_pixels(dcmread(path), path)


def test_losses_are_marked(tmp_path: Path) -> None:
    write_series(tmp_path / "a", HU)
    assert not read(tmp_path / "a").lossy
    write_series(tmp_path / "b", HU, LossyImageCompression="01")
    assert read(tmp_path / "b").lossy
