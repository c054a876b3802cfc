"""MetaImage (.mha) and NRRD files: header and voxels by SimpleITK, positions turned to RAS.

ITK's positions run to the left, to the back and upwards (LPS), as those of DICOM do. Some of what
can be wrong with such files SimpleITK passes over without a word, so it is looked for here: voxels
in another file, a space without a name, a scale that nobody applies, a compressed block that is
damaged or holds too few voxels.
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from partitions.scans.grid import Affine

ITK = (".mha", ".nrrd")
"""Endings of the files that this module reads."""
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])

_SPACES = (
    "left-posterior-superior",
    "lps",
    "right-anterior-superior",
    "ras",
    "left-anterior-superior",
    "las",
)
"""NRRD's names of anatomical spaces, which ITK turns to LPS."""
_IMAGE_IO = {".mha": "MetaImageIO", ".nrrd": "NrrdImageIO"}
_GZIP = ("gzip", "gz")
"""NRRD's names of the one compression that ITK reads in it."""
_LONGEST_HEADER = 1 << 16
_CHUNK = 1 << 22


class RefusedScanError(Exception):
    """A file that cannot be used.

    Attributes:
        rule: the name of the rule about it.
        details: what that rule's sentence needs.
    """

    def __init__(self, rule: str, **details: object) -> None:
        super().__init__(rule)
        self.rule = rule
        self.details = details


@dataclass(frozen=True)
class ItkHeader:
    """What the header of such a file says.

    Attributes:
        shape: the lengths of all axes; as NIfTI has it, components of vectors along the fifth.
        datatype: ITK's name of the type of a voxel, e.g. ``16-bit signed integer``.
        kind: NumPy's letter for it: ``i``, ``u``, ``f``, or ``V`` for anything else.
        affine: 4x4, voxel index to position in mm (RAS).
        is_oriented: whether the file says how the patient lies in it.
        needed: bytes of the whole file, or 0 where only reading it can tell.
    """

    shape: tuple[int, ...]
    datatype: str
    kind: str
    affine: Affine
    is_oriented: bool
    needed: int


def read_itk_header(path: Path) -> ItkHeader:
    """Read the header of a MetaImage or NRRD file, and no voxel.

    Raises:
        RefusedScanError: the file cannot be used, whatever its voxels are.
        OSError: it cannot be read.
    """
    fields, offset = _fields(path)
    refuse = _refuse_metaimage if path.suffix.lower() == ".mha" else _refuse_nrrd
    refuse(fields)
    reader = _reader(path)
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise RefusedScanError("damaged", reason=_reason(error)) from error
    shape = tuple(int(length) for length in reader.GetSize())
    kind, size = _kind_of(reader)
    components = int(reader.GetNumberOfComponents())
    if components > 1:
        shape = (*(*shape, 1, 1, 1)[:4], components)
    return ItkHeader(
        shape=shape,
        datatype=_datatype(reader),
        kind=kind,
        affine=_affine(reader),
        is_oriented="transformmatrix" in fields or "space" in fields,
        needed=_needed(fields, offset, int(np.prod(shape, dtype=np.int64)) * size),
    )


def read_itk_voxels(path: Path) -> NDArray[np.float32]:
    """The voxels of such a file, axes as stored, the fastest one first.

    Raises:
        ValueError, OSError, EOFError, zlib.error: they are damaged.
    """
    import SimpleITK

    reader = _reader(path)
    try:
        reader.ReadImageInformation()
        _check_compressed(path, _bytes_of(reader))
        image = reader.Execute()
    except RuntimeError as error:
        raise ValueError(_reason(error)) from error
    voxels: NDArray[np.float32] = SimpleITK.GetArrayViewFromImage(image).T.astype(np.float32)
    return voxels


def _reader(path: Path) -> Any:
    """SimpleITK's reader, told the format, so that no other one is tried on the file."""
    # Imported here, as it takes long and most data sets are NIfTI.
    import SimpleITK

    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO(_IMAGE_IO[path.suffix.lower()])
    reader.SetFileName(str(path))
    return reader


def _fields(path: Path) -> tuple[dict[str, str], int]:
    """The lines of the header as names, in lower case, and values; and where the voxels begin."""
    is_metaimage = path.suffix.lower() == ".mha"
    separator = "=" if is_metaimage else ":"
    fields: dict[str, str] = {}
    with path.open("rb") as stream:
        while stream.tell() < _LONGEST_HEADER and (line := stream.readline(_LONGEST_HEADER)):
            text = line.decode("latin-1").strip()
            if not text and not is_metaimage:
                return fields, stream.tell()
            name, _, value = text.partition(separator)
            # NRRD's own keys are written name:=value, and do not count.
            if not value.startswith("="):
                fields[name.strip().lower()] = value.strip()
            if is_metaimage and name.strip() == "ElementDataFile":
                return fields, stream.tell()
    raise RefusedScanError("damaged", reason="its header has no end")


