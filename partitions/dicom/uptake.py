"""What the values of a PET series are multiplied by to be standardised uptake values (SUV).

Body weight over the dose that is left at the time to which the values are corrected for decay, as
the quantitative imaging alliance QIBA writes down for headers without private attributes (profile
FDG-PET/CT, SUV by body weight). Series Date and Time are the reference of all PET attributes that
depend on time (DICOM PS3.3 C.8.9.1); DecayCorrection says whether values are corrected to it
(START) or to the injection (ADMIN). Nothing is guessed: what a header does not say is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from datetime import date, datetime, time
from typing import TYPE_CHECKING, Any

from fedi2i.errors import DataError
from partitions.dicom.folder import in_silence

if TYPE_CHECKING:
    from pydicom import Dataset

PET = "PT"
START, ADMIN = "START", "ADMIN"
_ACTIVITY, _SUV = "BQML", "GML"
_BODY_WEIGHT = "BW"
_CORRECTIONS = ("DECY", "ATTN")
_LEAST_DOSE = 1e5
"""Bq. No person is scanned with less; such a number is a dose in MBq, as some exports write it."""
_MOST_WEIGHT = 700.0
"""kg. Nobody weighs more; such a number is a weight in grams."""
_MOST_HALF_LIVES = 10.0
"""Between injection and scan. A thousandth of the dose is then left, and some time is wrong."""
_FLUORINE_18 = frozenset({"C-111A1", "77004003"})
"""The nuclide's code in SNOMED RT and CT (DICOM PS3.16, CID 4020)."""
_HALF_LIFE_OF_FLUORINE_18 = 6586.2
"""Seconds. Some exports write minutes, which an early scan would not betray."""
_TOLERANCE = 0.05
_ROUNDED = 60.0
"""Seconds by which two statements of one time may differ, as one of them may be rounded."""
_DAY = 86400.0
_DAY_AND_MINUTE, _MINUTE = re.compile(r"\d{12}"), re.compile(r"\d{4}")


@in_silence()
def suv_factor(headers: Sequence[Dataset]) -> float:
    """The factor of a series, in g/ml per unit of its rescaled values.

    Args:
        headers: of its slices, at least one.

    Raises:
        DataError: they lack something, contradict each other or hold impossible values; the
            sentence begins with what, and names no patient and no file.
    """
    factors = [_factor(header) for header in headers]
    if max(factors) > min(factors) * (1 + 1e-6):
        raise DataError("its slices have different doses, weights or times")
    return factors[0]


def _factor(header: Dataset) -> float:
    unit = str(header.get("Units") or "")
    if unit == _SUV:
        kind = str(header.get("SUVType") or _BODY_WEIGHT)
        if kind != _BODY_WEIGHT:
            raise DataError(f"its values are SUV by {kind} and not by body weight (SUVType)")
        return 1.0
    if unit != _ACTIVITY:
        raise DataError(f"its Units are '{unit}' and neither {_ACTIVITY} nor {_SUV}")
    given = header.get("CorrectedImage") or ()
    # pydicom gives a single value as it is.
    lacking = set(_CORRECTIONS) - ({given} if isinstance(given, str) else set(given))
    if lacking:
        raise DataError(f"its values are not corrected by {' and '.join(sorted(lacking))}")
    weight = _positive(header, "PatientWeight")
    if weight > _MOST_WEIGHT:
        raise DataError(f"its PatientWeight is {weight:g} kg, as if it were written in grams")
    return 1000 * weight / _dose_left(header)


def _dose_left(header: Dataset) -> float:
    """The injected dose in Bq at the time that the values are corrected to."""
    given = list(header.get("RadiopharmaceuticalInformationSequence") or [])
    if len(given) != 1:
        raise DataError(f"it names {len(given)} radiopharmaceuticals, and one is needed")
    (injected,) = given
    dose = _positive(injected, "RadionuclideTotalDose")
    if dose < _LEAST_DOSE:
        raise DataError(f"its RadionuclideTotalDose is {dose:g} Bq, as if it were written in MBq")
    correction = str(header.get("DecayCorrection") or "")
    if correction == ADMIN:
        return dose
    if correction != START:
        raise DataError(f"its DecayCorrection is '{correction}' and neither {START} nor {ADMIN}")
    half_life = _half_life(injected)
    waited = (_start(header) - _injection(injected, header)).total_seconds()
    if not 0 <= waited <= _MOST_HALF_LIVES * half_life:
        raise DataError(f"the scan starts {waited:.0f} s after the injection, which cannot be")
    return float(dose * 2 ** (-waited / half_life))


