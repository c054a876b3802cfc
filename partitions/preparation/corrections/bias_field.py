"""Take the slow shading of a receive coil out of an MR volume, and put it back.

N4: Tustison et al., IEEE Trans Med Imaging 2010;29:1310-1320, doi:10.1109/TMI.2010.2046908, as
SimpleITK has it, on every fourth millimetre. What is applied is the field at nodes about 25 mm
apart, interpolated by cubic splines: the record keeps these few hundred numbers, and with them the
correction is undone exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fedi2i.errors import DataError
from partitions.preparation.corrections.itk_volume import itk_image, one_thread
from partitions.scans.grid import Affine, voxel_edges
from partitions.scans.volume import Volume

FITTED_MM = 4.0
"""About how far apart the voxels are that the field is fitted to."""

NODE_MM = 25.0
ITERATIONS = (50, 50, 50)
"""At each level of control points; every level has twice as many along an axis."""

CONVERGED = 1e-3
DECIMALS = 4
LEAST_VOXELS = 500


@dataclass(frozen=True)
class BiasField:
    """The logarithm of a smooth multiplicative field, 0 on average inside the mask.

    Attributes:
        nodes: its values, axes (x, y, z) of the volume.
        first: voxel index of the first node along each axis.
        step: voxels between nodes along each axis.
    """

    nodes: NDArray[np.float64]
    first: tuple[float, float, float]
    step: tuple[float, float, float]

    def to_json(self) -> dict[str, Any]:
        """What a subject's record keeps of it."""
        return {"nodes": self.nodes.tolist(), "first": list(self.first), "step": list(self.step)}

    def factor(self, shape: tuple[int, ...]) -> NDArray[np.float64]:
        """The field itself, above 0, on the voxels of a volume of that shape."""
        step = np.array(self.step)
        logarithm = ndimage.affine_transform(
            self.nodes, 1 / step, -np.array(self.first) / step, shape, order=3, mode="nearest"
        )
        return np.asarray(np.exp(logarithm))


def bias_field_from(content: Mapping[str, Any]) -> BiasField:
    """The field that `BiasField.to_json` wrote."""
    first, step = content["first"], content["step"]
    return BiasField(
        np.array(content["nodes"], dtype=np.float64),
        (first[0], first[1], first[2]),
        (step[0], step[1], step[2]),
    )


def estimate(volume: Volume, mask: NDArray[np.bool_]) -> BiasField:
    """Find the field of a volume.

    Args:
        volume: an MR image; voxels that are not positive are not looked at.
        mask: head or brain, the same shape.

    Raises:
        DataError: too little is left inside the mask to fit a field to.
    """
    import SimpleITK

    edges = voxel_edges(volume.affine)
    skip = [max(round(FITTED_MM / edge), 1) for edge in edges]
    chosen = tuple(slice(step // 2, None, step) for step in skip)
    thin = Volume(volume.path, volume.data[chosen], _thinned(volume.affine, skip))
    inside = mask[chosen] & (thin.data > 0)
    if inside.sum() < LEAST_VOXELS:
        raise DataError(
            f"{volume.path}: {inside.sum()} voxels of {FITTED_MM:g} mm are above 0 inside its "
            "mask, too few for a bias field; set 'bias_correction: none' or leave the subject out"
        )
    one_thread()
    corrector = SimpleITK.N4BiasFieldCorrectionImageFilter()
    corrector.SetMaximumNumberOfIterations(list(ITERATIONS))
    corrector.SetConvergenceThreshold(CONVERGED)
    corrector.Execute(itk_image(thin), itk_image(thin, inside.astype(np.uint8)))
    reference = _coarse(itk_image(thin))
    nodes = SimpleITK.GetArrayFromImage(corrector.GetLogBiasFieldAsImage(reference)).T
    counts = np.array(thin.data.shape) - 1
    step = [n * k / max(m - 1, 1) for n, k, m in zip(counts, skip, nodes.shape, strict=True)]
    first = [k // 2 for k in skip]
    field = BiasField(
        nodes.astype(np.float64),
        (float(first[0]), float(first[1]), float(first[2])),
        (max(step[0], 1.0), max(step[1], 1.0), max(step[2], 1.0)),
    )
    average = float(np.log(field.factor(mask.shape)[mask]).mean())
    return BiasField(np.round(field.nodes - average, DECIMALS), field.first, field.step)


def corrected(volume: Volume, field: BiasField) -> Volume:
    """The volume without the field."""
    return _scaled(volume, 1 / field.factor(volume.data.shape))


def shaded(volume: Volume, field: BiasField) -> Volume:
    """The way back: the volume with the field."""
    return _scaled(volume, field.factor(volume.data.shape))


def _scaled(volume: Volume, factor: NDArray[np.float64]) -> Volume:
    return Volume(volume.path, (volume.data * factor).astype(np.float32), volume.affine)


def _thinned(affine: Affine, skip: list[int]) -> Affine:
    """The affine of every k-th voxel, from voxel k // 2 on."""
    first = affine @ [*(step // 2 for step in skip), 1]
    thinned = affine @ np.diag([*skip, 1.0])
    thinned[:, 3] = first
    return np.asarray(thinned, dtype=np.float64)


def _coarse(image: Any) -> Any:
    """An image of few voxels from the first voxel of another to its last: the nodes."""
    import SimpleITK

    spans = [(n - 1) * step for n, step in zip(image.GetSize(), image.GetSpacing(), strict=True)]
    counts = [max(round(span / NODE_MM) + 1, 2) for span in spans]
    coarse = SimpleITK.Image(counts, SimpleITK.sitkFloat32)
    coarse.SetOrigin(image.GetOrigin())
    coarse.SetDirection(image.GetDirection())
    coarse.SetSpacing([max(s / (n - 1), 1e-3) for s, n in zip(spans, counts, strict=True)])
    return coarse
