"""What a scan's file says before any voxel is read: its name, its first bytes, its header.

Which position a voxel of a NIfTI file has is decided here and nowhere else: the sform, where its
code is positive; otherwise the qform, where its code is positive; otherwise the orientation is
unknown. Nibabel and FSL have the same rule. ``partitions.scans.itk`` reads MetaImage and NRRD.
"""

from __future__ import annotations

import gzip
import io
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.nifti1 import Nifti1Header, data_type_codes
from nibabel.nifti2 import Nifti2Header
from nibabel.spatialimages import HeaderDataError

from partitions.scans.grid import Affine, Grid, voxel_edges
from partitions.scans.itk import ITK, RefusedScanError, read_itk_header

OTHER_FORMATS = {
    ".mhd": "detached MetaImage",
    ".nhdr": "detached NRRD",
    ".dcm": "DICOM",
    ".ima": "DICOM",
    ".img": "Analyze or NIfTI pair",
    ".hdr": "Analyze or NIfTI pair",
    ".mgz": "FreeSurfer",
    ".mgh": "FreeSurfer",
    ".mnc": "MINC",
}
"""Endings of scans that are not read, and what they are."""
NIFTI = (".nii", ".nii.gz")
SCANS = (*NIFTI, *ITK)
"""Endings of the scans that are read."""

_START = 1024
_CHUNK = 1 << 22
_LEAST_OFFSET = 352
_UNITS = {0: "unknown", 1: "metre", 2: "mm", 3: "micron"}
_DAMAGE = (OSError, EOFError, zlib.error)


@dataclass(frozen=True)
class ScanHeader:
    """What the header of one file says, as it stands there, in the words of NIfTI.

    Attributes:
        shape: the lengths of all axes.
        datatype: the format's name of the type of a voxel, e.g. ``int16``, ``complex64``, ``RGB``.
        kind: NumPy's letter for it: ``i``, ``u``, ``f``, ``c``, or ``V`` for anything else.
        pixdim: the three voxel edges as stored, possibly negative.
        unit: ``mm``, ``metre``, ``micron`` or ``unknown``.
        scale: slope and intercept of the stored values.
        sform: 4x4, see its code.
        sform_code: positive when the sform is meant.
        qform: 4x4 with positive voxel edges; NaN where it is not meant or has no meaning.
        qform_code: positive when the qform is meant.
        guess: 4x4 for a file without either: centred, first axis running to the left.
        needed: bytes of the whole file, decompressed where it is NIfTI.
    """

    shape: tuple[int, ...]
    datatype: str
    kind: str
    pixdim: tuple[float, float, float]
    unit: str
    scale: tuple[float, float]
    sform: Affine
    sform_code: int
    qform: Affine
    qform_code: int
    guess: Affine
    needed: int

    @property
    def affine(self) -> Affine:
        """Voxel index to position in mm, by the rule at the top of this module."""
        if self.sform_code > 0:
            return self.sform
        return self.qform if self.qform_code > 0 else self.guess

    @property
    def is_oriented(self) -> bool:
        """Whether the file says how the patient lies in it."""
        return self.sform_code > 0 or self.qform_code > 0

    @property
    def is_readable(self) -> bool:
        """Whether the voxels are one finite number each, on a grid that can be turned."""
        slope, intercept = self.scale
        scaled = bool(np.isfinite(slope)) and slope != 0
        return (
            self.kind in "iuf"
            and self.grid is not None
            and (not scaled or bool(np.isfinite(intercept)))
        )

    @property
    def volume_shape(self) -> tuple[int, int, int] | None:
        """The shape of one 3-D volume, trailing axes of length one dropped; None if it is none."""
        shape = self.shape
        if len(shape) < 3 or any(length != 1 for length in shape[3:]) or min(shape) < 1:
            return None
        return shape[0], shape[1], shape[2]

    @cached_property
    def grid(self) -> Grid | None:
        """Where the voxels lie; None unless the file holds one volume with usable axes."""
        shape, axes = self.volume_shape, self.affine[:3, :3]
        if shape is None or not np.isfinite(self.affine).all() or not np.linalg.det(axes):
            return None
        return Grid(shape, self.affine)


