"""Rules about several subjects and sites: what their manifests say, and copies of one scan."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from partitions.check.finding import ERROR, NOTE, WARNING, Hit, Place, Rule
from partitions.check.scans import shown_path
from partitions.manifest import ORIGIN_SITE, SiteManifest, SubjectRecord, split_counts

Manifests = Sequence[SiteManifest]

MOST_SESSIONS = 12
"""More subjects whose names begin alike are no sessions of one patient."""

_SESSION = re.compile(
    r"(?P<patient>.*?BraTS-[A-Za-z]+-\d{5})-\d{3}"
    r"|(?P<bids>.*?sub-[A-Za-z0-9]+)_ses-?[A-Za-z0-9]+.*"
    r"|(?P<oasis>OAS\d{5})_\w*d\d+.*"
)
"""Names of scans of one patient in public data sets."""
_LAST_PART = re.compile(r"(?P<patient>.*\d.*)[-_](?:[A-Za-z]{0,8}\d{1,8})")
"""Any other name that ends in a number, after a part with a number in it."""
_PERSONAL = re.compile(
    r"(?:^|_)(?:name|names|surname|vorname|nachname|nom|prenom|dob|birth\w*|born|geburt\w*|address"
    r"|street|phone|email|mrn|ssn|insurance\w*)(?:$|_)"
    r"|(?:patient|first|last|family|given)_?name|birth_?da(?:te|y)|date_?of_?birth"
)


@dataclass(frozen=True)
class HeldScan:
    """An image that a site holds.

    Attributes:
        record: the subject.
        name: the sequence.
        file: its path, for messages.
        key: equal for copies.
        kind: what is equal then: ``file``, ``bytes`` or ``voxels``.
    """

    record: SubjectRecord
    name: str
    file: str
    key: str
    kind: str


def is_personal(name: str) -> bool:
    """Whether a column's name says that it holds names, birth dates, addresses or the like."""
    plain = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name)
    return bool(_PERSONAL.search(re.sub(r"[^a-z0-9]+", "_", plain.lower())))


def _other_data_set(manifests: Manifests) -> list[Hit]:
    first = manifests[0]
    return [
        Hit(
            {"dataset": manifest.dataset, "other": first.root, "first": first.dataset},
            Place(manifest.site, file=str(manifest.root)),
        )
        for manifest in manifests
        if manifest.dataset != first.dataset
    ]


def _site_twice(manifests: Manifests) -> list[Hit]:
    seen: dict[str, SiteManifest] = {}
    hits = []
    for manifest in manifests:
        other = seen.setdefault(manifest.site, manifest)
        if other is not manifest:
            details = {"site": manifest.site, "other": other.root}
            hits.append(Hit(details, Place(manifest.site, file=str(manifest.root))))
    return hits


def _patient_in_two_splits(manifests: Manifests) -> list[Hit]:
    first: dict[tuple[str, str], SubjectRecord] = {}
    hits = []
    for record in _records(manifests):
        other = first.setdefault((record.site, record.patient), record)
        if other.split != record.split:
            details = {
                "patient": record.patient,
                "site": record.site,
                "split": other.split,
                "subject": other.subject,
                "other": record.split,
                "second": record.subject,
            }
            hits.append(Hit(details, Place(record.site, record.subject)))
    return hits


def _sessions(manifests: Manifests) -> Iterator[Hit]:
    for manifest in manifests:
        for patient, records in _alike(manifest).items():
            persons = {record.patient for record in records}
            if len(persons) > 1:
                names = [record.subject for record in records]
                splits = sorted({record.split for record in records})
                yield Hit(
                    {
                        "subjects": f"'{names[0]}' and '{names[1]}'",
                        "more": f" and {len(names) - 2} more" if len(names) > 2 else "",
                        "patient": patient,
                        "splits": f"in {', '.join(splits)}",
                    },
                    Place(manifest.site, names[0]),
                )


def _alike(manifest: SiteManifest) -> dict[str, list[SubjectRecord]]:
    """Subjects of a site whose names look like sessions of one patient, by the patient's name."""
    certain: dict[str, list[SubjectRecord]] = defaultdict(list)
    likely: dict[str, list[SubjectRecord]] = defaultdict(list)
    for record in manifest.subjects:
        known, other = _SESSION.fullmatch(record.subject), _LAST_PART.fullmatch(record.subject)
        if known:
            certain[next(name for name in known.groups() if name)].append(record)
        elif other and not _is_site(other.group("patient"), record):
            likely[other.group("patient")].append(record)
    sizes = [len(records) for records in likely.values()]
    if len(sizes) < 2 or max(sizes) > MOST_SESSIONS:
        likely.clear()
    found = {**certain, **likely}
    return {patient: records for patient, records in found.items() if len(records) > 1}