def _refuse_metaimage(fields: Mapping[str, str]) -> None:
    if fields["elementdatafile"].upper() != "LOCAL":
        raise RefusedScanError("detached-voxels", other=fields["elementdatafile"], right=".mha")
    slope = fields.get("elementtointensityfunctionslope", "1")
    offset = fields.get("elementtointensityfunctionoffset", "0")
    if (_number(slope), _number(offset)) != (1, 0):
        raise RefusedScanError("scale-unread", slope=slope, offset=offset)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _refuse_nrrd(fields: Mapping[str, str]) -> None:
    other = fields.get("data file") or fields.get("datafile")
    if other:
        raise RefusedScanError("detached-voxels", other=other, right=".nrrd")
    space = fields.get("space", "")
    if space.lower() not in _SPACES:
        raise RefusedScanError("space-unknown", space=space or "none")


def _needed(fields: Mapping[str, str], offset: int, size: int) -> int:
    """The bytes of the whole file where the header tells them."""
    if fields.get("compresseddata", "").lower() == "true":
        return offset + int(fields["compresseddatasize"]) if _says_size(fields) else 0
    return offset + size if fields.get("encoding", "raw") == "raw" else 0


def _says_size(fields: Mapping[str, str]) -> bool:
    return fields.get("compresseddatasize", "").isdigit()


def _bytes_of(reader: Any) -> int:
    """The bytes of all voxels, as the header tells."""
    _, size = _kind_of(reader)
    voxels = math.prod(int(length) for length in reader.GetSize())
    return voxels * int(reader.GetNumberOfComponents()) * size


def _check_compressed(path: Path, size: int) -> None:
    """Hold compressed voxels against their checksum and the bytes that the header tells.

    ITK returns damaged ones all the same, and fills up an image for which they do not suffice with
    whatever is in the memory. No more is inflated than what the header tells: a small file may be
    made to hold more than any memory.

    Raises:
        ValueError, OSError, EOFError, zlib.error: they are damaged, too few or too many.
    """
    fields, offset = _fields(path)
    skipped = 0
    with path.open("rb") as stream:
        stream.seek(offset)
        if fields.get("compresseddata", "").lower() == "true" and path.suffix.lower() == ".mha":
            blocks = _inflated(stream)
        elif fields.get("encoding", "").lower() in _GZIP:
            for _ in range(_count(fields, "line skip", "lineskip")):
                stream.readline()
            skipped = _count(fields, "byte skip", "byteskip")
            blocks = _unzipped(stream)
        else:
            return
        found = 0
        for block in blocks:
            found += len(block)
            if found > size + skipped:
                raise ValueError(f"its compressed voxels are more than the {size} bytes needed")
    if found < size + skipped:
        raise ValueError(
            f"its compressed voxels are {found - skipped} bytes, and {size} are needed"
        )


def _inflated(stream: IO[bytes]) -> Iterator[bytes]:
    """The blocks that come out of a zlib stream; a few bytes of it may hold any number of them."""
    inflate = zlib.decompressobj()
    while not inflate.eof:
        chunk = inflate.unconsumed_tail or stream.read(_CHUNK)
        block = inflate.decompress(chunk, _CHUNK)
        if not chunk and not block:
            raise ValueError("its compressed voxels end before their checksum")
        yield block


def _unzipped(stream: IO[bytes]) -> Iterator[bytes]:
    """The blocks that come out of a gzip stream."""
    with gzip.open(stream) as voxels:
        yield from iter(lambda: voxels.read(_CHUNK), b"")


def _count(fields: Mapping[str, str], *names: str) -> int:
    """A count that stands under one of two spellings; 0 where it stands nowhere."""
    return next((int(fields[name]) for name in names if fields.get(name, "").isdigit()), 0)


def _kind_of(reader: Any) -> tuple[str, int]:
    """NumPy's letter and the bytes of one component; ``V`` for what is no plain number."""
    name = _datatype(reader)
    words = name.rsplit(" of ", 1)[-1].split()
    bits = words[0].removesuffix("-bit") if words else ""
    size = int(bits) // 8 if bits.isdigit() else 0
    letters = {"signed": "i", "unsigned": "u", "float": "f"}
    is_number = size > 0 and not name.startswith("complex")
    return (letters.get(words[1], "V") if is_number else "V"), size


def _datatype(reader: Any) -> str:
    import SimpleITK

    return str(SimpleITK.GetPixelIDValueAsString(reader.GetPixelID()))


def _affine(reader: Any) -> Affine:
    """Voxel index to position (RAS); NaN unless there are three axes in space."""
    size = int(reader.GetDimension())
    if size < 3:
        return np.full((4, 4), np.nan)
    direction = np.array(reader.GetDirection()).reshape(size, size)[:3, :3]
    affine = np.eye(4)
    affine[:3, :3] = direction * np.array(reader.GetSpacing()[:3])
    affine[:3, 3] = reader.GetOrigin()[:3]
    return np.asarray(LPS_TO_RAS @ affine)


def _reason(error: Exception) -> str:
    """The last line of what ITK says; the lines before it name its own source files."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].removeprefix("Reason: ") if lines else type(error).__name__