@dataclass(frozen=True)
class Fault:
    """Why a file has no header that can be used.

    Attributes:
        rule: the name of the rule about it.
        details: what that rule's sentence needs.
    """

    rule: str
    details: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class ScanFile:
    """One file, not further read than its header.

    Attributes:
        path: where it is.
        size: bytes on disk, 0 when it is not there.
        header: what its header says, or None.
        fault: why it has none, or why its voxels cannot follow.
    """

    path: Path
    size: int = 0
    header: ScanHeader | None = None
    fault: Fault | None = None


def read_scan_file(path: Path) -> ScanFile:
    """Read a file as far as its header; whatever is wrong with it is its ``fault``."""
    if not path.is_file():
        return ScanFile(path, fault=_absence(path))
    try:
        with path.open("rb") as stream:
            start = stream.read(_START)
            size = os.fstat(stream.fileno()).st_size
        fault = _first_bytes_fault(path, start)
        if fault is not None:
            return ScanFile(path, size, fault=fault)
        if _is_itk(path):
            header = _itk_header(path)
            return ScanFile(path, size, header, _itk_truncation(size, header))
        block = _decompressed(path, _START) if _is_compressed(path) else start
        header = parse_header(block)
        return ScanFile(path, size, header, _truncation(path, size, header))
    except RefusedScanError as refused:
        return ScanFile(path, size, fault=Fault(refused.rule, refused.details))
    except (*_DAMAGE, HeaderDataError, ValueError, KeyError) as error:
        return ScanFile(path, fault=Fault("damaged", {"reason": reason_of(error)}))


def parse_header(block: bytes) -> ScanHeader:
    """The header in the first bytes of a decompressed NIfTI file.

    Raises:
        ValueError: they are not the beginning of a NIfTI file.
        HeaderDataError: the header contradicts itself.
    """
    raw = _raw_header(block)
    code = int(raw["datatype"])
    known = code in data_type_codes
    dtype = np.dtype(data_type_codes.dtype[code]) if known else np.dtype(np.void)
    shape = tuple(int(length) for length in raw.get_data_shape())
    offset = int(raw["vox_offset"])
    if offset < _LEAST_OFFSET:
        raise ValueError(f"its voxels are said to begin at byte {offset}")
    unit = _UNITS.get(int(raw["xyzt_units"]) & 7, "unknown")
    x, y, z = (float(edge) for edge in raw["pixdim"][1:4])
    return ScanHeader(
        shape=shape,
        datatype=str(data_type_codes.label[code]) if known else f"code {code}",
        kind=dtype.kind if dtype.itemsize <= 8 or dtype.kind == "c" else "V",
        pixdim=(x, y, z),
        unit=unit,
        scale=(float(raw["scl_slope"]), float(raw["scl_inter"])),
        sform=np.asarray(raw.get_sform(), dtype=np.float64),
        sform_code=int(raw["sform_code"]),
        qform=_qform(raw),
        qform_code=int(raw["qform_code"]),
        guess=_guess(shape, (x, y, z)),
        needed=offset + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize,
    )


