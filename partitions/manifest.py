"""The manifest: one typed, versioned record per subject; who holds which scans.

A *site manifest* is the file ``manifest.json`` in a site's own data folder and names that site's
subjects only. File paths are relative to the folder that holds it, so a folder can be moved.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fedi2i.digest import digest
from fedi2i.errors import DataError
from fedi2i.files import write_text
from fedi2i.typed_config import choose, record_from

VERSION = 1
FILE_NAME = "manifest.json"
SPLITS = ("train", "val", "test")

PATIENT_ID = "patient_id"
"""Key of the metadata: the person, where one person has several scans."""
MASK_VALUES = "mask_values"
"""Key of the metadata: what the values of the mask mean where it does not hold two of them, see
``partitions.scans.mask``."""
LESION_VALUES = "lesion_values"
"""As ``MASK_VALUES``, of the lesion mask."""
AGE = "age"
"""Key of the metadata: years, or ``OLDEST``."""
SUV_FACTOR = "suv_factor"
"""Key of the metadata: what the values of a PET are multiplied by to be standardised uptake values;
1 where they are such values already. A sequence's name with a ``_`` may stand in front of it."""
FRAMES_OF_REFERENCE = "frames_of_reference"
"""Key of the metadata: ``different`` where equal positions in a subject's scans are not known to be
equal places."""
ORIGIN_SITE = "origin_site"
"""Key of the metadata: the site that held the scans before they were divided anew."""
OLDEST = "90+"
"""Everybody who is 90 or older. So few are so old that the number itself can tell who it is:
HIPAA's Safe Harbor, 45 CFR 164.514(b)(2)(i)(C), takes ages over 89 as one group."""
UNKNOWN_VOXEL_SIZE = {"voxel_size": "unknown"}
"""Metadata of scans that came without a voxel size. A NIfTI header always holds three numbers in
that place, so the reader that imports such scans says it here, and nothing is invented."""


@dataclass(frozen=True)
class SubjectRecord:
    """One subject at one site.

    Attributes:
        subject: identifier, unique within the site; another site's may be called alike.
        site: the site that holds the scans.
        split: ``train``, ``val`` or ``test``.
        files: sequence name (``t1``, ``t2``, ``flair``, ``ct`` ...) to path, relative to the
            manifest's folder.
        mask: path of the head or brain mask, or None to have the foreground computed.
        lesion_mask: path of the lesion region used by metrics, or None.
        metadata: age in years (see ``OLDEST``), sex, manufacturer, field_strength in tesla ... as
            known; also ``PATIENT_ID``, ``MASK_VALUES``, ``LESION_VALUES`` and
            ``UNKNOWN_VOXEL_SIZE``, which have a meaning to the program.
    """

    subject: str
    site: str
    split: str
    files: dict[str, str]
    mask: str | None = None
    lesion_mask: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def patient(self) -> str:
        """The person; sites number theirs by themselves, so it means something within one only."""
        return str(self.metadata.get(PATIENT_ID) or self.subject)

    @property
    def has_voxel_size(self) -> bool:
        """False when the reader that imported the scans found no voxel size in them."""
        return not UNKNOWN_VOXEL_SIZE.items() <= self.metadata.items()


@dataclass(frozen=True)
class Origin:
    """The code of somebody else that wrote a manifest, see ``partitions.own_code``.

    Attributes:
        reader: dotted path, ``package.module:NAME``.
        digest: SHA-256 over all files of the package, in hexadecimal.
    """

    reader: str
    digest: str


@dataclass(frozen=True)
class DivisionRecord:
    """How a site came to be that was formed from other site folders, see ``partitions.divisions``.

    Attributes:
        rule: name of the rule.
        settings: all of the rule's settings, defaults spelled out.
        seed: of the rule's draws.
        numpy: version of numpy that drew; another one may draw otherwise.
        least: patients that every site had to have.
        tries: divisions drawn until every site had them; 1 where nothing was drawn again.
        sources: content hash of each manifest that was divided, by site.
        patients: number of patients at this site.
        share: their part of all patients who were divided among the sites.
        categories: patients at this site by what the rule looks at, where it looks at something.
        left_over: patients at no site, by the reason; the same at every site of a division.
        holds: the sequences this site was left with, where the rule takes some away; else empty.
    """

    rule: str
    settings: dict[str, Any]
    seed: int
    numpy: str
    least: int
    tries: int
    sources: dict[str, str]
    patients: int
    share: float
    categories: dict[str, int] = field(default_factory=dict)
    left_over: dict[str, int] = field(default_factory=dict)
    holds: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class SiteManifest:
    """All subjects of one site.

    Attributes:
        dataset: the data set's name, as jobs call it.
        site: the site's name.
        subjects: the records, ordered by subject.
        root: folder that relative paths start from; not part of the file.
        computed: True when the scans are computed and not acquired; shown wherever they are.
        split_seed: the seed the split was drawn with, or None when it was given.
        version: version of this file format.
        origin: a lab's own reader that found the scans; None for the readers of this program, and
            then not part of the file.
        division: how the site was formed from others; None for a site as it was brought in, and
            then not part of the file.
    """

    dataset: str
    site: str
    subjects: tuple[SubjectRecord, ...]
    root: Path
    computed: bool = False
    split_seed: int | None = None
    version: int = VERSION
    origin: Origin | None = None
    division: DivisionRecord | None = None

    def content_hash(self) -> str:
        """SHA-256 over everything but the folder, independent of the order of subjects."""
        return digest(_to_json(self))


