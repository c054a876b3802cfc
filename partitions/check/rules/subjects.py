"""Rules about the files of one subject together, as far as their headers."""

from __future__ import annotations

from pathlib import Path

from fedi2i.files import real_path
from partitions.check.finding import ERROR, NOTE, Hit, Rule
from partitions.check.scans import SubjectScan, SubjectScans
from partitions.scans.grid import (
    ONE_GRID,
    Grid,
    largest_distance,
    on_one_grid,
    to_lps,
    whole_shift,
)

NOTED = 0.01
"""From here on it is noted that they do not lie at the same places exactly."""


def _other_grid(subject: SubjectScans) -> list[Hit]:
    hits = []
    for scan, grid, reference, other in _pairs(subject):
        if on_one_grid(other, grid):
            continue
        if grid.shape != other.shape:
            what = f"shape {grid.shape} against {other.shape}"
        else:
            what = _how_apart(other, grid)
        name = reference.file.path.name
        hits.append(Hit({"reference": name, "difference": what}, scan.place))
    return hits


def _nearly_one_grid(subject: SubjectScans) -> list[Hit]:
    hits = []
    for scan, grid, reference, other in _pairs(subject):
        if grid.shape == other.shape:
            apart = largest_distance(other, grid)
            if NOTED < apart < ONE_GRID:
                details = {"reference": reference.file.path.name, "apart": f"{apart:.1%}"}
                hits.append(Hit(details, scan.place))
    return hits


def _same_file(subject: SubjectScans) -> list[Hit]:
    first: dict[Path, str] = {}
    hits = []
    for name, scan in subject.scans.items():
        other = first.setdefault(real_path(scan.file.path), name)
        if other != name:
            details = {"subject": subject.record.subject, "name": name, "other": other}
            hits.append(Hit(details, scan.place))
    return hits


def _pairs(subject: SubjectScans) -> list[tuple[SubjectScan, Grid, SubjectScan, Grid]]:
    """Every scan that is stored on another grid than the first image, and that image.

    Grids are turned to one direction, as two scans may hold one volume in different orders.
    """
    usable = [
        (scan, scan.header.grid)
        for scan in subject.scans.values()
        if scan.header is not None and scan.header.grid is not None
    ]
    images = [(scan, grid) for scan, grid in usable if not scan.is_mask]
    if not images:
        return []
    reference, first = images[0]
    others = [(scan, grid) for scan, grid in usable if not grid.equals(first)]
    return [(scan, to_lps(grid)[1], reference, to_lps(first)[1]) for scan, grid in others]


def _how_apart(one: Grid, other: Grid) -> str:
    shift = whole_shift(one, other)
    if shift is not None:
        return f"shifted by {shift} voxels"
    return f"voxels lie up to {largest_distance(one, other):.2g} voxel edges apart"


RULES: tuple[Rule[SubjectScans], ...] = (
    Rule(
        "other-grid",
        ERROR,
        "not on the voxel grid of {reference} ({difference})",
        "have preparation lay the target over the source ('registration: headers' for scans of one "
        "examination, else 'registration: rigid'), or resample both to one grid; a mask belongs on "
        "the grid of its scan",
        _other_grid,
    ),
    Rule(
        "nearly-one-grid",
        NOTE,
        "lies on the voxel grid of {reference} but for {apart} of a voxel edge",
        "nothing needs to be done",
        _nearly_one_grid,
    ),
    Rule(
        "same-file",
        ERROR,
        "'{name}' and '{other}' of subject '{subject}' are one file",
        "give each its own scan",
        _same_file,
    ),
)
