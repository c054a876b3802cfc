"""Translate new patients one after the other; one that fails does not stop the others."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from fedi2i import __version__
from fedi2i.errors import DataError, UserError
from lightning_modules.translation.derived_series import (
    SYNTHETIC,
    Provenance,
    check_source,
    write_series,
)
from lightning_modules.translation.new_scans import (
    NewScan,
    check_one_grid,
    read_scan,
    result_names,
    scans_of_patient,
)
from lightning_modules.translation.nifti_volume import write_volume
from lightning_modules.translation.results_folder import add_note, alone_in, check_note, note_of
from lightning_modules.translation.translator import Translator, modality_of
from lightning_modules.translation.unlike_training import (
    far_from_training,
    lacking,
    other_distances,
)
from partitions.dicom.uptake import PET, suv_factor
from partitions.manifest import SUV_FACTOR
from partitions.preparation.configuration import PreparationConfig
from partitions.preparation.grids.native_grid import to_native_grid
from partitions.preparation.intensities import LEVELS, Scale
from partitions.preparation.new_scan import PreparedSource, prepare_contrasts
from partitions.preparation.scaling import HOUNSFIELD, SUV

logger = logging.getLogger(__name__)

NIFTI = ".nii.gz"
UNCERTAINTY = "_uncertainty"
_IN_AIR = -200.0
"""HU. A CT has much below it, and an MR image nothing at all."""
_LEAST_AIR = 0.01


@dataclass(frozen=True)
class Wish:
    """What is asked of a translation.

    Attributes:
        out: folder of the results.
        as_nifti: write NIfTI for a DICOM series, too.
        uncertainty: also write how much the run's last global models disagree.
        suv_factor: what the source's values are multiplied by to be SUV; None where not needed, or
            where the headers of a DICOM series tell.
        largest: of several series in a folder, take the one with the most slices.
    """

    out: Path
    as_nifti: bool = False
    uncertainty: bool = False
    suv_factor: float | None = None
    largest: bool = False


def translate_scans(
    paths: Sequence[Path], translator: Translator, wish: Wish, progress: bool = True
) -> tuple[list[Path], dict[Path, str]]:
    """Translate scans into files of their own; those that are there already are left as they are.

    One scan is in memory at a time, and ``batch`` slices of it at the network.

    Args:
        paths: files and DICOM folders, one for each patient; see ``scans_of_patient``.
        translator: the model.
        wish: what to write, and where.
        progress: show a bar on standard error.

    Returns:
        What was written, and why a scan was not translated, by its path.

    Raises:
        DataError: two results would have one name, or another command is writing there.
        ConfigError: the model reads several contrasts, and a patient's are not told apart.
    """
    written: list[Path] = []
    refused: dict[Path, str] = {}
    config = translator.card.preparation
    patients = {path: scans_of_patient(path, config) for path in paths}
    names = result_names([next(iter(scans.values())) for scans in patients.values()], config.target)
    with alone_in(wish.out):
        for path in tqdm(paths, desc="translating", unit="scan", disable=not progress):
            try:
                files = patients[path]
                written += _translate(files, names[next(iter(files.values()))], translator, wish)
            except UserError as error:
                refused[path] = str(error)
                logger.error("%s", error)
    return written, refused


def _translate(
    files: Mapping[str, Path], name: str, translator: Translator, wish: Wish
) -> list[Path]:
    """Translate one patient, whose scans are given by domain; written as the first of them is."""
    card, path = translator.card, next(iter(files.values()))
    config = card.preparation
    is_series = path.is_dir() and not wish.as_nifti
    result = wish.out / (name if is_series else f"{name}{NIFTI}")
    if is_series:
        _check_dicom(result, translator)
    notes = [note_of(one, card.weights, wish.suv_factor) for one in files.values()]
    note = {**notes[0], "contrasts": notes} if config.further_sources else notes[0]
    if result.exists():
        check_note(result, note)
        logger.warning("%s: is there already and stays as it is; delete it to make it anew", result)
        return []
    scans = {
        domain: read_scan(one, config.sequence(domain), wish.largest)
        for domain, one in files.items()
    }
    scan = next(iter(scans.values()))
    if is_series:
        check_source(path, scan.headers)
    prepared = _prepared(files, scans, config, wish)
    source = shown = prepared.source.astype(np.float32) / np.float32(LEVELS)
    if prepared.contrasts is not None:
        shown = prepared.contrasts.astype(np.float32) / np.float32(LEVELS)
    said = [one for read in scans.values() for one in read.warnings]
    for warning in (*said, *doubts(scan, prepared, source, translator), *lacking(scans, card)):
        logger.warning("%s: %s", path, warning)
    written = []
    if wish.uncertainty:  # first, so that a result that is there is complete
        apart = translator.disagreement(shown, prepared.geometry.kept)
        written.append(_write_disagreement(wish.out / name, apart, prepared, scan, translator))
    translated = translator.translate(shown, prepared.geometry.kept)
    values = to_native_grid(translated, prepared.geometry, translator.scale)
    add_note(result, note)
    if is_series:
        read = "+".join(map(config.sequence, scans))
        return [_write_series(result, values, scan, translator, read), *written]
    return [write_translation(result, values, scan, translator), *written]


def _prepared(
    files: Mapping[str, Path],
    scans: Mapping[str, NewScan],
    config: PreparationConfig,
    wish: Wish,
) -> PreparedSource:
    """A patient's scans as the model takes them.

    Raises:
        DataError: a scan cannot be used, or they do not lie on one grid.
    """
    check_one_grid(files, scans)
    factors = {
        f"{config.sequence(domain)}_{SUV_FACTOR}": _factor(files[domain], scan, config, wish)
        for domain, scan in scans.items()
    }
    volumes = {domain: scan.volume for domain, scan in scans.items()}
    grid = next(iter(scans.values())).grid
    return prepare_contrasts(volumes, grid, config, metadata=factors)


def _factor(path: Path, scan: NewScan, config: PreparationConfig, wish: Wish) -> float | None:
    """What turns the source to SUV: as it was given, or else as a PET's headers say."""
    is_asked = wish.suv_factor is None and config.source_scaling.kind == SUV
    if not is_asked or not scan.headers or scan.modality != PET:
        return wish.suv_factor
    try:
        return suv_factor(scan.headers)
    except DataError as reason:
        raise DataError(f"{path}: cannot be turned to SUV: {reason}; give --suv-factor") from reason


