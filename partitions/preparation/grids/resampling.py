"""Resample volumes in the plane of their slices, and the window that slices of one size take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from partitions.scans.grid import Affine

_MODES = {"bilinear": 0, "nearest": 1}
_BORDER = 1
"""The numbers that torch's sampler has for them, where corners are not aligned."""


@dataclass(frozen=True)
class Window:
    """The part of a plane that slices of one size hold, and the padding around it.

    Attributes:
        columns: from the first one to behind the last one of the plane that is taken.
        rows: likewise.
        corner: column and row of the plane where the slices begin; negative where they begin with
            padding.
        size: columns and rows of the slices.
    """

    columns: tuple[int, int]
    rows: tuple[int, int]
    corner: tuple[int, int]
    size: tuple[int, int]

    @property
    def part(self) -> tuple[slice, slice]:
        """The part that is taken, as an index of the first two axes."""
        return slice(*self.columns), slice(*self.rows)

    def padded(self, part: NDArray[Any]) -> NDArray[Any]:
        """Shape (columns, rows, z): what was taken, with zeros around it."""
        found = np.zeros((*self.size, part.shape[2]), dtype=part.dtype)
        column, row = self.columns[0] - self.corner[0], self.rows[0] - self.corner[1]
        found[column : column + part.shape[0], row : row + part.shape[1]] = part
        return found


@dataclass(frozen=True)
class Plane:
    """The grid of a scan after another pixel size was given to its first two axes.

    The places are computed once for all volumes of a subject, and a volume is resampled where it is
    wanted alone: both are as long work as resampling itself.

    Attributes:
        affine: 4x4, voxel index to mm.
        places: (x, y, z, 3) float64, where in the scan each voxel lies, as ``grid_sample`` takes
            them; None where the pixels stay as they are.
    """

    affine: Affine
    places: torch.Tensor | None

    def sampled(
        self,
        data: NDArray[np.float32],
        mode: str,
        part: tuple[slice, slice] = (slice(None), slice(None)),
        slices: NDArray[np.intp] | None = None,
    ) -> NDArray[np.float32]:
        """A volume of the scan on this grid; values at the border are continued.

        Args:
            data: axes (x, y, z) of the scan.
            mode: ``bilinear`` for images, ``nearest`` for masks.
            part: the columns and rows that are wanted.
            slices: the slices that are wanted, by default all.
        """
        if self.places is None:
            cut = data[part]
            return cut if slices is None else cut[..., slices]
        places = self.places[part]
        if slices is not None:
            places = places[:, :, torch.from_numpy(slices)]
        values = torch.from_numpy(np.ascontiguousarray(data, np.float64))[None, None]
        found = torch.grid_sampler(values, places[None], _MODES[mode], _BORDER, False)
        return np.asarray(found[0, 0].numpy(), dtype=np.float32)


def plane_of(shape: tuple[int, ...], affine: Affine, spacing: float | None) -> Plane:
    """The plane with pixels of ``spacing`` mm; the third axis keeps its slices.

    Size and position are those of MONAI's ``Spacing``, and so is every value, bit by bit.

    Args:
        shape: voxels of the scan along (x, y, z).
        affine: 4x4 of the scan, voxel index to mm.
        spacing: wanted pixel size in mm; None keeps the pixels.
    """
    if spacing is None:
        return Plane(affine, None)
    # Imported here, as who opens or measures prepared slices should not wait seconds for it.
    from monai.data.meta_tensor import MetaTensor
    from monai.data.utils import AFFINE_TOL
    from monai.networks.utils import to_norm_affine
    from monai.transforms.spatial.array import Spacing
    from monai.utils.enums import LazyAttr

    image = MetaTensor(torch.zeros(1, 1, 1, 1).expand(1, *shape), affine=torch.from_numpy(affine))
    # A pixel size of -1 means "keep" to MONAI's Spacing.
    planned = Spacing(pixdim=(spacing, spacing, -1.0), lazy=True)(image)
    size, found = tuple(planned.peek_pending_shape()), planned.peek_pending_affine().numpy()
    way = planned.pending_operations[-1][LazyAttr.AFFINE].double()
    if size == tuple(shape) and torch.allclose(way, torch.eye(4).double(), atol=AFFINE_TOL):
        return Plane(affine, None)
    order = [2, 1, 0]  # torch counts places from the last axis
    theta = to_norm_affine(way[None], shape, size)[:, order][..., [*order, 3]]
    return Plane(found, torch.affine_grid_generator(theta, [1, 1, *size], False)[0])


def window_on(mask: NDArray[np.bool_], size: tuple[int, int]) -> Window:
    """The window of a size, centred on a mask so that heads are not cut.

    Args:
        mask: axes (x, y, z), not empty; its bounding box gives the centre.
        size: rows (y) and columns (x) of the slices.
    """
    rows, columns = size
    taken, corner = [], []
    for axis, wanted in enumerate((columns, rows)):
        low, high = _extent(mask, axis)
        start = max((low + high + 1) // 2 - wanted // 2, 0)
        stop = min(start + wanted, mask.shape[axis])
        taken.append((start, stop))
        corner.append(start - (wanted - (stop - start)) // 2)
    return Window(taken[0], taken[1], (corner[0], corner[1]), (columns, rows))


def mask_loss(whole: NDArray[np.bool_], cut: NDArray[np.bool_]) -> tuple[float, tuple[int, int]]:
    """The part of the mask that was cut off, and the (columns, rows) that would hold all of it."""
    loss = 1.0 - int(cut.sum()) / max(int(whole.sum()), 1)
    columns, rows = (high - low + 1 for low, high in (_extent(whole, axis) for axis in (0, 1)))
    return loss, (columns, rows)


def _extent(mask: NDArray[np.bool_], axis: int) -> tuple[int, int]:
    """First and last index along one axis where the mask is set."""
    others = tuple(other for other in range(mask.ndim) if other != axis)
    hit = np.flatnonzero(mask.any(axis=others))
    return int(hit[0]), int(hit[-1])
