"""DICOM in, translate, DICOM out: equal geometry, honest words, and nothing of the scanner's."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
from dicom_series import lps, uid, write_series
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.pixels import apply_rescale
from pydicom.tag import Tag
from pydicom.uid import CTImageStorage, MRImageStorage
from translated_scans import RAS, MakeModel, head, save_nifti

from fedi2i.cli.program import main
from fedi2i.errors import DataError
from lightning_modules.translation import derived_series
from lightning_modules.translation.model_file import read_model
from lightning_modules.translation.scans_to_scans import Wish, translate_scans
from lightning_modules.translation.translator import Translator
from partitions.preparation.intensities import Scale

SECRETS = ("Secret Hospital", "of Secret", "Operator^Secret", "secret protocol", "private secret")


def _source(folder: Path, modality: str = "MR", plane: str = "oblique") -> NDArray[np.float64]:
    """A series with what must not be passed on, and geometry in unusual decimal strings."""
    values = head(modality).astype(np.float64)

    def edit(dataset: Dataset, _: int) -> None:
        dataset.OperatorsName, dataset.ProtocolName = "Operator^Secret", "secret protocol"
        dataset.AcquisitionDate, dataset.ContrastBolusAgent = "20200102", "private secret"
        dataset.add_new(0x00091001, "LO", "private secret")
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [f"{float(x):.6f}0", f"{float(y):.6f}", f"{float(z):.6f}"]

    rescale = (1.0, -1024.0) if modality == "CT" else None
    write_series(folder, values, lps(plane), modality, rescale=rescale, edit=edit)
    return values


def _translated(model: Path, source: Path, out: Path) -> Path:
    translator = Translator(read_model(model))
    written, refused = translate_scans([source], translator, Wish(out), progress=False)
    assert not refused, refused
    (folder,) = written
    return folder


def _headers(folder: Path) -> list[Dataset]:
    """In the order of their positions along the normal."""
    found = [pydicom.dcmread(path) for path in folder.iterdir()]
    first = found[0].ImageOrientationPatient
    normal = np.cross(first[:3], first[3:])
    return sorted(found, key=lambda one: float(np.dot(one.ImagePositionPatient, normal)))


def _itk(folder: Path) -> SimpleITK.Image:
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


@pytest.mark.parametrize(("modality", "task"), [("MR", "t1:ct"), ("CT", "cbct:ct")])
def test_the_command_writes_a_series_that_two_readers_place_and_read_as_the_source(
    make_model: MakeModel, tmp_path: Path, modality: str, task: str
) -> None:
    source, out = tmp_path / "study", tmp_path / "out"
    nifti = save_nifti(tmp_path / "scan.nii.gz", _source(source, modality).astype(np.float32))
    command = ["translate", "--model", str(make_model(task)), "--threads", "1", "--out", str(out)]
    assert main([*command, str(source), str(nifti)]) == 0
    before, after = _headers(source), _headers(out / "study_ct")
    itk_before, itk_after = _itk(source), _itk(out / "study_ct")
    for name in ("GetSize", "GetOrigin", "GetSpacing", "GetDirection"):
        assert getattr(itk_after, name)() == pytest.approx(getattr(itk_before, name)(), abs=1e-9)
    assert len(after) == len(before) == itk_after.GetDepth()
    for k, one in enumerate(after):
        place = itk_after.TransformIndexToPhysicalPoint((0, 0, k))
        assert one.ImagePositionPatient == before[k].ImagePositionPatient
        assert place == pytest.approx([float(x) for x in one.ImagePositionPatient], abs=1e-5)
    # HU for both readers, and those of the same scan that came and went as NIfTI.
    hu = np.stack([apply_rescale(one.pixel_array, one).T for one in after], axis=2)
    assert {one.RescaleType for one in after} == {"HU"}
    assert np.array_equal(SimpleITK.GetArrayFromImage(itk_after).T, hu)
    image = nibabel.load(out / "scan_ct.nii.gz")
    assert np.allclose(image.affine, RAS, atol=1e-5)
    assert np.abs(np.asarray(image.dataobj) - hu).max() <= 1
    assert -1024 <= hu.min() < hu.max() <= 3071


@pytest.mark.parametrize("plane", ["axial", "sagittal", "oblique"])
def test_mr_becomes_a_ct_series_on_the_same_grid_for_pydicom_and_for_simpleitk(
    make_model: MakeModel, tmp_path: Path, plane: str
) -> None:
    source = tmp_path / "mr"
    _source(source, plane=plane)
    folder = _translated(make_model(), source, tmp_path / "out")
    assert folder == tmp_path / "out" / "mr_ct"
    before, after = _headers(source), _headers(folder)
    for one, other in zip(before, after, strict=True):
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
            # The very strings, not numbers that are nearly equal.
            assert [str(value) for value in other[keyword].value] == [
                str(value) for value in one[keyword].value
            ]
        assert other.FrameOfReferenceUID == one.FrameOfReferenceUID
        assert (other.Rows, other.Columns) == (one.Rows, one.Columns)
        (item,) = other.SourceImageSequence
        assert item.ReferencedSOPInstanceUID == one.SOPInstanceUID
    assert [one.InstanceNumber for one in after] == list(range(1, 13))
    mr, ct = _itk(source), _itk(folder)
    assert ct.GetSize() == mr.GetSize()
    for name in ("GetOrigin", "GetSpacing", "GetDirection"):
        assert np.allclose(getattr(ct, name)(), getattr(mr, name)(), atol=1e-9)


def test_the_series_says_in_every_place_that_it_is_computed(
    make_model: MakeModel, tmp_path: Path
) -> None:
    _source(tmp_path / "mr")
    model = make_model()
    after = _headers(_translated(model, tmp_path / "mr", tmp_path / "out"))
    weights = read_model(model).card.weights
    for one in after:
        assert one.SeriesDescription.startswith("SYNTHETIC CT, not for diagnosis")
        assert one.SyntheticData == "YES" and one.BurnedInAnnotation == "NO"
        assert list(one.ImageType) == ["DERIVED", "SECONDARY", "AXIAL"]
        assert (one.Modality, one.SOPClassUID) == ("CT", CTImageStorage)
        assert weights[:16] in one.DerivationDescription and "t1" in one.DerivationDescription
        (equipment,) = one.ContributingEquipmentSequence
        assert equipment.PurposeOfReferenceCodeSequence[0].CodeValue == "109100"
        assert one.Manufacturer == "FedI2I"
        assert (one.RescaleIntercept, one.RescaleSlope, one.RescaleType) == (-1024, 1, "HU")
        assert one.SeriesNumber == 9003
        assert one.PatientID == "P1" and one.StudyInstanceUID == uid("P1", "S1")
    assert len({one.SOPInstanceUID for one in after}) == len(after)
    assert len({one.SeriesInstanceUID for one in after}) == 1
    assert after[0].SeriesInstanceUID != uid("P1", "S1", "one")


def test_nothing_that_is_not_on_the_list_is_passed_on(
    make_model: MakeModel, tmp_path: Path
) -> None:
    _source(tmp_path / "mr")
    folder = _translated(make_model(), tmp_path / "mr", tmp_path / "out")
    for path in folder.iterdir():
        content = path.read_bytes()
        assert not [secret for secret in SECRETS if secret.encode() in content]
        dataset = pydicom.dcmread(path)
        assert not [element for element in dataset if element.tag.is_private]
        assert "AcquisitionDate" not in dataset


def _refused(model: Path, source: Path, out: Path) -> str:
    translator = Translator(read_model(model))
    written, refused = translate_scans([source], translator, Wish(out), progress=False)
    assert not written and not list(out.rglob("*.dcm"))
    return refused[source]


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "FrameOfReferenceUID"])
def test_a_source_that_no_series_can_be_added_to_is_refused(
    make_model: MakeModel, tmp_path: Path, keyword: str
) -> None:
    def edit(dataset: Dataset, _: int) -> None:
        if keyword in dataset:
            delattr(dataset, keyword)

    write_series(tmp_path / "mr", head("MR").astype(float), lps("oblique"), "MR", edit=edit)
    sentence = _refused(make_model(), tmp_path / "mr", tmp_path / "out")
    assert f"has no {keyword}" in sentence and "give --nifti" in sentence


def test_a_target_in_a_unit_that_dicom_cannot_hold_is_refused_before_the_scan_is_read(
    make_model: MakeModel, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    scaling = {"kind": "window", "low": 0.0, "high": 0.003, "unit": "mm2/s"}
    model = make_model("t1:t2", target="adc", target_scaling=scaling)
    assert "values in 'mm2/s'" in _refused(model, tmp_path / "empty", tmp_path / "out")


def test_values_that_are_stored_wrongly_are_found_when_they_are_read_back(
    make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _source(tmp_path / "mr")
    right = derived_series.stored_values
    monkeypatch.setattr(derived_series, "stored_values", lambda *given: right(*given) + 1)
    assert "differs from what is read" in _refused(make_model(), tmp_path / "mr", tmp_path / "out")


@pytest.mark.filterwarnings("ignore:Invalid value")
@pytest.mark.parametrize(
    ("number", "expected"),
    [(b"2147483000", 2**31 - 1), (b"seven ", 9000), (b"3\\4 ", 9000), (b"-5", 9000), (b"", 9000)],
)
def test_a_series_number_fits_into_32_bits_whatever_the_source_s_is(
    make_model: MakeModel, tmp_path: Path, number: bytes, expected: int
) -> None:
    def edit(dataset: Dataset, _: int) -> None:
        tag = Tag("SeriesNumber")
        dataset._dict[tag] = RawDataElement(tag, "IS", len(number), number, 0, False, True)

    write_series(tmp_path / "mr", head("MR").astype(float), lps("oblique"), "MR", edit=edit)
    after = _headers(_translated(make_model(), tmp_path / "mr", tmp_path / "out"))
    assert {one.SeriesNumber for one in after} == {expected}


def test_a_series_whose_last_file_is_damaged_is_translated_with_a_warning(
    make_model: MakeModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No gap tells that the last slice is missing."""
    paths = write_series(tmp_path / "mr", head("MR").astype(float), lps("oblique"), "MR")
    paths[-1].write_bytes(paths[-1].read_bytes()[:600])
    after = _headers(_translated(make_model(), tmp_path / "mr", tmp_path / "out"))
    assert len(after) == len(paths) - 1
    assert "files left out: 1 without a picture" in caplog.text
    assert "the translation may lack a slice at an end" in caplog.text


