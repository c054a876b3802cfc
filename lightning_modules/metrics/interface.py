"""What a metric is: its name, unit and direction, whether its mean may leave a site, its function.

Lists of metrics and the gate at a site read the files of all metrics before any network is needed,
so none of them imports torch or scikit-image before it measures.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    Image = NDArray[np.float64]
    """(rows, columns)."""
    Inside = NDArray[np.bool_]
    """Of the same shape, true inside the mask."""


@dataclass(frozen=True)
class ImagePair:
    """A prediction and its target, float64, all of shape (slices, rows, columns).

    Attributes:
        prediction: clipped to [0, 1]; for a preset in HU, HU.
        target: values in [0, 1], or HU.
        mask: true inside the head or body; somewhere it is.
        lesion: true inside the lesion; None where the patient has none.
        covered: which slices the prediction shows, of shape (slices,); None for all of them.
        anatomy: ``chest``, ``abdomen`` or ``head``, or "" where that is not known.
    """

    prediction: Tensor
    target: Tensor
    mask: Tensor
    lesion: Tensor | None = None
    covered: Tensor | None = None
    anatomy: str = ""

    def clipped(self, low: float, high: float) -> ImagePair:
        """The same with both images clipped to a range."""
        return replace(
            self,
            prediction=self.prediction.clamp(low, high),
            target=self.target.clamp(low, high),
        )

    @cached_property
    def error(self) -> Tensor:
        """Prediction minus target at the voxels of the mask, of shape (voxels,)."""
        return (self.prediction - self.target)[self.mask]

    @cached_property
    def mean_squared_error(self) -> Tensor:
        """Over the voxels of the mask; a scalar."""
        return self.error.square().mean()

    def psnr(self, data_range: float) -> float:
        """Peak signal-to-noise ratio in dB inside the mask; infinite without an error."""
        return float(10.0 * (data_range**2 / self.mean_squared_error).log10())

    @cached_property
    def masked(self) -> tuple[Tensor, Tensor]:
        """Prediction and target with 0 outside the mask."""
        return self.prediction.where(self.mask, 0.0), self.target.where(self.mask, 0.0)

    @cached_property
    def similarity(self) -> Tensor | None:
        """SSIM of every voxel, both images 0 outside the mask; computed once for several metrics.

        None for slices that are smaller than its window.
        """
        # Imported here, as a list of metrics should not wait for it.
        from lightning_modules.metrics.ssim import WINDOW, ssim_map

        return None if min(self.mask.shape[1:]) < WINDOW else ssim_map(*self.masked)

    def mean_over_slices(self, of_slice: Callable[[Image, Image, Inside], float | None]) -> float:
        """The mean of what is measured slice by slice, both images 0 outside the mask.

        Args:
            of_slice: gets prediction, target and mask of a slice; None where the metric is not
                defined for its target and mask, whatever the prediction.

        Returns:
            The mean over the slices that the mask touches and that have a value; NaN without any.
        """
        volumes = (*(image.numpy() for image in self.masked), self.mask.numpy())
        values = [of_slice(*images) for images in zip(*volumes, strict=True) if images[2].any()]
        return fmean([value for value in values if value is not None] or [math.nan])


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One entry of this catalogue.

    Attributes:
        name: as in ``results.csv``, and after ``val/`` in ``metrics.csv``; the name of its file.
        label: as shown to readers.
        unit: as shown after numbers, or "".
        better: which way is better.
        range: smallest and largest possible value.
        decimals: digits after the point in tables, or None to choose by magnitude.
        region: what is measured; where a patient has no lesion, ``lesion`` gives no value.
        shared: whether a site may send the mean over its validation patients to the server. A
            metric with False is measured, and stays at the site.
        in_rounds: whether validation patients are measured by it in every round. A slow metric
            with False is measured on finished models alone.
        measure: the value of one patient.
        sent_up_to: where the range has no end: the largest value that a server believes. A site
            whose metric is endless is no better than the others, it is wrong.

    Raises:
        ValueError: a metric that is shared has a range without an end and no ``sent_up_to``.
    """

    name: str
    label: str
    unit: str
    better: Literal["higher", "lower"]
    range: tuple[float, float]
    decimals: int | None
    region: Literal["mask", "lesion"]
    shared: bool
    in_rounds: bool
    measure: Callable[[ImagePair], float]
    sent_up_to: float = math.inf

    def __post_init__(self) -> None:
        """Refuse a shared metric without bounds."""
        if self.shared and not all(math.isfinite(bound) for bound in self.sendable):
            raise ValueError(f"metric '{self.name}' is shared, so it needs sent_up_to")

    @property
    def sendable(self) -> tuple[float, float]:
        """Smallest and largest value that a site may send."""
        low, high = self.range
        return low, min(high, self.sent_up_to)

    def description(self) -> dict[str, Any]:
        """All but the function, ready for JSON; a range without a bound has None there."""
        return {
            "name": self.name,
            "label": self.label,
            "unit": self.unit,
            "better": self.better,
            "range": [bound if math.isfinite(bound) else None for bound in self.range],
            "decimals": self.decimals,
            "region": self.region,
            "shared": self.shared,
            "in_rounds": self.in_rounds,
        }


def image_pair(
    prediction: Tensor, target: Tensor, mask: Tensor, lesion: Tensor | None = None
) -> ImagePair:
    """The images of one patient, ready to be measured.

    Args:
        prediction: (slices, rows, columns), intensities; clipped to [0, 1].
        target: same shape, values in [0, 1].
        mask: same shape, true inside the head or brain.
        lesion: same shape, true inside the lesion; None or empty where there is none.

    Raises:
        ValueError: shapes differ or the mask is empty.
    """
    given = [prediction, target, mask, *([] if lesion is None else [lesion])]
    if len({image.shape for image in given}) > 1:
        raise ValueError("prediction, target and masks must have one shape")
    if not mask.bool().any():
        raise ValueError("the mask is empty")
    return ImagePair(
        prediction=prediction.double().clamp(0.0, 1.0),
        target=target.double(),
        mask=mask.bool(),
        lesion=lesion.bool() if lesion is not None and lesion.any() else None,
    )