def with_grouped_age(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata with an age of 90 or more as ``OLDEST``."""
    age = metadata.get(AGE)
    old = isinstance(age, int | float) and age >= 90
    return {**metadata, AGE: OLDEST} if old else dict(metadata)


def write_manifest(manifest: SiteManifest) -> Path:
    """Check and write ``manifest.json`` into the site's folder; return its path."""
    check_manifest(manifest)
    path = manifest.root / FILE_NAME
    content = {**_to_json(manifest), "content_hash": manifest.content_hash()}
    write_text(path, json.dumps(content, indent=1) + "\n")
    return path


def read_manifest(folder: Path, expected_site: str | None = None) -> SiteManifest:
    """Read and check the manifest of one site folder.

    Args:
        folder: the site's data folder.
        expected_site: the site that reads it; a manifest of another site is refused.

    Raises:
        DataError: the folder or manifest is missing, damaged, altered or of another site.
    """
    path = folder / FILE_NAME
    if not folder.is_dir():
        raise DataError(f"{folder}: no such data folder; prepare the data set or correct the path")
    if not path.is_file():
        raise DataError(f"{path}: missing; write it with 'fedi2i data' (see docs/data.md)")
    manifest = _from_json(_read_json(path), path)
    check_manifest(manifest, where=str(path))
    if expected_site is not None and manifest.site != expected_site:
        raise DataError(
            f"{path}: holds the data of site '{manifest.site}', but this is site "
            f"'{expected_site}'; correct this site's data mapping"
        )
    return manifest


def check_manifest(manifest: SiteManifest, where: str = "manifest") -> None:
    """Refuse a manifest that names a subject twice, another site or an unknown split.

    Raises:
        DataError: naming the subject and what is wrong.
    """
    seen: dict[str, str] = {}
    for record in manifest.subjects:
        if record.subject in seen:
            raise DataError(
                f"{where}: subject '{record.subject}' is listed twice, in splits "
                f"'{seen[record.subject]}' and '{record.split}'; a subject belongs to one split"
            )
        seen[record.subject] = record.split
        if record.split not in SPLITS:
            choose(record.split, SPLITS, f"{where}: split of subject '{record.subject}'")
        if record.site != manifest.site:
            raise DataError(
                f"{where}: subject '{record.subject}' belongs to site '{record.site}', not to "
                f"'{manifest.site}'; keep one manifest per site"
            )


def split_counts(manifest: SiteManifest) -> dict[str, int]:
    """Number of subjects per split, every split named."""
    counts = Counter(record.split for record in manifest.subjects)
    return {split: counts[split] for split in SPLITS}


def _to_json(manifest: SiteManifest) -> dict[str, Any]:
    content = asdict(manifest)
    del content["root"]
    if manifest.origin is None:
        del content["origin"]
    if manifest.division is None:
        del content["division"]
    content["subjects"] = sorted(content["subjects"], key=lambda record: str(record["subject"]))
    return content


def _from_json(content: Mapping[str, Any], path: Path) -> SiteManifest:
    if content.get("version") != VERSION:
        raise DataError(
            f"{path}: manifest version {content.get('version')!r}, this program reads {VERSION}; "
            "write it again with 'fedi2i data'"
        )
    try:
        subjects = tuple(
            record_from(SubjectRecord, record, f"{path}: subject {number}")
            for number, record in enumerate(content["subjects"])
        )
        manifest = SiteManifest(
            dataset=str(content["dataset"]),
            site=str(content["site"]),
            subjects=subjects,
            root=path.parent,
            computed=bool(content["computed"]),
            split_seed=content["split_seed"],
            origin=_origin_from(content.get("origin"), path),
            division=_division_from(content.get("division"), path),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: damaged manifest ({error}); write it again") from error
    recorded = content.get("content_hash")
    if recorded is not None and recorded != manifest.content_hash():
        raise DataError(
            f"{path}: content differs from its recorded hash; it was edited or damaged: write it "
            "again, or delete the key 'content_hash' if the edit was meant"
        )
    return manifest


def _origin_from(content: Mapping[str, Any] | None, path: Path) -> Origin | None:
    return None if content is None else record_from(Origin, content, f"{path}: origin")


def _division_from(content: Mapping[str, Any] | None, path: Path) -> DivisionRecord | None:
    return None if content is None else record_from(DivisionRecord, content, f"{path}: division")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected a JSON object")
    return content
