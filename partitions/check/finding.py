"""What a rule is, and what it finds.

A rule is one record: its name, how severe a finding is, its sentence, what to do, and the function
that looks. The modules of ``partitions.check.rules`` hold them all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Generic, TypeVar

from fedi2i.errors import DataError

ERROR = "error"
WARNING = "warning"
NOTE = "note"
SEVERITIES = (ERROR, WARNING, NOTE)
EXIT_CODES = {ERROR: 2, WARNING: 0, NOTE: 0}
"""What ``check`` ends with when its worst finding is of this severity."""

Seen = TypeVar("Seen")


def nowhere(_: object) -> list[Hit]:
    """Finds nothing: for rules about reading itself, whose findings come from whoever reads."""
    return []


@dataclass(frozen=True)
class Place:
    """What a finding is about; empty where it is about no single site, subject or file."""

    site: str = ""
    subject: str = ""
    file: str = ""


@dataclass(frozen=True)
class Hit:
    """One case of a rule.

    Attributes:
        details: what the rule's sentence and remedy name in braces.
        place: where; None means where the rule was told to look.
    """

    details: Mapping[str, object] = field(default_factory=dict)
    place: Place | None = None


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or worth knowing.

    Attributes:
        rule: the rule's name.
        severity: ``error``: preparation refuses the data; ``warning``: it goes on, but somebody
            should look; ``note``: how something was read.
        site: the site, or "".
        subject: the subject, or "".
        file: the file's path, or "".
        sentence: what is wrong.
        remedy: what to do.
    """

    rule: str
    severity: str
    site: str
    subject: str
    file: str
    sentence: str
    remedy: str

    def text(self) -> str:
        """One sentence: which file, what is wrong, what to do."""
        said = f"{self.sentence}; {self.remedy}" if self.remedy else self.sentence
        return f"{self.file}: {said}" if self.file else said

    def as_dict(self) -> dict[str, str]:
        """The fields by name."""
        return asdict(self)


@dataclass(frozen=True)
class Rule(Generic[Seen]):
    """One rule.

    Attributes:
        name: unique; with hyphens.
        severity: one of ``SEVERITIES``.
        sentence: what is wrong; details stand in braces. A file's name is put in front of it.
        remedy: what to do.
        find: looks at what the rule is about and yields a hit for every case; by default nothing
            is found, as with rules about reading itself.
    """

    name: str
    severity: str
    sentence: str
    remedy: str
    find: Callable[[Seen], Iterable[Hit]] = nowhere

    def finding(self, hit: Hit, place: Place) -> Finding:
        """The finding of one hit."""
        where, details = hit.place or place, hit.details
        return Finding(
            rule=self.name,
            severity=self.severity,
            site=where.site,
            subject=where.subject,
            file=where.file,
            sentence=self.sentence.format(**details),
            remedy=self.remedy.format(**details),
        )


def case_if(condition: object, **details: object) -> list[Hit]:
    """One hit if the condition holds, otherwise none."""
    return [Hit(details)] if condition else []


def apply(rules: Iterable[Rule[Seen]], seen: Seen, place: Place) -> list[Finding]:
    """What the rules find."""
    return [rule.finding(hit, place) for rule in rules for hit in rule.find(seen)]


def errors_in(findings: Iterable[Finding]) -> list[Finding]:
    """The findings that make the data unusable."""
    return [finding for finding in findings if finding.severity == ERROR]


def refuse(findings: Iterable[Finding]) -> None:
    """Refuse the data if one of the findings is an error.

    Raises:
        DataError: the first error, and how many more there are.
    """
    errors = errors_in(findings)
    if errors:
        raise DataError(errors[0].text() + _more(errors[1:]))


def _more(others: Sequence[Finding]) -> str:
    if not others:
        return ""
    count = f"{len(others)} more error{'s' if len(others) > 1 else ''}"
    return f" (and {count}: 'fedi2i data check --voxels' lists them)"
