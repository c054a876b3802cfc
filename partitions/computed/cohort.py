"""Write the computed cohort: five sites, one folder and one manifest each.

``<out>/<site>/<subject>/{t1,t2,flair,mask,lesion}.nii.gz`` and ``<out>/<site>/manifest.json``;
``<out>/cohort.json`` says which cohort the folder holds and, once all is written, that it is whole.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from fedi2i.cores import available_cores
from fedi2i.digest import digest
from fedi2i.errors import ConfigError, DataError
from fedi2i.files import write_text
from fedi2i.typed_config import choose
from partitions.computed import tissues
from partitions.computed.atlas import load_atlas
from partitions.computed.site_profiles import PROFILES
from partitions.computed.subject import PlannedSubject
from partitions.computed.subject_folder import read_record, write_subject
from partitions.manifest import (
    SPLITS,
    SiteManifest,
    SubjectRecord,
    read_manifest,
    write_manifest,
)
from partitions.processes import side_by_side

COHORT_FILE = "cohort.json"
DATASET = "demo"

COHORT_VERSION = 1
"""Raised whenever the same parameters would give other voxels."""

SIZES: dict[str, dict[str, tuple[int, int, int]]] = {
    "demo": {
        "north": (16, 3, 5),
        "east": (10, 2, 4),
        "south": (6, 2, 2),
        "west": (3, 1, 2),
        "island": (0, 0, 8),
    },
    "smoke": {
        "north": (3, 1, 1),
        "east": (2, 1, 1),
        "south": (2, 1, 1),
        "west": (1, 1, 1),
        "island": (0, 0, 3),
    },
}
"""Subjects in train, val and test at each site."""


def write_cohort(
    out: Path, seed: int = 2026, size: str = "demo", workers: int | None = None
) -> tuple[SiteManifest, ...]:
    """Compute and write a cohort, or recognise that it is there already.

    Interrupted work resumes at the first incomplete subject. The voxels depend on ``seed`` alone,
    not on ``workers`` or ``size``.

    Args:
        out: an empty or absent folder, or one that holds this same cohort.
        seed: seed of the whole cohort, at least 0.
        size: ``demo`` (64 subjects) or ``smoke`` (19 subjects, same sites).
        workers: processes to use, at least 1; by default one per available processor.

    Returns:
        The five site manifests, in the order of `PROFILES`.

    Raises:
        ConfigError: an unknown size, a negative seed or less than one worker.
        DataError: the folder holds something else.
    """
    if seed < 0:
        raise ConfigError(f"seed: {seed} is negative; give a whole number of at least 0")
    if workers is not None and workers < 1:
        raise ConfigError(f"workers: {workers} is less than 1; give at least one process")
    planned = plan_cohort(seed, size)
    key = cohort_key(seed, size)
    finished = _claim(out, key, seed, size)
    missing = [subject for subject in planned if read_record(out, subject) is None]
    if finished and not missing:
        return tuple(read_manifest(out / profile.site, profile.site) for profile in PROFILES)
    _write_note(out, key, seed, size, finished=False)
    _compute(out, missing, workers or available_cores())
    manifests = _write_manifests(out, planned, seed)
    _write_note(out, key, seed, size, finished=True)
    return manifests


def plan_cohort(seed: int, size: str) -> tuple[PlannedSubject, ...]:
    """All subjects of a cohort, in order.

    Args:
        seed: seed of the whole cohort, at least 0.
        size: ``demo`` or ``smoke``; a name and a seed mean the same subject in both.

    Raises:
        ConfigError: an unknown size.
    """
    counts = SIZES[choose(size, SIZES, "size")]
    planned: list[PlannedSubject] = []
    for number, profile in enumerate(PROFILES):
        splits = np.repeat(SPLITS, counts[profile.site])
        # Spawn key 0 shuffles the splits, so subjects count from 1.
        order = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number, 0)))
        planned.extend(
            PlannedSubject(
                name=f"{profile.site}-{index:03d}",
                profile=profile,
                split=str(split),
                entropy=seed,
                spawn_key=(number, index),
            )
            for index, split in enumerate(order.permutation(splits), start=1)
        )
    return tuple(planned)


def cohort_key(seed: int, size: str) -> str:
    """SHA-256 over everything that decides the cohort's voxels and splits."""
    content = {
        "version": COHORT_VERSION,
        "seed": seed,
        "size": size,
        "counts": SIZES[choose(size, SIZES, "size")],
        # The key that earlier versions wrote: their cohorts are recognised.
        "hospitals": [dataclasses.asdict(profile) for profile in PROFILES],
        "tissues": {
            f"{field:g}": {name: dataclasses.asdict(tissue) for name, tissue in table.items()}
            for field, table in tissues.BY_FIELD.items()
        },
    }
    return digest(content)


def _claim(out: Path, key: str, seed: int, size: str) -> bool:
    """Whether the folder holds this cohort, finished; refuse a folder that holds anything else."""
    if not out.exists():
        return False
    if not out.is_dir():
        raise DataError(f"{out}: is a file; name a folder for the computed cohort")
    note = out / COHORT_FILE
    if not note.is_file():
        if any(not path.name.startswith(".writing-") for path in out.iterdir()):
            raise DataError(
                f"{out}: is not empty and holds no computed cohort; name another folder"
            )
        return False
    content = _read_note(note)
    if content.get("key") != key:
        raise DataError(
            f"{out}: holds another computed cohort (seed {content.get('seed')}, size "
            f"{content.get('size')}, version {content.get('version')}), not seed {seed}, size "
            f"{size}, version {COHORT_VERSION}; name another folder or delete this one"
        )
    return content.get("finished") is True


def _read_note(note: Path) -> dict[str, Any]:
    try:
        content = json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{note}: cannot be read as JSON ({error}); delete the folder") from error
    if not isinstance(content, dict):
        raise DataError(f"{note}: expected a JSON object; delete the folder")
    return content


def _write_note(out: Path, key: str, seed: int, size: str, finished: bool) -> None:
    content = {
        "computed": True,
        "finished": finished,
        "version": COHORT_VERSION,
        "seed": seed,
        "size": size,
        "key": key,
    }
    write_text(out / COHORT_FILE, json.dumps(content, indent=1) + "\n")


def _compute(out: Path, missing: Sequence[PlannedSubject], workers: int) -> None:
    done = side_by_side(partial(_write_subject, out), missing, workers)
    for _ in tqdm(
        done, total=len(missing), desc="computing subjects", unit="subject", disable=not missing
    ):
        pass


def _write_subject(out: Path, planned: PlannedSubject) -> None:
    # Every process loads the atlas once.
    write_subject(out, planned, load_atlas())


def _write_manifests(
    out: Path, planned: Iterable[PlannedSubject], seed: int
) -> tuple[SiteManifest, ...]:
    records: dict[str, list[SubjectRecord]] = {profile.site: [] for profile in PROFILES}
    for subject in planned:
        record = read_record(out, subject)
        if record is None:
            raise DataError(
                f"{out}: subject '{subject.name}' vanished while the cohort was written"
            )
        records[record.site].append(record)
    manifests = tuple(
        SiteManifest(
            dataset=DATASET,
            site=site,
            subjects=tuple(subjects),
            root=out / site,
            computed=True,
            split_seed=seed,
        )
        for site, subjects in records.items()
    )
    for manifest in manifests:
        write_manifest(manifest)
    return manifests
