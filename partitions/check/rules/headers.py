"""Rules about one file, which need no voxel: its name, its first bytes, its header."""

from __future__ import annotations

import math

import numpy as np

from partitions.check.finding import ERROR, NOTE, WARNING, Hit, Rule, case_if
from partitions.check.scans import SubjectScan
from partitions.scans.grid import Grid, axes_of, largest_distance, thick_plane, voxel_edges
from partitions.scans.mask import DECLARATIONS, mask_values

SMALLEST_EDGE_MM, LARGEST_EDGE_MM = 0.05, 20.0
"""Voxel edges outside this range are a mistake of the header or of its unit."""
FORMS_APART = 0.01
"""The two forms of a header agree while no corner is further apart than this part of a voxel."""

_TOO_LARGE = {"metre": "1,000 times too small", "micron": "1,000 times too large"}


def _fault(name: str, sentence: str, remedy: str) -> Rule[SubjectScan]:
    """A rule about a file that has no header to look at, or no voxels to go with it."""

    def find(scan: SubjectScan) -> list[Hit]:
        fault = scan.file.fault
        if fault is None or fault.rule != name:
            return []
        return [Hit({"subject": scan.record.subject, **fault.details})]

    return Rule(name, ERROR, sentence, remedy, find)


def _kind(name: str, datatypes: tuple[str, ...], sentence: str, remedy: str) -> Rule[SubjectScan]:
    """A rule about voxels that are not one number each."""

    def find(scan: SubjectScan) -> list[Hit]:
        header = scan.header
        return case_if(header is not None and header.datatype.startswith(datatypes))

    return Rule(name, ERROR, sentence, remedy, find)


def _other_type(scan: SubjectScan) -> list[Hit]:
    header = scan.header
    if header is None or header.datatype.startswith(("complex", "RGB")):
        return []
    return case_if(header.kind not in "iuf", datatype=header.datatype)


def _vectors(scan: SubjectScan) -> list[Hit]:
    components = _components(scan)
    return case_if(components > 1, components=components)


def _several_volumes(scan: SubjectScan) -> list[Hit]:
    header = scan.header
    if header is None or _components(scan) > 1:
        return []
    return case_if(header.volume_shape is None, shape=header.shape)


def _components(scan: SubjectScan) -> int:
    """Numbers per voxel; NIfTI keeps the components of vectors along the fifth axis."""
    shape = scan.header.shape if scan.header is not None else ()
    return shape[4] if len(shape) == 5 and shape[3] == 1 else 1


def _scale(scan: SubjectScan) -> list[Hit]:
    header = scan.header
    if header is None:
        return []
    slope, intercept = header.scale
    scaled = math.isfinite(slope) and slope != 0
    return case_if(scaled and not math.isfinite(intercept), slope=slope, intercept=intercept)


def _unit(scan: SubjectScan) -> list[Hit]:
    header = scan.header
    if header is None or not scan.record.has_voxel_size:
        return []
    unit = header.unit
    return case_if(unit in _TOO_LARGE, unit=unit, wrong=_TOO_LARGE.get(unit, ""))


def _no_unit(scan: SubjectScan) -> list[Hit]:
    header = scan.header
    known = scan.record.has_voxel_size
    return case_if(header is not None and known and header.unit == "unknown")


def _edges(scan: SubjectScan) -> list[Hit]:
    header = scan.header
    if header is None or not scan.record.has_voxel_size or header.unit in _TOO_LARGE:
        return []
    edges = voxel_edges(header.affine)
    usable = all(SMALLEST_EDGE_MM <= edge <= LARGEST_EDGE_MM for edge in edges)
    return case_if(not usable, edges=_in_mm(edges))


def _axes(scan: SubjectScan) -> list[Hit]:
    header = scan.header
    if header is None or not all(voxel_edges(header.affine)):
        return []
    finite = bool(np.isfinite(header.affine).all())
    return case_if(finite and header.volume_shape is not None and header.grid is None)