def test_a_value_that_is_not_valid_is_not_repeated_to_whoever_translates(
    make_model: MakeModel, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    def edit(dataset: Dataset, _: int) -> None:
        tag = Tag("StudyInstanceUID")
        dataset._dict[tag] = RawDataElement(tag, "UI", 6, b"Secret", 0, False, True)

    write_series(tmp_path / "mr", head("MR").astype(float), lps("oblique"), "MR", edit=edit)
    recwarn.clear()  # of writing it
    _translated(make_model(), tmp_path / "mr", tmp_path / "out")
    assert not [one for one in recwarn if "Secret" in str(one.message)]


@pytest.mark.usefixtures("identity")
def test_every_hu_comes_back_through_dicom(make_model: MakeModel, tmp_path: Path) -> None:
    hu = _source(tmp_path / "cbct", "CT")
    folder = _translated(make_model("cbct:ct"), tmp_path / "cbct", tmp_path / "out")
    found = np.stack([one.pixel_array.T for one in _headers(folder)], axis=2) - 1024.0
    assert np.array_equal(found, hu)


@pytest.mark.usefixtures("identity")
def test_the_frames_of_one_file_become_slices_of_their_own(
    make_model: MakeModel, tmp_path: Path
) -> None:
    legacy = pytest.importorskip("highdicom.legacy", reason="highdicom is not installed")
    hu = _source(tmp_path / "single", "CT")
    before = _headers(tmp_path / "single")
    whole = legacy.LegacyConvertedEnhancedCTImage(
        legacy_datasets=before,
        series_instance_uid="1.2.3",
        series_number=9,
        sop_instance_uid="1.2.3.4",
        instance_number=1,
    )
    (tmp_path / "multi").mkdir()
    whole.save_as(tmp_path / "multi" / "one")
    after = _headers(_translated(make_model("cbct:ct"), tmp_path / "multi", tmp_path / "out"))
    for index, (one, other) in enumerate(zip(before, after, strict=True)):
        assert np.allclose(other.ImagePositionPatient, one.ImagePositionPatient, atol=1e-6)
        assert list(map(float, other.PixelSpacing)) == list(map(float, one.PixelSpacing))
        assert np.array_equal(other.pixel_array.T - 1024.0, hu[:, :, index])
        assert other.SourceImageSequence[0].ReferencedSOPInstanceUID == "1.2.3.4"
    frames = {one.SourceImageSequence[0].ReferencedFrameNumber for one in after}
    assert frames == set(range(1, 13))


@pytest.mark.usefixtures("identity")
def test_a_translated_mr_is_an_mr_series_in_thousandths_of_its_scale(
    make_model: MakeModel, tmp_path: Path
) -> None:
    _source(tmp_path / "mr")
    after = _headers(_translated(make_model("t1:t2"), tmp_path / "mr", tmp_path / "out"))
    assert after[0].SOPClassUID == MRImageStorage
    assert after[0].SeriesDescription.startswith("SYNTHETIC MR, not for diagnosis")
    assert "RescaleSlope" not in after[0]
    assert 900 < max(int(one.pixel_array.max()) for one in after) <= 1000


def test_a_series_of_another_modality_and_a_computed_one_are_named(
    make_model: MakeModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    values = head("CT").astype(np.float64)
    write_series(tmp_path / "ct", values, modality="CT", SyntheticData="YES")
    _translated(make_model(), tmp_path / "ct", tmp_path / "out")
    assert "its header says CT, and the model translates MR; " in caplog.text
    assert "was itself made by a program" in caplog.text


def test_a_damaged_value_that_the_new_series_would_repeat_is_one_sentence(
    make_model: MakeModel, tmp_path: Path
) -> None:
    element = b"\x18\x00\x50\x00DS\x04\x00"  # SliceThickness, four bytes
    for path in write_series(tmp_path / "mr", head("MR").astype(float), lps("oblique"), "MR"):
        before, _, after = path.read_bytes().partition(element)
        path.write_bytes(before + element + b"\xff" * 4 + after[4:])
    sentence = _refused(make_model(), tmp_path / "mr", tmp_path / "out")
    assert "header holds a damaged value" in sentence
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["translated.json"]


def test_a_single_file_of_a_series_is_refused_with_what_to_name(
    make_model: MakeModel, tmp_path: Path
) -> None:
    _source(tmp_path / "mr")
    path = min((tmp_path / "mr").iterdir())
    translator = Translator(read_model(make_model()))
    _, refused = translate_scans([path], translator, Wish(tmp_path / "out"), progress=False)
    assert refused == {
        path: f"{path}: is one file of a DICOM series; name the folder of the series"
    }


def test_a_folder_of_two_series_is_refused_unless_one_is_told(
    make_model: MakeModel, tmp_path: Path
) -> None:
    folder = tmp_path / "mr"
    _source(folder)
    write_series(folder, head("MR")[..., :5].astype(np.float64), modality="MR", name="two")
    translator = Translator(read_model(make_model()))
    _, refused = translate_scans([folder], translator, Wish(tmp_path / "out"), progress=False)
    assert "holds 2 volumes" in refused[folder] and "--largest" in refused[folder]
    wish = Wish(tmp_path / "out", largest=True)
    written, _ = translate_scans([folder], translator, wish, progress=False)
    assert len(list(written[0].iterdir())) == 12


def test_values_are_clipped_before_they_are_cast() -> None:
    values = np.array([-3000.0, -1024.4, 0.4, 3071.0, 1e6], dtype=np.float32)
    found = derived_series.stored_values(values, Scale(-1024, 3071, "HU"))
    assert list(found) == [0, 0, 1024, 4095, 65535]


def test_no_number_is_never_written(make_model: MakeModel, tmp_path: Path) -> None:
    made = derived_series.Provenance("CT", "MR t1", "CT", "tiny", "0" * 64)
    values = np.full((2, 2, 1), np.nan, dtype=np.float32)
    with pytest.raises(DataError, match="no number"):
        derived_series.write_series(
            tmp_path / "out", [Dataset()], values, Scale(-1024, 3071, "HU"), made
        )
    assert list(tmp_path.iterdir()) == []


def _die_in_the_fourth_slice(model: Path, source: Path, out: Path) -> None:
    save = Dataset.save_as

    def dying(dataset: Dataset, path: Path, **options: bool) -> None:
        if Path(path).name == "00004.dcm":
            os._exit(9)
        save(dataset, path, **options)

    Dataset.save_as = dying  # type: ignore[method-assign]
    _translated(model, source, out)


def test_a_killed_process_leaves_no_series_and_the_same_command_writes_it(
    make_model: MakeModel, tmp_path: Path
) -> None:
    source, out, model = tmp_path / "mr", tmp_path / "out", make_model()
    _source(source)
    process = multiprocessing.get_context("fork").Process(
        target=_die_in_the_fourth_slice, args=(model, source, out)
    )
    process.start()
    process.join(600)
    assert process.exitcode == 9
    (left,) = out.glob(".writing-*")
    assert sorted(path.name for path in out.iterdir()) == [left.name, "translated.json"]
    assert len(list(_translated(model, source, out).iterdir())) == 12
    assert not left.exists()


@pytest.mark.usefixtures("identity")
@pytest.mark.parametrize("weight", ["70", ""])
def test_a_pet_is_turned_to_suv_by_its_headers_or_refused_with_what_they_lack(
    make_model: MakeModel, tmp_path: Path, weight: str
) -> None:
    drug = Dataset()
    drug.RadionuclideTotalDose = "350000000"
    activity = head("MR").astype(np.float64) * 10
    write_series(
        tmp_path / "pet", activity, modality="PT", rescale=None, Units="BQML",
        DecayCorrection="ADMIN", CorrectedImage=["DECY", "ATTN"], PatientWeight=weight,
        RadiopharmaceuticalInformationSequence=[drug],
    )  # fmt: skip
    suv = {"kind": "suv", "low": 0.0, "high": 4.0}
    model = make_model("t1:t2", source="pet", target="pet_full", source_scaling=suv,
                       target_scaling=suv)  # fmt: skip
    translator = Translator(read_model(model))
    wish = Wish(tmp_path / "out", as_nifti=True)
    written, refused = translate_scans([tmp_path / "pet"], translator, wish, progress=False)
    if not weight:
        assert "it has no PatientWeight; give --suv-factor" in refused[tmp_path / "pet"]
        return
    # 70,000 g / 350,000,000 Bq
    found = np.asarray(nibabel.load(written[0]).dataobj)
    assert np.abs(np.sort(found.ravel()) - np.sort(activity.ravel()) * 2e-4).max() < 1e-3
