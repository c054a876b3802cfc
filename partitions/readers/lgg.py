"""TCGA-LGG brain MRI in the layout of the public "kaggle_3m" folder; a site is a hospital.

Buda, Saha, Mazurowski, "Association of genomic subtypes of lower-grade gliomas with shape features
automatically extracted by a deep learning algorithm", Computers in Biology and Medicine 109, 2019,
doi:10.1016/j.compbiomed.2019.05.002. Scans: TCIA, collection TCGA-LGG.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

from partitions import voxel_size
from partitions.manifest import SPLITS, SiteManifest, SubjectRecord, check_partition, write_manifest
from partitions.readers.lgg_nifti import write_stack
from partitions.readers.lgg_patients import read_patients
from partitions.readers.lgg_stack import SEQUENCES, PatientFolder, find_patients, read_stack
from partitions.splitting import FRACTIONS, split_by_completeness

logger = logging.getLogger(__name__)
DATASET = "lgg"


def import_lgg(
    source: Path, out: Path, seed: int, fractions: tuple[float, float, float] = FRACTIONS
) -> tuple[SiteManifest, ...]:
    """Convert the TIFF slices to NIfTI volumes and write one manifest per hospital.

    The files state no voxel size. None is invented: the NIfTI unit is "unknown", the pixel grid
    is kept, and the subject's metadata say ``voxel_size: unknown``. A sequence that is a copy of
    another one was never acquired; it is left out and named in ``missing_sequences``.

    Args:
        source: the folder ``kaggle_3m``.
        out: becomes ``<out>/<SITE>/manifest.json`` with ``<out>/<SITE>/<subject>/t1.nii.gz`` ...
        seed: of the split by patient within each hospital.
        fractions: parts of train, val and test.

    Raises:
        DataError: the folder is missing, has another layout, or a slice is damaged; no manifest
            is written then.
    """
    folders = find_patients(source)
    patients = read_patients(source / "data.csv")
    manifests = []
    for site, group in groupby(folders, key=lambda folder: folder.site):
        root = out / site
        records = [_import_subject(folder, root, patients) for folder in group]
        subjects = _with_splits(records, seed, fractions)
        manifests.append(SiteManifest(DATASET, site, subjects, root, split_seed=seed))
    check_partition(manifests)
    for manifest in manifests:
        write_manifest(manifest)
    return tuple(manifests)


def _with_splits(
    records: Sequence[SubjectRecord], seed: int, fractions: tuple[float, float, float]
) -> tuple[SubjectRecord, ...]:
    sequences: dict[str, frozenset[str]] = {}
    for record in records:
        patient, names = record.metadata["patient_id"], frozenset(record.files)
        sequences[patient] = sequences.get(patient, names) & names
    splits = split_by_completeness(sequences, seed, fractions)
    return tuple(replace(record, split=splits[record.metadata["patient_id"]]) for record in records)


def _import_subject(
    folder: PatientFolder, root: Path, patients: dict[str, dict[str, Any]]
) -> SubjectRecord:
    stack = read_stack(folder)
    missing = stack.missing_sequences()
    files = {}
    for name in SEQUENCES:
        if name not in missing:
            files[name] = f"{folder.subject}/{name}.nii.gz"
            write_stack(root / files[name], stack.images[name])
    lesion = f"{folder.subject}/lesion.nii.gz"
    write_stack(root / lesion, stack.lesion)
    metadata: dict[str, Any] = {
        **patients.get(folder.patient, {}),
        "patient_id": folder.patient,
        voxel_size.KEY: voxel_size.UNKNOWN,
    }
    if missing:
        metadata["missing_sequences"] = list(missing)
        logger.warning(
            "%s: no %s (a copy stands in its place)", folder.subject, " and no ".join(missing)
        )
    return SubjectRecord(
        subject=folder.subject,
        site=folder.site,
        split=SPLITS[0],
        files=files,
        lesion_mask=lesion,
        metadata=metadata,
    )
