"""The anatomical atlas every computed subject is deformed from.

The MNI ICBM152 2009a nonlinear template as nilearn ships it (1 mm, 197 x 233 x 189): a T1-weighted
average of 152 young adults, skull-stripped, with probability maps of grey and white matter
(Fonov et al., NeuroImage 2011;54:313-327, doi:10.1016/j.neuroimage.2010.07.033). nilearn's loaders
rescale each map to 0..1 and resample nothing at 1 mm. There is no skull, scalp or face.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Volume = NDArray[np.float32]

VENTRICLE_BOX_MM = ((2.0, 45.0), (-62.0, 45.0), (4.0, 40.0))
"""MNI coordinates (distance from the midline; y; z) of the lateral ventricles' bodies and horns."""

VENTRICLE_BLUR_MM = 5.0
DETAIL_SCALE = 0.08
"""Template intensity (0..1) away from the tissue's own that counts as one unit of detail."""

DETAIL_BLUR_MM = 0.7


@dataclass(frozen=True)
class Atlas:
    """The atlas on its own 1 mm grid, cut to the brain, shape (X, Y, Z), axes R, A, S.

    Attributes:
        origin: MNI coordinates of voxel (0, 0, 0), mm.
        gm: grey-matter fraction, 0..1.
        wm: white-matter fraction, 0..1.
        csf: cerebrospinal-fluid fraction, 0..1; gm + wm + csf is 1 in the brain, 0 outside.
        detail: within-tissue deviation of the T1-weighted template, -1..1; positive is brighter.
        ventricles: lateral ventricles, bool.
        towards_ventricles: shape (3, X, Y, Z), towards the ventricles, largest length 1.
        ventricle_distance: distance to the lateral ventricles, mm.
    """

    origin: tuple[float, float, float]
    gm: Volume
    wm: Volume
    csf: Volume
    detail: Volume
    ventricles: NDArray[np.bool_]
    towards_ventricles: Volume
    ventricle_distance: Volume


@lru_cache(maxsize=1)
def load_atlas() -> Atlas:
    """Load the atlas and what is derived from it; kept for the life of the process."""
    # nilearn takes seconds to import, and a finished cohort is recognised without it.
    from nilearn import datasets

    image = datasets.load_mni152_template(resolution=1)
    box = _brain_box(np.asarray(image.dataobj) > 0)
    template, gm, wm = (
        np.asarray(loaded.dataobj, dtype=np.float32)[box]
        for loaded in (
            image,
            datasets.load_mni152_gm_template(resolution=1),
            datasets.load_mni152_wm_template(resolution=1),
        )
    )
    gm, wm, csf = tissue_fractions(gm, wm, brain=template > 0)
    corner = [
        float(start) + part.start for start, part in zip(image.affine[:3, 3], box, strict=True)
    ]
    origin = (corner[0], corner[1], corner[2])
    ventricles = lateral_ventricles(csf, origin)
    return Atlas(
        origin=origin,
        gm=gm,
        wm=wm,
        csf=csf,
        detail=within_tissue_detail(template, gm, wm, csf),
        ventricles=ventricles,
        towards_ventricles=_pull(ventricles),
        ventricle_distance=ndimage.distance_transform_edt(~ventricles).astype(np.float32),
    )


def tissue_fractions(
    gm: Volume, wm: Volume, brain: NDArray[np.bool_]
) -> tuple[Volume, Volume, Volume]:
    """Grey, white and CSF fractions that sum to 1 in the brain; CSF is what the others leave."""
    total = np.maximum(gm + wm, 1.0)
    gm = np.where(brain, gm / total, 0).astype(np.float32)
    wm = np.where(brain, wm / total, 0).astype(np.float32)
    return gm, wm, np.where(brain, np.clip(1 - gm - wm, 0, 1), 0).astype(np.float32)


def within_tissue_detail(template: Volume, gm: Volume, wm: Volume, csf: Volume) -> Volume:
    """How much brighter the template is than its tissue mixture predicts, squashed to -1..1.

    The mixture uses the template's median intensity in nearly pure voxels of each tissue. Deep grey
    nuclei, myelin-rich cortex and large tracts appear here.
    """
    levels = [np.median(template[fraction > 0.9]) for fraction in (gm, wm, csf)]
    predicted = gm * levels[0] + wm * levels[1] + csf * levels[2]
    # Next to CSF the deviation is the template's own blur, not tissue.
    solid = np.clip(gm + wm - csf, 0, 1) ** 3
    detail = np.tanh((template - predicted) / DETAIL_SCALE) * solid
    return np.asarray(ndimage.gaussian_filter(detail, DETAIL_BLUR_MM), dtype=np.float32)


def lateral_ventricles(csf: Volume, origin: tuple[float, float, float]) -> NDArray[np.bool_]:
    """The largest connected CSF component beside the midline, on each side.

    The third ventricle and the cisterns lie on the midline or below and are left out.
    """
    x, y, z = np.ogrid[tuple(slice(0, size) for size in csf.shape)]
    position = (np.abs(x + origin[0]), y + origin[1], z + origin[2])
    central = csf > 0.5
    for coordinate, (low, high) in zip(position, VENTRICLE_BOX_MM, strict=True):
        central &= (coordinate >= low) & (coordinate <= high)
    labels, _ = ndimage.label(central)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.isin(labels, np.argsort(sizes)[-2:])


def _brain_box(brain: NDArray[np.bool_]) -> tuple[slice, slice, slice]:
    x, y, z = ndimage.find_objects(brain.astype(np.uint8))[0]
    return x, y, z


def _pull(ventricles: NDArray[np.bool_]) -> Volume:
    # The gradient of the blurred indicator points inwards everywhere and vanishes on the medial
    # axis, so a displacement along it stays smooth.
    blurred = ndimage.gaussian_filter(ventricles.astype(np.float32), VENTRICLE_BLUR_MM)
    gradient = np.stack(np.gradient(blurred)).astype(np.float32)
    return np.asarray(gradient / np.sqrt((gradient**2).sum(axis=0)).max(), dtype=np.float32)