def _is_site(name: str, record: SubjectRecord) -> bool:
    """Whether a name is the site's own, or that of the site from which a division took the scan.

    A division puts that site's name in front where two sites have a subject of one name.
    """
    origin = str(record.metadata.get(ORIGIN_SITE, record.site)).lower()
    return name.lower() in (record.site.lower(), origin, f"{origin}_{origin}")


def _personal_metadata(manifests: Manifests) -> Iterator[Hit]:
    for manifest in manifests:
        keys = {key for record in manifest.subjects for key in record.metadata if is_personal(key)}
        for key in sorted(keys):
            yield Hit({"key": key}, Place(manifest.site, file=str(manifest.root)))


def _nobody_to_test(manifests: Manifests) -> list[Hit]:
    return [
        Hit({"site": manifest.site}, Place(manifest.site))
        for manifest in manifests
        if not split_counts(manifest)["test"]
    ]


def _copies(scans: Sequence[HeldScan]) -> list[Hit]:
    """Images that stand for two persons, or for two sequences of one subject."""
    first: dict[str, HeldScan] = {}
    hits = []
    for scan in scans:
        other = first.setdefault(scan.key, scan)
        one, two = other.record, scan.record
        same_person = (one.site, one.patient) == (two.site, two.patient)
        one_subject = one == two and scan.kind == "bytes" and scan.file != other.file
        if other is scan or (same_person and not one_subject):
            continue  # other rules see to one file of a subject and to a patient in two splits
        details = {
            "kind": "is the same file as"
            if scan.kind == "file"
            else f"has the same {scan.kind} as",
            "other": shown_path(Path(other.file)),
            "first": f"'{other.name}' of subject '{one.subject}', site '{one.site}', split "
            f"'{one.split}'",
            "second": f"'{scan.name}' of subject '{two.subject}', site '{two.site}', split "
            f"'{two.split}'",
        }
        hits.append(Hit(details, Place(two.site, two.subject, shown_path(Path(scan.file)))))
    return hits


def _records(manifests: Manifests) -> Iterator[SubjectRecord]:
    for manifest in manifests:
        yield from manifest.subjects


RULES: tuple[Rule[Manifests], ...] = (
    Rule(
        "manifest",
        ERROR,
        "{reason}",
        "the other sites were checked without it",
    ),
    Rule(
        "withdrawn-site",
        NOTE,
        "holds a site that the last import did not have, and is not counted",
        "delete the folder, or rename {name} to manifest.json to count the site again",
    ),
    Rule(
        "process-killed",
        ERROR,
        "{reason}; {unread} of {all} subjects were not read",
        "close other programs or give fewer --workers",
    ),
    Rule(
        "other-data-set",
        ERROR,
        "belongs to data set '{dataset}', but {other} to '{first}'",
        "check one data set at a time",
        _other_data_set,
    ),
    Rule(
        "site-twice",
        ERROR,
        "site '{site}' is also in {other}",
        "remove one",
        _site_twice,
    ),
    Rule(
        "patient-in-two-splits",
        ERROR,
        "patient '{patient}' of site '{site}' is in split '{split}' (subject '{subject}') and in "
        "'{other}' (subject '{second}')",
        "keep a patient in one split",
        _patient_in_two_splits,
    ),
    Rule(
        "sessions",
        WARNING,
        "subjects {subjects}{more} look like sessions of one patient, '{patient}', but count as "
        "several, {splits}",
        "give them one patient_id if they are one person, so that the person is in one split",
        _sessions,
    ),
    Rule(
        "personal-metadata",
        WARNING,
        "its metadata have a key '{key}', which looks personal",
        "remove the key; nothing here needs it",
        _personal_metadata,
    ),
    Rule(
        "nobody-to-test",
        WARNING,
        "site '{site}' has no test patient, so that it shows no results unless it is unseen",
        "add patients, or name a test patient in the table's column 'split'",
        _nobody_to_test,
    ),
)

COPIES: tuple[Rule[Sequence[HeldScan]], ...] = (
    Rule(
        "copied-scan",
        ERROR,
        "{kind} {other}: {second}, and {first}",
        "keep one of them; two scans of one person need one patient_id",
        _copies,
    ),
)
