"""Patients whose names, numbers, birth dates and paths are words that occur nowhere else."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tiny_cohort import write_tiny_cohort

from partitions.manifest import PATIENT_ID, SubjectRecord, read_manifest, write_manifest

LOST = "lost"
"""A data set whose scans are lost at one site: what it says of that names patients and files."""
LOSER = "north"


def identifiers(site: str) -> tuple[str, ...]:
    """What identifies the patients of a site: name, number, birth date, path."""
    born = 1900 + len(site) * 7 + sum(map(ord, site)) % 7
    return (f"Doe_Jane_{site}", f"MRN4711{site}", f"{born}-03-17T{site}", f"ward7731{site}")


def plant(folder: Path) -> dict[str, Path]:
    """Write the tiny federation and its lost twin with such patients; folders by data set."""
    root = write_tiny_cohort(folder / "tiny")
    for path in sorted(root.iterdir()):
        _rename(path)
        _lose(path, folder / LOST / path.name)
    return {"tiny": root, LOST: folder / LOST}


def found_in(*roots: Path, site: str) -> set[Path]:
    """The files below some folders that hold an identifier of a site; archives are looked into."""
    words = [word.encode() for word in identifiers(site)]
    found = set()
    for root in roots:
        for path in (root, *root.rglob("*")):
            texts = [str(path.relative_to(root)).encode(), *_contents(path)]
            if any(word in text for word in words for text in texts):
                found.add(path)
    return found


def _contents(path: Path) -> Iterator[bytes]:
    if not path.is_file():
        return
    yield path.read_bytes()
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                yield name.encode()
                yield archive.read(name)


def _rename(folder: Path) -> None:
    """Give a site's subjects names and metadata that identify them."""
    manifest = read_manifest(folder)
    name, number, born, ward = identifiers(folder.name)
    subjects = []
    for index, record in enumerate(manifest.subjects):
        subject = f"{name}_{index}"
        place = folder / ward / subject
        place.parent.mkdir(exist_ok=True)
        (folder / record.subject).rename(place)
        paths = {key: f"{ward}/{subject}/{key}.nii.gz" for key in record.files}
        metadata = {**record.metadata, PATIENT_ID: f"{number}-{index}", "birth_date": born}
        renamed = SubjectRecord(subject, folder.name, record.split, paths, metadata=metadata)
        subjects.append(replace(renamed, mask=f"{ward}/{subject}/mask.nii.gz"))
    write_manifest(replace(manifest, subjects=tuple(subjects)))


def _lose(folder: Path, lost: Path) -> None:
    """The same site in the data set ``LOST``: with its manifest alone, or with all its scans."""
    if folder.name == LOSER:
        lost.mkdir(parents=True)
    else:
        shutil.copytree(folder, lost)
    write_manifest(replace(read_manifest(folder), dataset=LOST, root=lost))