def doubts(
    scan: NewScan, prepared: PreparedSource, source: NDArray[np.float32], translator: Translator
) -> list[str]:
    """What makes a translation doubtful, each with a figure where there is one.

    Args:
        scan: as it was read.
        prepared: as the model takes it.
        source: its intensities in [0, 1].
        translator: the model.
    """
    card = translator.card
    expected = modality_of(card.preparation.source, prepared.scale.unit)
    found = [_other_modality(scan, expected), other_distances(prepared.geometry, card)]
    if card.intensities is not None:
        found.append(far_from_training(source, prepared.mask > 0, card.intensities))
    return [one for one in found if one]


def _other_modality(scan: NewScan, expected: str) -> str:
    """A sentence where the header, or else the values, speak of another modality."""
    data = scan.volume.data
    air = float((data < _IN_AIR).mean())
    values = f"{air:.1%} of its voxels lie below {_IN_AIR:g} (lowest {data.min():g})"
    if scan.modality and scan.modality != expected:
        return f"its header says {scan.modality}, and the model translates {expected}; {values}"
    if expected == "MR" and air > _LEAST_AIR:
        return f"{values}: it looks like a CT, and the model translates MR"
    if expected == "CT" and air < _LEAST_AIR:
        return f"{values}: it has no air as a CT in {HOUNSFIELD} has, and the model translates CT"
    return ""


def write_translation(
    path: Path, values: NDArray[np.float32], scan: NewScan, translator: Translator
) -> Path:
    """Write a translation as NIfTI.

    Args:
        path: ends in ``.nii.gz``.
        values: on the scan's grid, axes as stored, in the target's unit.
        scan: the source.
        translator: the model.

    Returns:
        ``path``.
    """
    written = modality_of(translator.card.preparation.target, translator.scale.unit)
    words = f"{SYNTHETIC.format(written).partition(',')[0]} {translator.card.name} {__version__}"
    return write_volume(path, values, scan.grid.affine, translator.scale, words, scan.code)


def _write_series(
    folder: Path, values: NDArray[np.float32], scan: NewScan, translator: Translator, read: str
) -> Path:
    """Write a translation beside the headers of its first scan; ``read`` names what was read."""
    card, scale = translator.card, translator.scale
    written = modality_of(card.preparation.target, scale.unit)
    made = Provenance(
        modality=written,
        source=f"{scan.modality} {read}",
        target=f"{written} {card.preparation.target}",
        model=card.name,
        digest=card.weights,
    )
    return write_series(folder, scan.headers, values, scale, made)


def _check_dicom(folder: Path, translator: Translator) -> None:
    """Refuse a target that no CT or MR series can hold, before the scan is read."""
    scale = translator.scale
    written = modality_of(translator.card.preparation.target, scale.unit)
    if written == "PT":
        raise DataError(
            f"{folder}: a translated PET cannot be written as DICOM, which wants dose and time of "
            "an injection that never was; give --nifti"
        )
    if written == "CT" and scale.unit != HOUNSFIELD:
        raise DataError(f"{folder}: a CT in '{scale.unit}' is no DICOM CT; give --nifti")
    if scale.unit and scale.unit != HOUNSFIELD:
        raise DataError(
            f"{folder}: values in '{scale.unit}' would be whole numbers in a DICOM MR image; give "
            "--nifti"
        )


def _write_disagreement(
    stem: Path,
    apart: NDArray[np.float32],
    prepared: PreparedSource,
    scan: NewScan,
    translator: Translator,
) -> Path:
    """A map in the target's unit, always NIfTI: a DICOM reader would take it for an image."""
    width = translator.scale.span
    values = to_native_grid(apart, prepared.geometry, Scale(0.0, width))
    inside = float(apart[prepared.mask > 0].mean()) * width
    unit = translator.scale.unit or "thousandths of the scale"
    logger.info("%s: last rounds disagree by %.3g %s inside the mask", stem.name, inside, unit)
    path = stem.with_name(f"{stem.name}{UNCERTAINTY}{NIFTI}")
    words = f"disagreement of the last rounds of {translator.card.name}"
    return write_volume(path, values, scan.grid.affine, Scale(0.0, width), words, scan.code)


def refusal_of(refused: Mapping[Path, str], paths: Iterable[Path]) -> str:
    """One sentence about the scans that were not translated."""
    total = len(list(paths))
    first = next(iter(refused.values()))
    if len(refused) == total == 1:
        return first
    return f"{len(refused)} of {total} scans were not translated; the first: {first}"
