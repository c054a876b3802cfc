"""What of a DICOM header may stand in a manifest, and what a patient is called there.

Names, dates, institutions, physicians, UIDs and free text (descriptions, comments) never leave the
header. The attributes below do, and no others (compare PS3.15 annex E).
"""

from __future__ import annotations

import math
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedi2i.digest import keyed_digest
from fedi2i.errors import DataError
from fedi2i.files import PRIVATE_FILE, write_text
from partitions.manifest import AGE, with_grouped_age

if TYPE_CHECKING:
    from pydicom import Dataset

KEY_FILE = "patient-key"
"""In the site folder: the key of the patients' digests. Without it nobody can try names."""

_TEXTS = {
    "Modality": "modality",
    "Manufacturer": "manufacturer",
    "ManufacturerModelName": "model",
    "ConvolutionKernel": "kernel",
    "BodyPartExamined": "body_part",
    "PatientSex": "sex",
}
_NUMBERS = {
    "MagneticFieldStrength": "field_strength",
    "KVP": "kvp",
    "SliceThickness": "slice_thickness",
    "EchoTime": "echo_time",
    "RepetitionTime": "repetition_time",
    "InversionTime": "inversion_time",
    "FlipAngle": "flip_angle",
}
_AGE = re.compile(r"(\d{1,3})([DWMY])")
_YEARS = {"D": 365.25, "W": 52.18, "M": 12.0, "Y": 1.0}
_DIGITS = 12


def facts_of(header: Dataset) -> dict[str, Any]:
    """The metadata of one scan, as the columns of a table of scans have them.

    Args:
        header: of any of its slices.
    """
    facts: dict[str, Any] = {}
    for keyword, name in _TEXTS.items():
        if text := _text(_value(header, keyword)):
            facts[name] = text
    for keyword, name in _NUMBERS.items():
        number = _number(_value(header, keyword))
        if number is not None:
            facts[name] = number
    if _text(_value(header, "ContrastBolusAgent")):
        facts["contrast_agent"] = "yes"
    age = _AGE.fullmatch(_text(header.get("PatientAge")))
    if age:
        facts[AGE] = int(int(age[1]) / _YEARS[age[2]])
    return with_grouped_age(facts)


def shared_facts(by_sequence: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The metadata of a subject: what all scans agree on, and the rest with the sequence's name.

    Args:
        by_sequence: sequence name to the facts of its scan.
    """
    names = sorted({name for facts in by_sequence.values() for name in facts})
    merged: dict[str, Any] = {}
    for name in names:
        values = {sequence: facts.get(name) for sequence, facts in by_sequence.items()}
        if len(set(values.values())) == 1:
            merged[name] = next(iter(values.values()))
        else:
            known = {one: value for one, value in values.items() if value is not None}
            merged |= {f"{sequence}_{name}": value for sequence, value in known.items()}
    return merged


def site_key(folder: Path) -> str:
    """The key of a site folder, in hexadecimal; made at the first import and never sent.

    Raises:
        DataError: the file is damaged. A new key would give every patient a new name.
    """
    path = folder / KEY_FILE
    if not path.exists():
        write_text(path, secrets.token_hex(32) + "\n", PRIVATE_FILE)
    key = path.read_text(encoding="utf-8", errors="replace").strip()
    if not re.fullmatch(r"[0-9a-f]{64}", key):
        raise DataError(
            f"{path}: is no key; put a copy of it back, or delete the site folder to import all "
            "patients under new names"
        )
    return key


def pseudonym(key: str, name: str) -> str:
    """What a patient or a study is called: 12 hexadecimal digits of HMAC-SHA-256.

    A plain hash of a short PatientID is found by trying all of them.
    """
    return keyed_digest(key, name)[:_DIGITS]


def _value(header: Dataset, keyword: str) -> Any:
    """A value at the top, or in a functional group that all frames share."""
    if header.get(keyword) not in (None, ""):
        return header.get(keyword)
    for groups in header.get("SharedFunctionalGroupsSequence") or ():
        for element in groups:
            if element.VR == "SQ" and element.value and keyword in element.value[0]:
                return element.value[0].get(keyword)
    return None


def _text(value: Any) -> str:
    if value is None:
        return ""
    one = value[0] if not isinstance(value, str) and len(value) else value
    return str(one).strip()


def _number(value: Any) -> float | None:
    """A finite number, or None; JSON has no word for any other."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
