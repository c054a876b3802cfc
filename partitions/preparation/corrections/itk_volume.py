"""A volume as SimpleITK sees it, without a file in between.

SimpleITK reads some NIfTI headers otherwise than nibabel does, so its images are made from voxels
and affine. NIfTI positions run right, anterior, superior (RAS), ITK's left, posterior, superior.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedi2i.errors import DataError
from partitions.scans.grid import Affine
from partitions.scans.volume import Volume

if TYPE_CHECKING:
    import SimpleITK

TO_ITK = np.diag([-1.0, -1.0, 1.0, 1.0])
"""Between positions in RAS and in LPS, both ways."""

_RIGHT_ANGLE = 1e-4
"""Largest cosine between two axes that ITK takes."""


def itk_image(volume: Volume, data: NDArray[Any] | None = None) -> SimpleITK.Image:
    """Voxels of a volume, or others on its grid, as an image in ITK's positions.

    Args:
        volume: axes (x, y, z).
        data: the same shape; None takes the volume's own.

    Raises:
        DataError: the axes are not at right angles, which ITK cannot hold.
    """
    import SimpleITK

    affine = TO_ITK @ volume.affine
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    direction = affine[:3, :3] / edges
    if np.abs(direction.T @ direction - np.eye(3)).max() > _RIGHT_ANGLE:
        raise DataError(
            f"{volume.path}: its axes are not at right angles, as of a tilted gantry; resample it "
            "onto a grid of right angles before it is registered or corrected"
        )
    image = SimpleITK.GetImageFromArray(np.asarray(volume.data if data is None else data).T)
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetSpacing(edges.tolist())
    image.SetDirection(direction.ravel().tolist())
    return image


def voxels_of(image: SimpleITK.Image) -> NDArray[np.float32]:
    """Voxels of an image, axes (x, y, z)."""
    import SimpleITK

    return np.ascontiguousarray(SimpleITK.GetArrayFromImage(image).T, dtype=np.float32)


def one_thread() -> None:
    """Let SimpleITK compute in one thread: then the same seed gives the same bits."""
    import SimpleITK

    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)


def world_matrix(transform: SimpleITK.Transform) -> Affine:
    """A rigid or affine transform as a 4x4 matrix between positions in RAS."""
    start = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    matrix = np.eye(4)
    for axis in range(3):
        unit = [float(axis == other) for other in range(3)]
        matrix[:3, axis] = np.array(transform.TransformPoint(unit)) - start
    matrix[:3, 3] = start
    return TO_ITK @ matrix @ TO_ITK


def itk_transform(matrix: Affine) -> SimpleITK.AffineTransform:
    """The transform of a 4x4 matrix between positions in RAS."""
    import SimpleITK

    inner = TO_ITK @ matrix @ TO_ITK
    transform = SimpleITK.AffineTransform(3)
    transform.SetMatrix(inner[:3, :3].ravel().tolist())
    transform.SetTranslation(inner[:3, 3].tolist())
    return transform