def reason_of(error: Exception) -> str:
    """The last line of an error's words, or its kind."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def format_of(path: Path) -> str | None:
    """What kind of scan a file is by its ending, if it is one that is not read."""
    return OTHER_FORMATS.get(path.suffix.lower())


def _absence(path: Path) -> Fault:
    """A file that is not there: git-annex leaves a link that leads nowhere."""
    if path.is_symlink() and "annex/objects" in str(path.readlink()):
        return Fault("annex-pointer", {"name": path.name})
    return Fault("missing-file")


def _first_bytes_fault(path: Path, start: bytes) -> Fault | None:
    if start.startswith(b"version https://git-lfs"):
        return Fault("lfs-pointer")
    if start.startswith(b"/annex/objects/"):
        return Fault("annex-pointer", {"name": path.name})
    other = "DICOM" if start[128:132] == b"DICM" else format_of(path)
    if other is not None:
        return Fault("other-format", {"format": other})
    if _is_itk(path):
        begins = start.startswith((b"NRRD000", b"ObjectType", b"Comment", b"NDims"))
        return None if begins else Fault("damaged", {"reason": "it does not begin like one"})
    is_gzip = start.startswith(b"\x1f\x8b")
    if is_gzip and not _is_compressed(path):
        return Fault("compressed-name", {"right": f"{path.name}.gz"})
    if _is_compressed(path) and not is_gzip and _is_nifti(start):
        return Fault("plain-name", {"right": path.name.removesuffix(".gz")})
    if not is_gzip and not _is_nifti(start):
        return Fault("damaged", {"reason": "it does not begin like one"})
    return Fault("header-pair") if _magic(start) == b"ni1\0" else None


def _is_itk(path: Path) -> bool:
    return path.suffix.lower() in ITK


def _itk_header(path: Path) -> ScanHeader:
    """The header of a MetaImage or NRRD file, as if its positions stood in a sform."""
    found = read_itk_header(path)
    edges = voxel_edges(found.affine)
    unknown = np.full((4, 4), np.nan)
    return ScanHeader(
        shape=found.shape,
        datatype=found.datatype,
        kind=found.kind,
        pixdim=edges,
        unit="mm",
        scale=(1.0, 0.0),
        sform=found.affine,
        sform_code=int(found.is_oriented),
        qform=unknown,
        qform_code=0,
        guess=found.affine,
        needed=found.needed,
    )


def _itk_truncation(size: int, header: ScanHeader) -> Fault | None:
    if size >= header.needed:
        return None
    return Fault("truncated", {"expected": header.needed, "got": size})


def _is_compressed(path: Path) -> bool:
    return path.suffix == ".gz"


def _is_nifti(start: bytes) -> bool:
    return _magic(start) in (b"n+1\0", b"ni1\0") or start[4:8] == b"n+2\0"


def _magic(start: bytes) -> bytes:
    return start[344:348]


def _raw_header(block: bytes) -> Any:
    """Nibabel's header, without the repairs that it makes in silence."""
    if block[4:8] == b"n+2\0":
        return Nifti2Header.from_fileobj(io.BytesIO(block), check=False)
    if _magic(block) != b"n+1\0":
        raise ValueError("it does not begin like one")
    return Nifti1Header.from_fileobj(io.BytesIO(block), check=False)


def _qform(raw: Any) -> Affine:
    """The qform with positive voxel edges, as a negative one has no meaning."""
    if int(raw["qform_code"]) <= 0:
        return np.full((4, 4), np.nan)
    positive = raw.copy()
    positive["pixdim"][1:4] = np.abs(positive["pixdim"][1:4])
    try:
        return np.asarray(positive.get_qform(), dtype=np.float64)
    except (HeaderDataError, ValueError):
        return np.full((4, 4), np.nan)


def _guess(shape: tuple[int, ...], edges: tuple[float, float, float]) -> Affine:
    """What nibabel takes where nothing is known: centred, first axis running to the left."""
    lengths = np.array((*shape, 1, 1, 1)[:3], dtype=np.float64)
    x, y, z = np.abs(edges)
    affine = np.diag([-x, y, z, 1.0])
    affine[:3, 3] = -affine[:3, :3] @ ((lengths - 1) / 2)
    return affine


def _truncation(path: Path, size: int, header: ScanHeader) -> Fault | None:
    """Whether the file ends before its voxels do.

    A compressed file ends with its decompressed size, so only one that does not say what is
    expected is decompressed to be sure.
    """
    found = size
    if _is_compressed(path):
        with path.open("rb") as stream:
            stream.seek(-4, os.SEEK_END)
            said = int.from_bytes(stream.read(4), "little")
        if said == header.needed % (1 << 32):
            return None
        found, whole = _decompressed_size(path)
        if not whole and found >= header.needed:
            return Fault("damaged", {"reason": "the compressed file ends before its checksum"})
    if found >= header.needed:
        return None
    return Fault("truncated", {"expected": header.needed, "got": found})


def _decompressed(path: Path, count: int) -> bytes:
    """The first bytes that come out of a compressed file, fewer if it ends before."""
    content = b""
    with gzip.open(path) as stream:
        try:
            while len(content) < count and (more := stream.read1(count - len(content))):
                content += more
        except EOFError:
            if not content:
                raise
    return content


def _decompressed_size(path: Path) -> tuple[int, bool]:
    """The bytes that come out of a compressed file, and whether it ends as it should."""
    size = 0
    with gzip.open(path) as stream:
        try:
            while chunk := stream.read1(_CHUNK):
                size += len(chunk)
        except EOFError:
            return size, False
    return size, True
