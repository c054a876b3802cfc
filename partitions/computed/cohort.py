"""Write a computed cohort: several sites, one folder and one manifest each.

``<out>/<site>/<subject>/{t1,t2,flair,mask,lesion}.nii.gz`` and ``<out>/<site>/manifest.json`` (CT
tasks have other sequences);
``<out>/cohort.json`` says which cohort the folder holds and, once all is written, that it is whole.
"""

from __future__ import annotations

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
from partitions.computed.ct.tasks import TASKS, Task
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

COHORT_VERSION = 1
"""Raised whenever the same parameters would give other voxels."""


def write_cohort(
    out: Path,
    seed: int = 2026,
    size: str = "demo",
    workers: int | None = None,
    task: str = "mr",
) -> tuple[SiteManifest, ...]:
    """Compute and write a cohort, or recognise that it is there already.

    Interrupted work resumes at the first incomplete subject. The voxels depend on ``task`` and
    ``seed`` alone, not on ``workers``; nor on ``size``, but that the smoke sizes of the CT tasks
    have larger voxels and fewer views.

    Args:
        out: an empty or absent folder, or one that holds this same cohort.
        seed: seed of the whole cohort, at least 0.
        size: ``demo`` or ``smoke`` (fewer subjects of the same sites).
        workers: processes to use, at least 1; by default one per available processor.
        task: which cohort, one of `TASKS`.

    Returns:
        The site manifests, in the order of the task's profiles.

    Raises:
        ConfigError: an unknown task or size, a negative seed or less than one worker.
        DataError: the folder holds something else.
    """
    if seed < 0:
        raise ConfigError(f"seed: {seed} is negative; give a whole number of at least 0")
    if workers is not None and workers < 1:
        raise ConfigError(f"workers: {workers} is less than 1; give at least one process")
    planned = plan_cohort(seed, size, task)
    note = _note(seed, size, task)
    finished = _claim(out, note)
    missing = [subject for subject in planned if read_record(out, subject) is None]
    kind = TASKS[task]
    if finished and not missing:
        return tuple(read_manifest(out / site.site, site.site) for site in kind.sites(size))
    _write_note(out, note, finished=False)
    _compute(out, missing, workers or available_cores())
    manifests = _write_manifests(out, planned, seed, kind)
    _write_note(out, note, finished=True)
    return manifests


def plan_cohort(seed: int, size: str, task: str = "mr") -> tuple[PlannedSubject, ...]:
    """All subjects of a cohort, in order.

    Args:
        seed: seed of the whole cohort, at least 0.
        size: ``demo`` or ``smoke``; a name and a seed mean the same subject in both.
        task: which cohort, one of `TASKS`.

    Raises:
        ConfigError: an unknown task or size.
    """
    kind = TASKS[choose(task, TASKS, "task")]
    counts = kind.sizes[choose(size, kind.sizes, "size")]
    planned: list[PlannedSubject] = []
    for number, profile in enumerate(kind.sites(size)):
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
                task=task,
            )
            for index, split in enumerate(order.permutation(splits), start=1)
        )
    return tuple(planned)


def cohort_key(seed: int, size: str, task: str = "mr") -> str:
    """SHA-256 over everything that decides the cohort's voxels and splits."""
    kind = TASKS[choose(task, TASKS, "task")]
    choose(size, kind.sizes, "size")
    return digest({"version": COHORT_VERSION, "seed": seed, "size": size, **kind.key_content(size)})


def _note(seed: int, size: str, task: str) -> dict[str, Any]:
    """What the folder's note says of the cohort; the MR cohort's has no task, as ever."""
    note = {
        "version": COHORT_VERSION,
        "seed": seed,
        "size": size,
        "key": cohort_key(seed, size, task),
    }
    return note if task == "mr" else {"task": task, **note}


def _claim(out: Path, expected: dict[str, Any]) -> bool:
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
    if content.get("key") != expected["key"]:
        raise DataError(
            f"{out}: holds another computed cohort ({_described(content)}), not "
            f"{_described(expected)}; name another folder or delete this one"
        )
    return content.get("finished") is True


def _described(note: dict[str, Any]) -> str:
    task = f"task {note['task']}, " if "task" in note else ""
    return f"{task}seed {note.get('seed')}, size {note.get('size')}, version {note.get('version')}"


def _read_note(note: Path) -> dict[str, Any]:
    try:
        content = json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{note}: cannot be read as JSON ({error}); delete the folder") from error
    if not isinstance(content, dict):
        raise DataError(f"{note}: expected a JSON object; delete the folder")
    return content


def _write_note(out: Path, note: dict[str, Any], finished: bool) -> None:
    content = {"computed": True, "finished": finished, **note}
    write_text(out / COHORT_FILE, json.dumps(content, indent=1) + "\n")


def _compute(out: Path, missing: Sequence[PlannedSubject], workers: int) -> None:
    done = side_by_side(partial(_write_subject, out), missing, workers)
    for _ in tqdm(
        done, total=len(missing), desc="computing subjects", unit="subject", disable=not missing
    ):
        pass


def _write_subject(out: Path, planned: PlannedSubject) -> None:
    # Importable by the processes; each of them loads the atlas once.
    write_subject(out, planned)


def _write_manifests(
    out: Path, planned: Iterable[PlannedSubject], seed: int, task: Task
) -> tuple[SiteManifest, ...]:
    records: dict[str, list[SubjectRecord]] = {profile.site: [] for profile in task.profiles}
    for subject in planned:
        record = read_record(out, subject)
        if record is None:
            raise DataError(
                f"{out}: subject '{subject.name}' vanished while the cohort was written"
            )
        records[record.site].append(record)
    manifests = tuple(
        SiteManifest(
            dataset=task.dataset,
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
