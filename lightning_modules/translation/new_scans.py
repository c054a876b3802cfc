"""The scans of new patients: files and DICOM folders, read as preparation reads them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedi2i.errors import ConfigError, DataError
from fedi2i.files import real_path
from partitions.check.finding import WARNING, refuse
from partitions.check.scans import open_scans
from partitions.check.subject import header_findings, read_voxels
from partitions.dicom.conversion import is_synthetic
from partitions.dicom.folder import FoundSlices, in_silence, read_folder
from partitions.dicom.groups import Group, group
from partitions.dicom.series import SeriesVolume, read_series
from partitions.dicom.slices import Slice, value_of_frame
from partitions.manifest import SubjectRecord
from partitions.preparation.configuration import PreparationConfig
from partitions.scans.grid import Grid, on_one_grid, to_lps, turned
from partitions.scans.volume import Volume

if TYPE_CHECKING:
    from pydicom import Dataset

_SITE = "new"
_FRAMES = ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence")
_PLACE_OF_FRAME = (
    ("PlanePositionSequence", "ImagePositionPatient"),
    ("PlaneOrientationSequence", "ImageOrientationPatient"),
    ("PixelMeasuresSequence", "PixelSpacing"),
    ("PixelMeasuresSequence", "SliceThickness"),
)


@dataclass(frozen=True)
class NewScan:
    """One scan to translate.

    Attributes:
        volume: its voxels, axes turned (LPS).
        grid: of the scan as it is stored.
        code: NIfTI's code of the space that its positions are in.
        modality: DICOM's word, or "" where the file has none.
        headers: of a DICOM series, one per slice along the stored third axis; else empty.
        warnings: what somebody should know before using the translation.
    """

    volume: Volume
    grid: Grid
    code: int = 1
    modality: str = ""
    headers: Sequence[Dataset] = ()
    warnings: tuple[str, ...] = ()


def scans_of_patient(given: Path, config: PreparationConfig) -> dict[str, Path]:
    """The scans of one patient by domain, the first contrast first.

    Args:
        given: a file or folder; where the model reads several contrasts as many as the patient has,
            written ``t1=FILE,flair=FILE``.
        config: names what the model reads.

    Raises:
        ConfigError: it is written otherwise.
    """
    if not config.further_sources:
        return {"source": given}
    domains = {name: domain for domain, name in config.contrasts.items()}
    parts = re.split(f",(?=(?:{'|'.join(map(re.escape, domains))})=)", str(given))
    pairs = [part.partition("=") for part in parts]
    names = [name for name, _, path in pairs if name in domains and path]
    if len(names) != len(parts) or len({*names}) != len(names):
        raise ConfigError(
            f"{given}: the model reads {', '.join(domains)}; write as many of them as the patient "
            f"has, such as {','.join(f'{name}=FILE' for name in domains)}"
        )
    found = {domains[name]: Path(path) for name, _, path in pairs}
    return {domain: found[domain] for domain in config.contrasts if domain in found}


def check_one_grid(files: Mapping[str, Path], scans: Mapping[str, NewScan]) -> None:
    """Refuse scans of one patient that do not lie on the voxel grid of the first.

    Args:
        files: by domain, for the message.
        scans: what was read of them.

    Raises:
        DataError: naming the first that does not.
    """
    first, *others = scans
    for domain in others:
        if not on_one_grid(scans[first].volume.grid(), scans[domain].volume.grid()):
            raise DataError(
                f"{files[domain]}: does not lie on the voxel grid of {files[first]}, and contrasts "
                "are read voxel by voxel; resample it to that grid first"
            )


def result_names(paths: Sequence[Path], target: str) -> dict[Path, str]:
    """What the result of each scan is called, without an ending.

    Scans of one name in different folders get the folder's name in front.

    Args:
        paths: files and folders, as they were given.
        target: the sequence that is written.

    Raises:
        DataError: two scans would be written under one name.
    """
    stems = [_stem(path) for path in paths]
    names = {
        path: f"{stem if stems.count(stem) == 1 else f'{_stem(real_path(path).parent)}_{stem}'}"
        for path, stem in zip(paths, stems, strict=True)
    }
    taken: dict[str, Path] = {}
    for path, name in names.items():
        if name in taken:
            raise DataError(
                f"{path}: its result would have the name of that of {taken[name]}; translate them "
                "into different folders"
            )
        taken[name] = path
    plain = re.sub(r"[^\w.-]+", "_", target)
    return {path: f"{name}_{plain}" for path, name in names.items()}


def read_scan(path: Path, sequence: str, largest: bool = False) -> NewScan:
    """Read a file, or a folder with one DICOM series.

    Args:
        path: the file or folder.
        sequence: the domain that it is taken for.
        largest: of several series in a folder, take the one with the most slices.

    Raises:
        DataError: it cannot be used, in a sentence that names it.
    """
    if path.is_dir():
        return _read_series(path, largest)
    if _is_dicom(path):
        raise DataError(f"{path}: is one file of a DICOM series; name the folder of the series")
    return _read_file(path, sequence)


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


@in_silence()
def _read_series(folder: Path, largest: bool) -> NewScan:
    found = read_folder(folder)
    series = read_series(_one_volume(folder, found, largest))
    x, y, z = series.data.shape
    grid = Grid((x, y, z), series.affine)
    turn, turned_grid = to_lps(grid)
    data = np.ascontiguousarray(turned(series.data, turn))
    pairs = zip(series.headers, series.slices, strict=True)
    return NewScan(
        Volume(folder, data, turned_grid.affine),
        grid,
        modality=str(series.headers[0].get("Modality", "")),
        headers=tuple(_header_of(header, one) for header, one in pairs),
        warnings=(*_left_out(found), *_said_by(series)),
    )


def _left_out(found: FoundSlices) -> Iterator[str]:
    """Said of whatever it is: a stack that lacks its first or last slice has no gap to tell."""
    if found.left_out:
        yield (
            f"files left out: {found.left_out_text()}; if one of them was damaged on its way, the "
            "translation may lack a slice at an end"
        )


def _one_volume(folder: Path, found: FoundSlices, largest: bool) -> Group:
    volumes = [one for one in group(found.slices) if one.is_volume]
    if not volumes:
        others = found.left_out_text() or "it is empty"
        raise DataError(f"{folder}: holds no DICOM series of several slices ({others})")
    if largest:
        most = max(len(one.slices) for one in volumes)
        volumes = [one for one in volumes if len(one.slices) == most]
    if len(volumes) > 1:
        raise DataError(
            f"{folder}: holds {len(volumes)} volumes: "
            f"{'; '.join(one.text() for one in volumes)}; name a folder with one of them, or give "
            "--largest where one has the most slices"
        )
    return volumes[0]


def _header_of(header: Dataset, one: Slice) -> Dataset:
    """The header of one slice; that of a frame has its place at the top, as other files have it."""
    if one.frame is None:
        return header
    from pydicom import Dataset

    found = Dataset()
    for element in header:
        if not element.tag.is_private and element.keyword not in _FRAMES:
            found[element.tag] = element
    for sequence, keyword in _PLACE_OF_FRAME:
        value = value_of_frame(header, one.frame, sequence, keyword)
        if value is not None:
            setattr(found, keyword, value)
    found.ReferencedFrameNumber = one.frame + 1
    return found


def _said_by(series: SeriesVolume) -> Iterator[str]:
    if series.lossy:
        yield "was compressed with losses, which the translation inherits"
    if any(map(is_synthetic, series.headers)):
        yield "was itself made by a program (SyntheticData), and is translated once more"


def _read_file(path: Path, sequence: str) -> NewScan:
    record = SubjectRecord(path.name, _SITE, "test", {sequence: path.name})
    subject = open_scans(record, path.parent, [sequence])
    found = header_findings(subject)
    refuse(found)
    voxels, more = read_voxels(subject)
    refuse(more)
    header = subject.scans[sequence].header
    if header is None or header.grid is None:  # cannot be: its voxels have been read
        raise DataError(f"{path}: has no voxel grid")
    return NewScan(
        voxels.scans[sequence].volume,
        header.grid,
        code=max(header.sform_code, 0) or max(header.qform_code, 0) or 1,
        warnings=tuple(one.sentence for one in (*found, *more) if one.severity == WARNING),
    )


def _stem(path: Path) -> str:
    """A path's name without the endings of scans, in characters that every system takes."""
    name = re.sub(r"(\.nii)?(\.gz)?$|\.(mha|nrrd)$", "", real_path(path).name, flags=re.IGNORECASE)
    return re.sub(r"[^\w.-]+", "_", name) or "scan"
