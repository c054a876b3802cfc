"""DICOM folders of one's own: series become NIfTI files in the site folder, patients get new names.

Which series is which sequence is said by rules and never guessed (`partitions.dicom.choice`).
"""

from __future__ import annotations

import argparse
import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedi2i.errors import ConfigError, DataError
from fedi2i.site_names import check_site_name
from partitions.dicom.choice import EXAMPLE, SeriesRule, choose_series, listed, read_rule
from partitions.dicom.conversion import convert_subject
from partitions.dicom.folder import read_folder
from partitions.dicom.groups import Group, group
from partitions.dicom.metadata import pseudonym, site_key
from partitions.layouts.found_scans import Found, FoundScan, Recognised
from partitions.manifest import PATIENT_ID, SiteManifest, SubjectRecord
from partitions.readers import Reader
from partitions.site_folders import TO_BE_DRAWN, write_site_folders

logger = logging.getLogger(__name__)

MOST_LISTED = 20


@dataclass(frozen=True)
class DicomImport:
    """What is asked for.

    Attributes:
        source: a folder with the files of any number of patients.
        out: the site folder is made here.
        dataset: the data set's name, as jobs will call it.
        site: the site's name.
        rules: which series is which sequence.
        seed: of the split by patient.
        largest: whether the series with most slices is taken where several fit.
        straighten: whether tilted stacks are resampled.
        allow_synthetic: whether series that a program made up are taken.
    """

    source: Path
    out: Path
    dataset: str
    site: str
    rules: tuple[SeriesRule, ...]
    seed: int
    largest: bool = False
    straighten: bool = False
    allow_synthetic: bool = False

    @property
    def root(self) -> Path:
        """The site folder."""
        return self.out / self.site


def import_dicom(wanted: DicomImport) -> tuple[SiteManifest, ...]:
    """Convert every study of every patient and write the site's manifest.

    A subject is a study, called by the keyed hashes of PatientID and study; the key lies in the
    site folder and stays there. A study that cannot be used is named in the log and left out.

    Raises:
        DataError: the folder is missing, or no study can be used; no manifest is written then.
        ConfigError: no rule says which series is which sequence.
    """
    check_site_name(wanted.site, "--site")
    found = read_folder(wanted.source)
    if found.left_out:
        logger.warning("%s: files left out: %s", wanted.source, found.left_out_text())
    groups = group(found.slices)
    if not wanted.rules:
        raise ConfigError(_ask(wanted.source, groups))
    records, problems = [], []
    for study in _with_bar(_studies(groups)):
        try:
            records.append(_import_study(study, wanted))
        except (DataError, MemoryError) as problem:
            problems.append(_problem(study, problem))
            logger.warning("left out: %s", problems[-1])
    if not records:
        reason = problems[0] if problems else "it holds no DICOM series"
        raise DataError(f"{wanted.source}: no study can be used; the first: {reason}")
    return write_site_folders(wanted.out, wanted.dataset, records, wanted.seed)


def _problem(study: Sequence[Group], error: Exception) -> str:
    if isinstance(error, MemoryError):
        return (
            f"{study[0].first.path.parent}: memory ran out; close other programs, or look whether "
            "its pictures are as large as they should be"
        )
    return str(error)


def recognise(source: Path) -> Recognised | None:
    """What a folder of DICOM files holds: a subject per study, its volumes numbered."""
    found = read_folder(source)
    scans = []
    for study in _studies(group(found.slices)):
        volumes = [one for one in study if one.is_volume]
        files = {f"volume {n}": one.first.path for n, one in enumerate(volumes, start=1)}
        first = study[0].first
        if files:
            scans.append(FoundScan(first.study, first.patient, "this site", files))
    if not scans:
        return None
    problems = (f"files left out: {found.left_out_text()}",) if found.left_out else ()
    arguments = ("--source", str(source), "--dataset", "house", "--site", "here", "--out", "data")
    return Recognised(Found(tuple(scans), problems), arguments)


def _import_study(study: Sequence[Group], wanted: DicomImport) -> SubjectRecord:
    first = study[0].first
    if not first.patient:
        raise DataError(f"{first.path}: has no PatientID, so nobody knows whose it is")
    chosen = choose_series(wanted.rules, study, wanted.largest)
    if not chosen:
        raise DataError(f"{first.path.parent}: no series fits a rule of --series: {listed(study)}")
    key = site_key(wanted.root)
    patient = pseudonym(key, first.patient)
    subject = f"{patient}-{pseudonym(key, first.study)[:6]}"
    files, metadata = convert_subject(
        chosen, wanted.root, subject, patient, wanted.straighten, wanted.allow_synthetic
    )
    return SubjectRecord(
        subject=subject,
        site=wanted.site,
        split=TO_BE_DRAWN,
        files=files,
        metadata={**metadata, PATIENT_ID: patient},
    )


def _studies(groups: Sequence[Group]) -> list[list[Group]]:
    """The groups of each study of each patient."""
    studies: dict[tuple[str, str], list[Group]] = defaultdict(list)
    for one in groups:
        studies[one.first.patient, one.first.study].append(one)
    return list(studies.values())


def _ask(source: Path, groups: Sequence[Group]) -> str:
    volumes = [one for one in groups if one.is_volume]
    more = f"; and {len(volumes) - MOST_LISTED} more" if len(volumes) > MOST_LISTED else ""
    found = listed(volumes[:MOST_LISTED]) or "none"
    return (
        f"--series: say which series is which sequence, as in {EXAMPLE}; "
        f"{source} holds: {found}{more}"
    )


def _with_bar(studies: Sequence[Sequence[Group]]) -> Iterator[Sequence[Group]]:
    from tqdm import tqdm

    bar: Iterator[Sequence[Group]] = tqdm(studies, desc="converting", unit="study", disable=None)
    return bar


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--source", type=Path, required=True, help="a folder of DICOM files")
    parser.add_argument("--dataset", required=True, help="the data set's name, as jobs call it")
    parser.add_argument("--site", required=True, help="this site's name")
    parser.add_argument(
        "--series",
        action="append",
        default=[],
        metavar="NAME=RULE",
        help=f"which series is a sequence: {EXAMPLE}; without it the series are listed",
    )
    parser.add_argument(
        "--largest", action="store_true", help="where several series fit, take that of most slices"
    )
    parser.add_argument(
        "--straighten", action="store_true", help="resample stacks that the gantry tilted"
    )
    parser.add_argument(
        "--allow-synthetic", action="store_true", help="take series that a program made up"
    )


def _bring_in(options: argparse.Namespace) -> tuple[SiteManifest, ...]:
    wanted = DicomImport(
        source=options.source,
        out=options.out,
        dataset=options.dataset,
        site=options.site,
        rules=tuple(map(read_rule, options.series)),
        seed=options.seed,
        largest=options.largest,
        straighten=options.straighten,
        allow_synthetic=options.allow_synthetic,
    )
    return import_dicom(wanted)


READER = Reader(
    help="a folder of DICOM series, converted to NIfTI in the site folder",
    add_options=_add_options,
    bring_in=_bring_in,
    layout="DICOM series of one's own",
    recognise=recognise,
    general=True,
)
