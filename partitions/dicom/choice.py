"""Which series is which sequence: a rule that a person gives, held against the headers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fedi2i.errors import ConfigError, DataError
from fedi2i.typed_config import choose
from partitions.dicom.folder import in_silence
from partitions.dicom.groups import Group

if TYPE_CHECKING:
    from pydicom import Dataset

ATTRIBUTES = (
    "BodyPartExamined",
    "ContrastBolusAgent",
    "ConvolutionKernel",
    "EchoTime",
    "FlipAngle",
    "ImageType",
    "InversionTime",
    "MRAcquisitionType",
    "MagneticFieldStrength",
    "Manufacturer",
    "Modality",
    "ProtocolName",
    "RepetitionTime",
    "ScanningSequence",
    "SequenceName",
    "SeriesDescription",
    "SeriesNumber",
    "SliceThickness",
    "StudyDescription",
)
"""What a rule may look at. It is looked at only, and goes nowhere."""
EXAMPLE = '--series "t1=SeriesDescription contains t1 and EchoTime < 20"'

_CONDITION = re.compile(r"(\w+)\s+(contains|lacks|is)\s+(.+)|(\w+)\s*([<>])\s*([-+.\d]+)")
_NEXT = re.compile(r"\s+and\s+(?=\w+\s*(?:contains|lacks|is|<|>))")
"""Between two conditions; a description may hold the word 'and', too."""
_OPERATORS: dict[str, Callable[[str, str], bool]] = {
    "contains": lambda text, value: value in text,
    "lacks": lambda text, value: value not in text,
    "is": lambda text, value: text == value,
}


@dataclass(frozen=True)
class Condition:
    """One condition of a rule.

    Attributes:
        attribute: one of ``ATTRIBUTES``.
        operator: ``contains``, ``lacks`` or ``is``, upper and lower case alike; ``<`` or ``>``.
        value: what the attribute is compared with, in lower case.
    """

    attribute: str
    operator: str
    value: str

    def holds(self, header: Dataset) -> bool:
        """Whether a series is such a one."""
        found = header.get(self.attribute)
        if self.operator in _OPERATORS:
            return _OPERATORS[self.operator](_plain(found), self.value)
        try:
            number, limit = float(found), float(self.value)
        except (TypeError, ValueError):
            return False
        return number < limit if self.operator == "<" else number > limit


@dataclass(frozen=True)
class SeriesRule:
    """Which series is a sequence: all conditions hold.

    Attributes:
        sequence: its name in the manifest, e.g. ``t1``.
        conditions: at least one.
    """

    sequence: str
    conditions: tuple[Condition, ...]

    def matching(self, headers: Mapping[Group, Dataset]) -> list[Group]:
        """The groups of which all conditions hold."""
        return [
            group
            for group, header in headers.items()
            if all(condition.holds(header) for condition in self.conditions)
        ]


def read_rule(text: str) -> SeriesRule:
    """Read ``t1=SeriesDescription contains t1 and EchoTime < 20``.

    Raises:
        ConfigError: it is no such rule, or names another attribute.
    """
    sequence, separator, rest = text.partition("=")
    name = sequence.strip().lower()
    if not separator or not re.fullmatch(r"[a-z0-9_]+", name):
        raise ConfigError(f"--series {text}: begin with the sequence's name, as in {EXAMPLE}")
    parts = _NEXT.split(rest.strip())
    return SeriesRule(name, tuple(_condition(part, text) for part in parts))


@in_silence()
def choose_series(
    rules: Sequence[SeriesRule], groups: Sequence[Group], largest: bool = False
) -> dict[str, Group]:
    """The group of each sequence; a sequence that no series fits is left out.

    Args:
        rules: one per sequence.
        groups: of one study, at least one.
        largest: whether to take the one with the most slices where several fit.

    Raises:
        DataError: a rule fits several groups, or two rules one; all groups that fit are listed.
    """
    headers = {one: one.header() for one in groups if one.is_volume}
    where = groups[0].first.path.parent
    chosen: dict[str, Group] = {}
    for rule in rules:
        fitting = rule.matching(headers)
        if largest:
            most = max((len(one.slices) for one in fitting), default=0)
            fitting = [one for one in fitting if len(one.slices) == most]
        if len(fitting) > 1:
            raise DataError(
                f"{where}: '{rule.sequence}' fits {len(fitting)} series: {listed(fitting)}; add a "
                "condition to --series, or give --largest"
            )
        if fitting and fitting[0] in chosen.values():
            raise DataError(
                f"{where}: '{rule.sequence}' and another sequence fit one series: "
                f"{fitting[0].text()}; add a condition to --series"
            )
        if fitting:
            chosen[rule.sequence] = fitting[0]
    return chosen


def listed(groups: Iterable[Group]) -> str:
    """Groups in words, for the console of their own site."""
    return "; ".join(one.text() for one in groups)


def _condition(part: str, text: str) -> Condition:
    hit = _CONDITION.fullmatch(part.strip())
    if hit is None:
        raise ConfigError(
            f"--series {text}: '{part}' is no condition; write ATTRIBUTE contains, lacks or is "
            f"VALUE, or ATTRIBUTE < NUMBER, as in {EXAMPLE}"
        )
    words = [word for word in hit.groups() if word is not None]
    attribute, operator, value = words
    return Condition(choose(attribute, ATTRIBUTES, "--series"), operator, value.strip().lower())


def _plain(value: Any) -> str:
    """A value as lower-case text; several values with the sign between them that DICOM has."""
    if value is None:
        return ""
    parts = [value] if isinstance(value, str) or not hasattr(value, "__iter__") else value
    return "\\".join(str(part).strip().lower() for part in parts)