def _negative_edges(scan: SubjectScan) -> list[Hit]:
    header = scan.header
    return case_if(header is not None and min(header.pixdim) < 0, edges=_pixdim_of(scan))


def _pixdim_of(scan: SubjectScan) -> str:
    return _in_mm(scan.header.pixdim) if scan.header is not None else ""


def _pixdim(scan: SubjectScan) -> list[Hit]:
    header = scan.header
    if header is None or header.sform_code <= 0:
        return []
    edges = np.array(voxel_edges(header.sform))
    apart = np.abs(edges - np.abs(header.pixdim)) > FORMS_APART * edges
    return case_if(apart.any(), edges=_in_mm(tuple(edges)), pixdim=_in_mm(header.pixdim))


def _no_orientation(scan: SubjectScan) -> list[Hit]:
    return case_if(scan.header is not None and not scan.header.is_oriented)


def _two_forms(scan: SubjectScan) -> tuple[Grid, Grid] | None:
    """The grids that the sform and the qform mean, where both are meant and can be."""
    header = scan.header
    if header is None or min(header.sform_code, header.qform_code) <= 0:
        return None
    shape = header.volume_shape
    usable = [bool(np.isfinite(f).all() and np.linalg.det(f)) for f in (header.sform, header.qform)]
    if shape is None or not all(usable):
        return None
    return Grid(shape, header.sform), Grid(shape, header.qform)


def _other_axes(scan: SubjectScan) -> list[Hit]:
    forms = _two_forms(scan)
    if forms is None:
        return []
    sform, qform = (axes_of(form.affine) for form in forms)
    return case_if(sform != qform, sform=",".join(sform), qform=",".join(qform))


def _forms_apart(scan: SubjectScan) -> list[Hit]:
    forms = _two_forms(scan)
    if forms is None or _other_axes(scan):
        return []
    apart = largest_distance(*forms)
    return case_if(apart > FORMS_APART, distance=f"{apart * min(forms[0].edges()):.3g}")


def _thick_slices(scan: SubjectScan) -> list[Hit]:
    header = scan.header
    grid = header.grid if header is not None else None
    if grid is None or scan.is_mask or not scan.record.has_voxel_size:
        return []
    plane = thick_plane(grid)
    return case_if(plane, plane=plane, thick=f"{max(grid.edges()):.3g}")


def _declaration(scan: SubjectScan) -> list[Hit]:
    return case_if(mask_values(scan.declared) is None, declared=scan.declared)


def _in_mm(edges: tuple[float, ...]) -> str:
    return " x ".join(f"{edge:.4g}" for edge in edges)


