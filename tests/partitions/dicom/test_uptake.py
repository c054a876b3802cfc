"""The factor from a PET's values to SUV: by hand, and whatever a header can lack."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dicom_series import random_hu, write_series
from pydicom import Dataset

from fedi2i.errors import DataError
from partitions.dicom.choice import read_rule
from partitions.dicom.uptake import suv_factor
from partitions.readers.dicom import DicomImport, import_dicom

HALF_LIFE = 6586.2
"""Seconds, of fluorine-18: 109.77 minutes."""


def _header() -> Dataset:
    """70 kg, 350 MBq of fluorine-18, one half-life before the scan."""
    drug = Dataset()
    drug.RadionuclideTotalDose, drug.RadionuclideHalfLife = "350000000", str(HALF_LIFE)
    drug.RadiopharmaceuticalStartTime = "081013.8"  # 6586.2 s before 10:00:00
    header = Dataset()
    header.Units, header.DecayCorrection = "BQML", "START"
    header.CorrectedImage = ["NORM", "DECY", "ATTN", "SCAT"]
    header.PatientWeight = "70"
    header.SeriesDate, header.SeriesTime = "20200102", "100000"
    header.AcquisitionDate, header.AcquisitionTime = "20200102", "100215.25"
    header.RadiopharmaceuticalInformationSequence = [drug]
    return header


def test_after_a_half_life_the_factor_is_that_of_half_the_dose() -> None:
    # 70,000 g / 175,000,000 Bq: of 5,000 Bq/ml two g/ml.
    assert suv_factor([_header()]) == pytest.approx(0.0004, rel=1e-12)
    assert 5000 * suv_factor([_header()]) == pytest.approx(2.0)


def test_values_that_are_corrected_to_the_injection_need_no_times() -> None:
    header = _header()
    header.DecayCorrection = "ADMIN"
    del header.SeriesTime, header.RadiopharmaceuticalInformationSequence[0].RadionuclideHalfLife
    assert suv_factor([header]) == pytest.approx(0.0002, rel=1e-12)


def test_an_injection_with_its_date_may_have_been_before_midnight() -> None:
    header = _header()
    header.SeriesTime, header.AcquisitionTime = "001000", "001000"
    drug = header.RadiopharmaceuticalInformationSequence[0]
    drug.RadiopharmaceuticalStartDateTime = "20200101233000.000000"
    del drug.RadiopharmaceuticalStartTime
    expected = 70_000 / (350e6 * np.exp(-np.log(2) * 2400 / HALF_LIFE))
    assert suv_factor([header]) == pytest.approx(expected, rel=1e-12)


def test_an_injection_on_another_clock_is_put_on_that_of_the_header() -> None:
    header = _header()
    header.TimezoneOffsetFromUTC = "+0100"
    drug = header.RadiopharmaceuticalInformationSequence[0]
    # 07:10:13.8 in Greenwich is 08:10:13.8 on the scanner's clock
    drug.RadiopharmaceuticalStartDateTime = "20200102071013.800000+0000"
    assert suv_factor([header]) == pytest.approx(0.0004, rel=1e-12)


def test_the_half_life_of_a_named_nuclide_is_known() -> None:
    header, code = _header(), Dataset()
    drug = header.RadiopharmaceuticalInformationSequence[0]
    code.CodeValue, code.CodingSchemeDesignator = "C-111A1", "SRT"
    drug.RadionuclideCodeSequence = [code]
    assert suv_factor([header]) == pytest.approx(0.0004, rel=1e-12)
    # minutes in the place of seconds: ten minutes after the injection nothing else betrays them
    drug.RadionuclideHalfLife, drug.RadiopharmaceuticalStartTime = "109.77", "095000"
    with pytest.raises(DataError, match=r"RadionuclideHalfLife is 109\.77 s, and that of f"):
        suv_factor([header])


def test_values_that_are_suv_stay_as_they_are() -> None:
    header = Dataset()
    header.Units = "GML"
    assert suv_factor([header]) == 1.0
    header.SUVType = "LBM"
    with pytest.raises(DataError, match="SUV by LBM"):
        suv_factor([header])


def _without(keyword: str) -> Callable[[Dataset], None]:
    return lambda header: delattr(header, keyword)


def _drug(keyword: str, value: str | None) -> Callable[[Dataset], None]:
    def change(header: Dataset) -> None:
        drug = header.RadiopharmaceuticalInformationSequence[0]
        delattr(drug, keyword) if value is None else setattr(drug, keyword, value)

    return change


def _set(keyword: str, value: object) -> Callable[[Dataset], None]:
    return lambda header: setattr(header, keyword, value)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (_without("Units"), "Units are ''"),
        (_set("Units", "CNTS"), "Units are 'CNTS'"),
        (_set("CorrectedImage", "ATTN"), "not corrected by DECY"),
        (_without("CorrectedImage"), "not corrected by ATTN and DECY"),
        (_without("PatientWeight"), "no PatientWeight"),
        (_set("PatientWeight", "0"), "PatientWeight is 0"),
        (_set("PatientWeight", "70000"), "PatientWeight is 70000 kg, as if it were written in g"),
        (_without("RadiopharmaceuticalInformationSequence"), "names 0 radiopharmaceuticals"),
        (_drug("RadionuclideTotalDose", None), "no RadionuclideTotalDose"),
        (_drug("RadionuclideTotalDose", "350"), "written in MBq"),
        (_drug("RadionuclideHalfLife", None), "no RadionuclideHalfLife"),
        (_drug("RadiopharmaceuticalStartTime", None), "no RadiopharmaceuticalStartTime"),
        (_drug("RadiopharmaceuticalStartTime", "100001"), "-1 s after the injection"),
        (_drug("RadionuclideHalfLife", "122"), "6586 s after the injection"),
        (_drug("RadionuclideHalfLife", "600"), "6586 s after the injection"),
        # Times that end early would otherwise be those of midnight and of the full hour.
        (_drug("RadiopharmaceuticalStartDateTime", "20200102"), "says no hour and minute"),
        (_drug("RadiopharmaceuticalStartDateTime", "2020"), "says no hour and minute"),
        (_drug("RadiopharmaceuticalStartDateTime", "2020010208"), "says no hour and minute"),
        (
            _drug("RadiopharmaceuticalStartTime", "08"),
            "StartTime says no minute",
        ),
        (_set("SeriesTime", "10"), "SeriesTime says no minute"),
        (_drug("RadiopharmaceuticalStartDateTime", "20200102091013"), "are different times"),
        (_without("SeriesTime"), "no SeriesTime"),
        (_without("SeriesDate"), "no SeriesDate"),
        (_set("SeriesTime", "113000"), "processed later"),
        (_without("DecayCorrection"), "DecayCorrection is ''"),
        (_set("DecayCorrection", "NONE"), "DecayCorrection is 'NONE'"),
    ],
)
def test_what_a_header_lacks_is_named_and_never_guessed(
    change: Callable[[Dataset], None], expected: str
) -> None:
    header = _header()
    change(header)
    with pytest.raises(DataError, match=expected):
        suv_factor([_header(), header])


def test_slices_of_different_weights_have_no_common_factor() -> None:
    other = _header()
    other.PatientWeight = "71"
    with pytest.raises(DataError, match="different doses, weights or times"):
        suv_factor([_header(), other])


@pytest.mark.parametrize("complete", [True, False])
def test_an_import_writes_the_factor_into_the_manifest_or_says_why_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, complete: bool
) -> None:
    def edit(dataset: Dataset, _: int) -> None:
        dataset.update(_header())
        if not complete:
            del dataset.PatientWeight

    write_series(tmp_path / "in" / "pet", abs(random_hu(1)), modality="PT", name="pet",
                 rescale=(0.5, 0.0), edit=edit)  # fmt: skip
    write_series(tmp_path / "in" / "t1", abs(random_hu(2)), modality="MR", name="t1", rescale=None)
    rules = tuple(read_rule(f"{one}=SeriesDescription contains {one}") for one in ("t1", "pet"))
    (manifest,) = import_dicom(
        DicomImport(tmp_path / "in", tmp_path / "out", "house", "north", rules, seed=1)
    )
    (subject,) = manifest.subjects
    # Without a sequence in front, although the MR has none: preparation looks for it there.
    assert subject.metadata.get("suv_factor") == (pytest.approx(0.0004) if complete else None)
    assert "weight" not in str(subject.metadata).lower()
    assert ("'pet' cannot be turned to SUV: it has no PatientWeight" in caplog.text) != complete
