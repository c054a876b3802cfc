"""Rules about the voxels of one file, and of a subject's files together."""

from __future__ import annotations

import numpy as np

from partitions.check.finding import ERROR, WARNING, Hit, Place, Rule, case_if
from partitions.check.scans import MASK, ScanVoxels, SubjectVoxels
from partitions.scans.foreground import slices_that_stand_out
from partitions.scans.mask import DECLARATIONS, is_binary

MOST_LABELS = 256
"""A map with more different values is an image."""

_DECLARE = f"declare {DECLARATIONS} as its values if that is what it is, or give another mask"


def _not_finite(voxels: ScanVoxels) -> list[Hit]:
    data = voxels.volume.data
    bad = int(data.size - np.isfinite(data).sum())
    return case_if(bad, bad=bad, all=data.size)


def _constant(voxels: ScanVoxels) -> list[Hit]:
    data = voxels.volume.data
    return case_if(not voxels.scan.is_mask and data.min() == data.max(), value=data.flat[0])


def _undeclared(voxels: ScanVoxels) -> np.ndarray | None:
    """The different values of a mask that has more than two and does not say what they are."""
    values, data = voxels.scan.values, voxels.volume.data
    if not voxels.scan.is_mask or values.above is not None or is_binary(data):
        return None
    found = np.unique(data)
    return None if values.labels and _are_labels(found) else found


def _are_labels(found: np.ndarray) -> bool:
    return bool(found.size <= MOST_LABELS and found[0] >= 0 and (found == np.rint(found)).all())


def _probabilities(voxels: ScanVoxels) -> list[Hit]:
    found = _undeclared(voxels)
    if found is None or _are_labels(found) or found[0] < 0 or found[-1] > 1:
        return []
    return [Hit({"least": found[0], "most": found[-1], "count": found.size})]


def _labels(voxels: ScanVoxels) -> list[Hit]:
    found = _undeclared(voxels)
    if found is None or not _are_labels(found):
        return []
    first = ", ".join(f"{value:g}" for value in found[:6])
    return [Hit({"values": f"{first}{', ...' if found.size > 6 else ''}"})]


def _image(voxels: ScanVoxels) -> list[Hit]:
    found = _undeclared(voxels)
    if found is None or _are_labels(found) or _probabilities(voxels):
        return []
    return [Hit({"least": found[0], "most": found[-1], "count": found.size})]


def _empty(voxels: ScanVoxels) -> list[Hit]:
    scan = voxels.scan
    return case_if(scan.name == MASK and not scan.values.inside(voxels.volume.data).any())


def _everywhere(voxels: ScanVoxels) -> list[Hit]:
    scan = voxels.scan
    if not scan.is_mask or _undeclared(voxels) is not None:
        return []
    return case_if(scan.values.inside(voxels.volume.data).all())


def _half_empty(subject: SubjectVoxels) -> list[Hit]:
    """Whether a head mask leaves out more than half of the slices in which a scan shows anything.

    A brain mask of a scan that reaches down the neck leaves out fewer.
    """
    mask = subject.scans.get(MASK)
    images = [voxels for voxels in subject.scans.values() if not voxels.scan.is_mask]
    if mask is None or not images or images[0].volume.data.shape != mask.volume.data.shape:
        return []
    data = images[0].volume.data
    inside = mask.scan.values.inside(mask.volume.data).any(axis=(0, 1))
    # What the mask leaves out of a skull-stripped scan is darkest throughout, so that no threshold
    # needs to be sought.
    if not inside.any() or (data[..., ~inside] == data.min()).all():
        return []
    shown = slices_that_stand_out(data)
    covered, count = int((shown & inside).sum()), int(shown.sum())
    return (
        [Hit({"covered": covered, "count": count}, mask.scan.place)] if 2 * covered < count else []
    )


def _same_voxels(subject: SubjectVoxels) -> list[Hit]:
    first: dict[str, str] = {}
    hits = []
    for name, digest in subject.digests.items():
        other = first.setdefault(digest, name)
        if other != name and _paths_differ(subject, name, other):
            scan = subject.scans[name].scan
            what = {"subject": subject.record.subject, "name": name, "other": other}
            hits.append(Hit(what, Place(scan.record.site, scan.record.subject, scan.place.file)))
    return hits


def _paths_differ(subject: SubjectVoxels, name: str, other: str) -> bool:
    """Whether two scans are two files; one file has a rule of its own."""
    one, two = (subject.scans[which].scan.file.path for which in (name, other))
    return not one.samefile(two)


RULES: tuple[Rule[ScanVoxels], ...] = (
    Rule(
        "not-finite",
        ERROR,
        "{bad} of {all} voxels are NaN or infinite",
        "repair or leave out this subject",
        _not_finite,
    ),
    Rule(
        "constant-image",
        ERROR,
        "the image is constant, every voxel is {value:g}",
        "replace it or leave the subject out",
        _constant,
    ),
    Rule(
        "mask-probabilities",
        ERROR,
        "is no mask but holds {count} values from {least:g} to {most:g}, as probabilities or an "
        "interpolated mask do",
        _DECLARE,
        _probabilities,
    ),
    Rule(
        "mask-labels",
        ERROR,
        "is no mask but holds the labels {values}",
        _DECLARE,
        _labels,
    ),
    Rule(
        "mask-image",
        ERROR,
        "is no mask but an image of {count} values from {least:g} to {most:g}",
        _DECLARE,
        _image,
    ),
    Rule(
        "mask-empty",
        ERROR,
        "the mask is empty",
        "redraw it or leave the subject out",
        _empty,
    ),
    Rule(
        "mask-everywhere",
        WARNING,
        "the mask covers the whole image, so that intensities are scaled by the air, too",
        "give a mask of the head, or none to have the foreground computed",
        _everywhere,
    ),
)

TOGETHER: tuple[Rule[SubjectVoxels], ...] = (
    Rule(
        "mask-half-empty",
        ERROR,
        "the mask covers {covered} of the {count} slices in which the scan shows something",
        "redraw it, or give none to have the foreground computed",
        _half_empty,
    ),
    Rule(
        "same-voxels",
        ERROR,
        "'{name}' of subject '{subject}' has the same voxels as its '{other}'",
        "give each its own scan",
        _same_voxels,
    ),
)
