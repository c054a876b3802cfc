"""Write the computed cohort: five hospitals, one folder and one manifest each.

``<out>/<site>/<subject>/{t1,t2,flair,mask,lesion}.nii.gz`` and ``<out>/<site>/manifest.json``;
``<out>/cohort.json`` says which cohort the folder holds and, once all is written, that it is whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from joblib import Parallel, delayed, parallel_config
from tqdm import tqdm

from fedi2i.cores import available_cores
from fedi2i.errors import ConfigError, DataError
from fedi2i.files import write_text
from partitions.computed.hospitals import HOSPITALS
from partitions.computed.plan import COHORT_VERSION, PlannedSubject, cohort_key, plan_cohort
from partitions.computed.subject_folder import read_record, write_subject
from partitions.manifest import SiteManifest, SubjectRecord, read_manifest, write_manifest

COHORT_FILE = "cohort.json"
DATASET = "demo"


def write_cohort(
    out: Path, seed: int = 2026, size: str = "demo", workers: int | None = None
) -> tuple[SiteManifest, ...]:
    """Compute and write a cohort, or recognise that it is there already.

    Interrupted work resumes at the first incomplete subject. The voxels depend on ``seed`` alone,
    not on ``workers`` or ``size``.

    Args:
        out: an empty or absent folder, or one that holds this same cohort.
        seed: seed of the whole cohort, at least 0.
        size: ``demo`` (64 subjects) or ``smoke`` (19 subjects, same hospitals).
        workers: processes to use, at least 1; by default one per available processor.

    Returns:
        The five site manifests, in the order of :data:`~partitions.computed.hospitals.HOSPITALS`.

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
        return tuple(read_manifest(out / hospital.site, hospital.site) for hospital in HOSPITALS)
    _write_note(out, key, seed, size, finished=False)
    _compute(out, missing, workers or available_cores())
    manifests = _write_manifests(out, planned, seed)
    _write_note(out, key, seed, size, finished=True)
    return manifests


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


def _compute(out: Path, missing: list[PlannedSubject], workers: int) -> None:
    if not missing:
        return
    # scipy and nilearn load slowly, and a finished cohort needs neither.
    from partitions.computed.atlas import load_atlas

    atlas = load_atlas()
    with parallel_config(backend="loky", inner_max_num_threads=1):
        # joblib shares the atlas between processes as memory-mapped files.
        done: Iterable[Any] = Parallel(
            n_jobs=min(workers, len(missing)), return_as="generator_unordered"
        )(delayed(write_subject)(out, subject, atlas) for subject in missing)
        for _ in tqdm(done, total=len(missing), desc="computing subjects", unit="subject"):
            pass


def _write_manifests(
    out: Path, planned: Iterable[PlannedSubject], seed: int
) -> tuple[SiteManifest, ...]:
    records: dict[str, list[SubjectRecord]] = {hospital.site: [] for hospital in HOSPITALS}
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