def _half_life(drug: Dataset) -> float:
    """In seconds; that of fluorine-18 is known."""
    half_life = _positive(drug, "RadionuclideHalfLife")
    coded = list(drug.get("RadionuclideCodeSequence") or [])
    is_fluorine = any(str(one.get("CodeValue")) in _FLUORINE_18 for one in coded)
    away = abs(half_life / _HALF_LIFE_OF_FLUORINE_18 - 1)
    if is_fluorine and away > _TOLERANCE:
        raise DataError(
            f"its RadionuclideHalfLife is {half_life:g} s, and that of fluorine-18, which it "
            f"names, {_HALF_LIFE_OF_FLUORINE_18:g} s"
        )
    return half_life


def _start(header: Dataset) -> datetime:
    """When the scan started; a series that was made later has lost the time it is corrected to."""
    start = datetime.combine(_day(header, "SeriesDate"), _clock(header, "SeriesTime"))
    if header.get("AcquisitionDate") and header.get("AcquisitionTime"):
        acquired = datetime.combine(
            _day(header, "AcquisitionDate"), _clock(header, "AcquisitionTime")
        )
        if start.replace(microsecond=0) > acquired:
            raise DataError("its SeriesTime lies after its AcquisitionTime: it was processed later")
    return start


def _injection(drug: Dataset, header: Dataset) -> datetime:
    """When the dose was injected; a time without a date is of the day of the scan."""
    if not drug.get("RadiopharmaceuticalStartDateTime"):
        day = _day(header, "SeriesDate")
        return datetime.combine(day, _clock(drug, "RadiopharmaceuticalStartTime"))
    moment = _whole_time(drug, header)
    if drug.get("RadiopharmaceuticalStartTime"):
        clock = _clock(drug, "RadiopharmaceuticalStartTime")
        apart = abs((datetime.combine(moment.date(), clock) - moment).total_seconds())
        if min(apart, _DAY - apart) > _ROUNDED:
            raise DataError(
                "its RadiopharmaceuticalStartDateTime and RadiopharmaceuticalStartTime are "
                "different times"
            )
    return moment


def _whole_time(drug: Dataset, header: Dataset) -> datetime:
    """Date and time of the injection on the clock of the header's other times."""
    from pydicom.valuerep import DT

    keyword = "RadiopharmaceuticalStartDateTime"
    moment: datetime = _read(DT, drug, keyword, "time")
    if not _DAY_AND_MINUTE.match(str(drug.get(keyword))):  # DICOM lets the end be left out
        raise DataError(f"its {keyword} says no hour and minute")
    offset = str(header.get("TimezoneOffsetFromUTC") or "")
    if moment.tzinfo is not None and offset:
        try:
            moment = moment.astimezone(datetime.strptime(offset, "%z").tzinfo)
        except ValueError as error:
            raise DataError("its TimezoneOffsetFromUTC is no offset") from error
    # Without an offset of the header all of its times are of one clock.
    return datetime.combine(moment.date(), moment.time())


def _positive(dataset: Dataset, keyword: str) -> float:
    value: Any = dataset.get(keyword)
    if value in (None, ""):
        raise DataError(f"it has no {keyword}")
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 < number < math.inf:
        raise DataError(f"its {keyword} is {value}, which cannot be")
    return number


def _day(dataset: Dataset, keyword: str) -> date:
    from pydicom.valuerep import DA

    found: date = _read(DA, dataset, keyword, "date")
    return date(found.year, found.month, found.day)


def _clock(dataset: Dataset, keyword: str) -> time:
    from pydicom.valuerep import TM

    found: time = _read(TM, dataset, keyword, "time of the day")
    if not _MINUTE.match(str(dataset.get(keyword))):
        raise DataError(f"its {keyword} says no minute")
    return time(found.hour, found.minute, found.second, found.microsecond)


def _read(kind: Callable[[str], Any], dataset: Dataset, keyword: str, what: str) -> Any:
    """An attribute as pydicom reads its kind of value, which is None for an empty one."""
    try:
        found = kind(str(dataset.get(keyword) or ""))
    except ValueError as error:
        raise DataError(f"its {keyword} is no {what}") from error
    if found is None:
        raise DataError(f"it has no {keyword}")
    return found
