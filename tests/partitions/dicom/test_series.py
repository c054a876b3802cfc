"""A series read back: voxels, positions and headers; other readers agree, and traps are seen."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from dicom_series import SHAPE, lps, random_hu, uid, write_series
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from fedi2i.errors import DataError
from partitions.dicom.conversion import convert_subject
from partitions.dicom.folder import read_folder
from partitions.dicom.groups import Group, group
from partitions.dicom.series import SeriesVolume, read_series

RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
HU = random_hu()


def groups_in(folder: Path) -> list[Group]:
    return [one for one in group(read_folder(folder).slices) if one.is_volume]


def read(folder: Path, straighten: bool = False) -> SeriesVolume:
    (only,) = groups_in(folder)
    return read_series(only, straighten)


def values_at(positions: NDArray[Any], data: NDArray[Any], affine: NDArray[Any]) -> NDArray[Any]:
    """The voxels at positions in mm, which must be those of a grid."""
    homogeneous = np.c_[positions, np.ones(len(positions))]
    voxels = (np.linalg.inv(affine) @ homogeneous.T)[:3].T
    assert np.abs(voxels - np.rint(voxels)).max() < 1e-3
    x, y, z = np.rint(voxels).astype(int).T
    return data[x, y, z]


def all_positions(volume: SeriesVolume) -> NDArray[Any]:
    indices = np.indices(volume.data.shape).reshape(3, -1)
    return (volume.affine[:3, :3] @ indices).T + volume.affine[:3, 3]


@pytest.mark.parametrize("plane", ["axial", "sagittal", "oblique"])
@pytest.mark.parametrize(
    ("rescale", "signed"), [((1.0, -1024.0), False), ((1.0, 0.0), True), ((0.5, -1024.0), False)]
)
def test_every_voxel_and_position_is_that_of_the_writer_and_of_simpleitk(
    tmp_path: Path, plane: str, rescale: tuple[float, float], signed: bool
) -> None:
    import SimpleITK

    write_series(tmp_path / "übung 1", HU, lps(plane), rescale=rescale, signed=signed)
    volume = read(tmp_path)
    np.testing.assert_array_equal(volume.data, HU)
    np.testing.assert_allclose(volume.affine, RAS @ lps(plane), atol=1e-6)
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "übung 1")))
    image = reader.Execute()
    theirs = np.eye(4)
    theirs[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    theirs[:3, 3] = image.GetOrigin()
    found = values_at(
        all_positions(volume), SimpleITK.GetArrayFromImage(image).T, RAS @ theirs
    ).reshape(SHAPE)
    np.testing.assert_array_equal(volume.data, found)


@pytest.mark.parametrize("plane", ["axial", "sagittal", "oblique"])
def test_every_voxel_is_where_dcm2niix_puts_it(tmp_path: Path, plane: str) -> None:
    dcm2niix = pytest.importorskip("dcm2niix", reason="dcm2niix from pip is not installed")
    write_series(tmp_path / "in", HU, lps(plane))
    (tmp_path / "out").mkdir()
    command = [dcm2niix.bin, "-b", "n", "-z", "n", "-o", str(tmp_path / "out"), "-f", "a"]
    subprocess.run([*command, str(tmp_path / "in")], check=True, capture_output=True)
    theirs = nibabel.load(tmp_path / "out/a.nii")
    volume = read(tmp_path / "in")
    found = values_at(all_positions(volume), np.asarray(theirs.dataobj), theirs.affine)
    np.testing.assert_array_equal(volume.data, found.reshape(SHAPE))


def test_the_headers_come_in_the_order_of_the_slices_without_pixels(tmp_path: Path) -> None:
    paths = write_series(tmp_path, HU)
    volume = read(tmp_path)
    assert [one.path for one in volume.slices] == paths
    assert [header.InstanceNumber for header in volume.headers] == list(range(12, 0, -1))
    assert [str(header.PatientName) for header in volume.headers[:1]] == ["Secret^Name P1"]
    assert not any("PixelData" in header for header in volume.headers)
    assert volume.headers[3].ImagePositionPatient == dcmread(paths[3]).ImagePositionPatient


def test_positions_rounded_by_a_scanner_pass_and_the_ends_give_the_distance(
    tmp_path: Path,
) -> None:
    def rounded(dataset: Dataset, k: int) -> None:
        x, y, z = (float(value) for value in dataset.ImagePositionPatient)
        dataset.ImagePositionPatient = [x, y, z + (0.004, -0.004, 0.0)[k % 3]]

    write_series(tmp_path, HU, edit=rounded)
    volume = read(tmp_path)
    np.testing.assert_array_equal(volume.data, HU)
    assert volume.affine[2, 2] == pytest.approx(2.5, abs=0.001)


def without(paths: list[Path], k: int) -> None:
    paths[k].unlink()


def twice(paths: list[Path], k: int) -> None:
    dataset = dcmread(paths[k])
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid("again")
    dataset.save_as(paths[k].parent / "again")


def test_a_missing_slice_is_refused_with_its_position(tmp_path: Path) -> None:
    without(write_series(tmp_path, HU), 5)
    with pytest.raises(DataError, match=r"2.5 mm apart, but not at -90\.12 to -85\.12 mm"):
        read(tmp_path)


def test_a_slice_that_is_there_twice_is_refused_with_its_position(tmp_path: Path) -> None:
    twice(write_series(tmp_path, HU), 5)
    with pytest.raises(DataError, match=r"has 1 slice\(s\) at the place of .* at -87\.62 mm"):
        read(tmp_path)


def test_two_acquisitions_at_one_place_are_two_volumes(tmp_path: Path) -> None:
    write_series(tmp_path / "a", HU)
    write_series(tmp_path / "b", HU + 1, AcquisitionNumber=2)
    volumes = [read_series(one) for one in groups_in(tmp_path)]
    assert [volume.data[0, 0, 0] - HU[0, 0, 0] for volume in volumes] == [0, 1]


def test_an_acquisition_number_that_changes_along_a_volume_does_not_split_it(
    tmp_path: Path,
) -> None:
    write_series(tmp_path, HU, edit=lambda ds, k: setattr(ds, "AcquisitionNumber", k // 6))
    np.testing.assert_array_equal(read(tmp_path).data, HU)


def tilted() -> NDArray[np.float64]:
    """The axial grid, every slice moved to the back by what a gantry of 15 degrees makes."""
    affine = lps()
    affine[1, 2] = 2.5 * np.tan(np.deg2rad(15))
    return affine


def test_a_tilted_gantry_is_refused_unless_resampling_is_asked_for(tmp_path: Path) -> None:
    rows = np.arange(SHAPE[1])[None, :, None]
    slices = np.arange(SHAPE[2])[None, None, :]
    # A ramp in space: 10 HU per mm to the back, which linear interpolation restores.
    back = 1.5 * rows + tilted()[1, 2] * slices
    ramp = np.broadcast_to(10 * back, SHAPE).astype(np.float64)
    write_series(tmp_path, ramp, tilted(), rescale=(0.01, 0.0))
    with pytest.raises(DataError, match=r"tilted by 15\.0 degrees .* '--straighten'"):
        read(tmp_path)
    volume = read(tmp_path, straighten=True)
    assert volume.tilt == pytest.approx(15)
    axes = volume.affine[:3, :3]
    np.testing.assert_allclose(axes.T @ axes, np.diag([1.25**2, 1.5**2, 2.5**2]), atol=1e-9)
    to_back = -all_positions(volume)[:, 1].reshape(volume.data.shape) - lps()[1, 3]
    seen = volume.data > -1000
    assert seen[:, :, 0].mean() > 0.75 and seen[:, :, -1].mean() > 0.75
    np.testing.assert_allclose(volume.data[seen], (10 * to_back)[seen], atol=0.02)
    assert set(np.unique(volume.data[~seen])) == {-1024.0}


def test_slices_beside_each_other_are_no_stack(tmp_path: Path) -> None:
    def jump(dataset: Dataset, k: int) -> None:
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x + 20 * (k % 2), y, z]

    write_series(tmp_path, HU, edit=jump)
    with pytest.raises(DataError, match="beside each other and not on one line"):
        read(tmp_path)


def localizer(dataset: Dataset, k: int) -> None:
    dataset.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]


def test_a_localizer_with_the_same_series_uid_is_a_group_of_its_own(tmp_path: Path) -> None:
    write_series(tmp_path / "a", HU)
    write_series(tmp_path / "b", HU[:, :, :1], edit=localizer)
    assert sorted(len(one.slices) for one in group(read_folder(tmp_path).slices)) == [1, 12]
    np.testing.assert_array_equal(read(tmp_path).data, HU)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [("EchoTime", 80), ("ImageType", ["ORIGINAL", "PRIMARY", "P"]), ("DiffusionBValue", 1000.0)],
)
def test_echoes_phases_and_b_values_of_one_series_are_several_volumes(
    tmp_path: Path, keyword: str, value: Any
) -> None:
    write_series(tmp_path / "a", HU, modality="MR")
    write_series(tmp_path / "b", HU + 7, modality="MR", **{keyword: value})
    volumes = [read_series(one) for one in groups_in(tmp_path)]
    assert [volume.data[0, 0, 0] - HU[0, 0, 0] for volume in volumes] == [0, 7]


def test_spacing_and_direction_may_differ_by_rounding_but_not_by_more(tmp_path: Path) -> None:
    def rounded(dataset: Dataset, k: int) -> None:
        dataset.PixelSpacing = [1.5 + 4e-5 * (k % 2), 1.25]
        dataset.ImageOrientationPatient = [1, 5e-4 * (k % 2), 0, 0, 1, 0]

    write_series(tmp_path / "a", HU, edit=rounded)
    assert read(tmp_path).data.shape == SHAPE
    write_series(tmp_path / "b", HU, edit=lambda ds, k: setattr(ds, "PixelSpacing", [1.51, 1.25]))
    assert len(groups_in(tmp_path)) == 2


def test_monochrome1_keeps_the_hu(tmp_path: Path) -> None:
    write_series(tmp_path, HU, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(read(tmp_path).data, HU)


def test_a_slope_that_differs_from_slice_to_slice_is_applied_slice_by_slice(
    tmp_path: Path,
) -> None:
    activity = np.random.default_rng(1).integers(0, 5000, SHAPE).astype(np.float64)
    slopes = 0.3 + 0.7 * np.arange(SHAPE[2])

    def scaled(dataset: Dataset, k: int) -> None:
        dataset.RescaleSlope = f"{slopes[k]:.4f}"

    write_series(tmp_path, activity, modality="PT", rescale=(1.0, 0.0), edit=scaled)
    expected = (activity * np.round(slopes, 4)).astype(np.float32)
    np.testing.assert_array_equal(read(tmp_path).data, expected)


@pytest.mark.parametrize(("value", "limit"), [(63536, None), (-2000, None), (-2010, -1990)])
def test_padding_becomes_air_and_is_counted(tmp_path: Path, value: int, limit: int | None) -> None:
    padded = HU.copy()
    padded[:3] = -2000
    given = {} if limit is None else {"PixelPaddingRangeLimit": limit}

    def pad(dataset: Dataset, k: int) -> None:
        dataset.add_new("PixelPaddingValue", "US" if value > 0 else "SS", value)
        for keyword, number in given.items():
            dataset.add_new(keyword, "SS", number)

    write_series(tmp_path, padded, rescale=(1.0, 0.0), signed=True, edit=pad)
    volume = read(tmp_path)
    assert volume.padded == padded[:3].size
    np.testing.assert_array_equal(volume.data[:3], np.full_like(padded[:3], -1024))
    np.testing.assert_array_equal(volume.data[3:], HU[3:])


@pytest.mark.parametrize(
    ("attributes", "rescale", "sentence"),
    [
        ({"RescaleType": "OD"}, (1.0, -1024.0), "values in 'OD' and not in HU"),
        ({}, None, "without a rescale"),
        ({"ModalityLUTSequence": [Dataset()]}, (1.0, -1024.0), "in a table"),
    ],
)
def test_values_in_no_known_unit_are_refused(
    tmp_path: Path,
    attributes: dict[str, Any],
    rescale: tuple[float, float] | None,
    sentence: str,
) -> None:
    write_series(tmp_path, HU.clip(0), rescale=rescale, **attributes)
    with pytest.raises(DataError, match=sentence):
        read(tmp_path)


@pytest.mark.parametrize(
    ("keyword", "value", "sentence"),
    [
        ("RescaleSlope", b"1,0 ", "its RescaleSlope is no number; correct the export"),
        ("RescaleIntercept", b"none", "its RescaleIntercept is no number"),
        ("RescaleSlope", b"nan ", "its RescaleSlope is not finite"),
        ("RescaleIntercept", b"-inf", "its RescaleIntercept is not finite"),
        ("RescaleSlope", b"0 ", "has a RescaleSlope of 0"),
    ],
)
@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_a_rescale_that_is_no_usable_number_is_refused(
    tmp_path: Path, keyword: str, value: bytes, sentence: str, modality: str
) -> None:
    def spoil(dataset: Dataset, k: int) -> None:
        put(dataset, keyword, "DS", value)

    write_series(tmp_path, HU, modality=modality, edit=spoil)
    with pytest.raises(DataError, match=rf"one-\d+\.IMA: {sentence}"):
        read(tmp_path)


def put(dataset: Dataset, keyword: str, vr: str, value: bytes) -> None:
    """A value as it may stand in a file, which pydicom itself would refuse to write."""
    tag = Tag(keyword)
    dataset[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)


def test_an_empty_limit_of_padding_is_none(tmp_path: Path) -> None:
    padded = HU.copy()
    padded[:3] = -2000

    def pad(dataset: Dataset, k: int) -> None:
        dataset.add_new("PixelPaddingValue", "SS", -2000)
        put(dataset, "PixelPaddingRangeLimit", "SS", b"")

    write_series(tmp_path, padded, rescale=(1.0, 0.0), signed=True, edit=pad)
    volume = read(tmp_path)
    assert volume.padded == padded[:3].size
    np.testing.assert_array_equal(volume.data[3:], HU[3:])


def test_a_volume_with_a_voxel_that_is_no_number_is_not_written(tmp_path: Path) -> None:
    def as_floats(dataset: Dataset, k: int) -> None:
        pixels = np.ones(SHAPE[1::-1], "<f4")
        pixels[0, 0] = np.nan if k == 5 else 1
        del dataset.PixelData
        dataset.FloatPixelData, dataset.BitsAllocated = pixels.tobytes(), 32

    write_series(tmp_path / "in", HU, modality="MR", rescale=None, edit=as_floats)
    (only,) = groups_in(tmp_path / "in")
    with pytest.raises(DataError, match="values that are no finite numbers; correct the export"):
        convert_subject({"t1": only}, tmp_path / "out", "a", "a")
    assert not (tmp_path / "out").exists()


def simpleitk_reads(folder: Path) -> tuple[int, float, bool]:
    """Slices, their distance in mm, and whether they lean, as SimpleITK has them."""
    import SimpleITK

    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    axes = np.array(image.GetDirection()).reshape(3, 3)
    leans = not np.allclose(axes.T @ axes, np.eye(3), atol=1e-6)
    return image.GetSize()[2], image.GetSpacing()[2], leans


def test_simpleitks_series_reader_makes_of_bad_series_what_the_documents_say(
    tmp_path: Path,
) -> None:
    without(write_series(tmp_path / "missing", HU), 5)
    shutil.copy(write_series(tmp_path / "twice", HU)[9], tmp_path / "twice/zz.IMA")
    write_series(tmp_path / "tilted", HU, tilted())
    for echo in (20, 80):
        write_series(tmp_path / "echoes", HU, modality="MR", EchoTime=echo)
        for path in (tmp_path / "echoes").glob("one-*"):
            path.rename(path.with_name(f"{echo}{path.name}"))
    assert simpleitk_reads(tmp_path / "missing") == (11, pytest.approx(2.75), False)
    assert simpleitk_reads(tmp_path / "twice") == (13, pytest.approx(1.875), False)
    assert simpleitk_reads(tmp_path / "tilted") == (12, pytest.approx(2.59, abs=0.005), False)
    assert simpleitk_reads(tmp_path / "echoes") == (24, pytest.approx(0.54, abs=0.005), False)
    text = (Path(__file__).parents[3] / "docs/dicom.md").read_text()
    sentence = " ".join(text.split())
    assert (
        "of 12 slices of 2.5 mm with one missing it gave slices of 2.75 mm, with a copy of the "
        "tenth slice as the last file 1.875 mm, with a tilt of 15 degrees 2.59 mm and no tilt, and "
        "of two echoes 24 slices of 0.54 mm"
    ) in sentence


def test_a_truncated_file_is_named_with_its_bytes(tmp_path: Path) -> None:
    path = write_series(tmp_path, HU)[4]
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=rf"{path.name}: its pixels are damaged .*bytes"):
        read(tmp_path)