RULES: tuple[Rule[SubjectScan], ...] = (
    _fault(
        "missing-file",
        "no such file, but subject '{subject}' needs it",
        "copy it there or correct the manifest",
    ),
    _fault(
        "lfs-pointer",
        "is a pointer of Git LFS and not the scan itself",
        "fetch the scan with 'git lfs pull'",
    ),
    _fault(
        "annex-pointer",
        "is a pointer of git-annex and not the scan itself",
        "fetch the scan with 'git annex get {name}' or 'datalad get {name}'",
    ),
    _fault(
        "other-format",
        "is a {format} file, and only NIfTI, MHA and NRRD are read",
        "bring DICOM series in with 'fedi2i data dicom', and convert anything else to .nii.gz",
    ),
    _fault(
        "compressed-name",
        "is compressed, but its name does not end in .gz",
        "rename it to {right}",
    ),
    _fault(
        "plain-name",
        "is not compressed, but its name ends in .gz",
        "rename it to {right}",
    ),
    _fault(
        "header-pair",
        "is the header of a pair of files (.hdr and .img)",
        "write both as one .nii.gz file",
    ),
    _fault(
        "damaged",
        "damaged or not the kind of file that its name says ({reason})",
        "copy it again from its source",
    ),
    _fault(
        "truncated",
        "damaged: the file ends too early (expected {expected} bytes, got {got})",
        "copy it again from its source",
    ),
    _fault(
        "detached-voxels",
        "has its voxels in another file ({other})",
        "write both as one {right} file",
    ),
    _fault(
        "space-unknown",
        "names no anatomical space that its axes run in (space: {space}), so that left and right "
        "are unknown",
        "write 'space: left-posterior-superior' into its header if that is right",
    ),
    _fault(
        "scale-unread",
        "asks for its values to be multiplied by {slope} and {offset} to be added, which readers "
        "of MetaImage do not do",
        "write the scaled values themselves",
    ),
    _kind(
        "complex-data",
        ("complex",),
        "holds complex numbers",
        "give the magnitude image",
    ),
    _kind(
        "colour-data",
        ("RGB",),
        "holds colours and no intensities",
        "give the scan and not a picture or a colour map of it",
    ),
    Rule(
        "data-type",
        ERROR,
        "holds voxels of the type {datatype}, which is not read",
        "write it as 16-bit integers or 32-bit floats",
        _other_type,
    ),
    Rule(
        "vector-data",
        ERROR,
        "holds vectors of {components} components, as displacement fields do",
        "give the scan itself",
        _vectors,
    ),
    Rule(
        "not-one-volume",
        ERROR,
        "has shape {shape}",
        "give one 3-D volume per file, without times or echoes",
        _several_volumes,
    ),
    Rule(
        "scale-invalid",
        ERROR,
        "its header scales values by {slope:g} and then adds {intercept}",
        "write a finite scl_inter into the header, or 0 as its scl_slope",
        _scale,
    ),
    Rule(
        "unit",
        ERROR,
        "its unit of length is the {unit}, so that voxels read as mm would be {wrong}",
        "write the header in mm",
        _unit,
    ),
    Rule(
        "unit-unknown",
        NOTE,
        "names no unit of length and is read in mm",
        "write the unit mm into the header if that is right",
        _no_unit,
    ),
    Rule(
        "voxel-size",
        ERROR,
        f"has voxel edges of {{edges}} mm, outside {SMALLEST_EDGE_MM:g} to {LARGEST_EDGE_MM:g} mm",
        "correct the header",
        _edges,
    ),
    Rule(
        "axes-dependent",
        ERROR,
        "the three axes of its voxels lie in one plane",
        "correct the sform or the qform of the header",
        _axes,
    ),
    Rule(
        "voxel-size-negative",
        NOTE,
        "has a negative voxel edge in pixdim ({edges} mm), which is read as positive",
        "write positive edges into the header",
        _negative_edges,
    ),
    Rule(
        "pixdim-differs",
        WARNING,
        "has voxel edges of {edges} mm by its sform, which counts, but {pixdim} mm by pixdim",
        "find out which is right and write it into both",
        _pixdim,
    ),
    Rule(
        "orientation-unknown",
        WARNING,
        "does not say how the patient lies in it (sform and qform have code 0; in MHA, there is no "
        "TransformMatrix), so that left and right are a guess",
        "convert the scan again from its source, with its orientation",
        _no_orientation,
    ),
    Rule(
        "forms-contradict",
        ERROR,
        "its axes run {sform} by its sform but {qform} by its qform, so that sides are uncertain",
        "find out which form is right and write it into both",
        _other_axes,
    ),
    Rule(
        "forms-differ",
        WARNING,
        "its sform, which counts, and its qform put voxels up to {distance} mm apart",
        "write the right form into both, as other programs may read the qform",
        _forms_apart,
    ),
    Rule(
        "thick-slices",
        WARNING,
        "was acquired in {plane} slices of {thick} mm, so that axial slices are cut across them",
        "use scans that were acquired in thin or axial slices, if there are any",
        _thick_slices,
    ),
    Rule(
        "mask-declared",
        ERROR,
        "its values are declared as '{declared}'",
        f"declare {DECLARATIONS}, or nothing for a mask of two values",
        _declaration,
    ),
)
