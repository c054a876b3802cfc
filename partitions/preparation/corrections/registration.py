"""Lay a subject's target over its source by a rigid registration that is never taken on trust.

Mattes mutual information (32 bins, a fifth of the voxels, seeded), regular-step gradient descent
at a quarter, a half and the full resolution of 2 mm, from a start at the centres of mass.

A registration is refused where it got no better than its start, the foregrounds do not overlap, it
turned or shifted too far, it had not ended, or a mirrored target fits about as well: left and right
exchanged pass every other test.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedi2i.errors import DataError
from partitions.preparation.corrections.itk_volume import itk_image, one_thread, world_matrix
from partitions.preparation.corrections.placement import LEAST_OVERLAP, Matrix, overlap
from partitions.scans.volume import Volume

if TYPE_CHECKING:
    import SimpleITK

SEED = 2026

RESOLUTION_MM = 2.0
"""At 1 mm it takes several times as long for no gain worth it."""

BINS, SAMPLED, ITERATIONS = 32, 0.2, 200
SHRINK, SMOOTHING_MM = (4, 2, 1), (2, 1, 0)
"""By level."""

MOST_DEGREES, MOST_SHIFT_MM = 30.0, 50.0

LEAST_GAIN = 1.1
"""How much better the metric must be than that of the mirrored target."""


@dataclass(frozen=True)
class Registration:
    """Where a target lies against its source, and what speaks for it.

    Attributes:
        matrix: 4x4, position in the source to position in the target, mm, RAS.
        seed: of the voxels that the metric looks at.
        before: metric at the start; the more negative, the better.
        after: metric at the end.
        mirrored: metric of the target with left and right exchanged, registered likewise.
        overlap: Dice coefficient of the foregrounds.
        degrees: how far it turns.
        shift_mm: how far it moves the middle of the source's foreground.
        stopped: why the optimizer stopped at the last level.
        version: of SimpleITK.
    """

    matrix: Matrix
    seed: int
    before: float
    after: float
    mirrored: float
    overlap: float
    degrees: float
    shift_mm: float
    stopped: str
    version: str

    def to_json(self) -> dict[str, Any]:
        """What a subject's record keeps of it."""
        return asdict(self)

    def faults(self) -> Iterator[str]:
        """What speaks against it; nothing where it is to be believed."""
        if not self.after < self.before:
            yield f"its metric got no better ({self.before:.3f} to {self.after:.3f})"
        if self.overlap < LEAST_OVERLAP:
            yield f"the foregrounds overlap by {self.overlap:.2f}, less than {LEAST_OVERLAP:g}"
        if self.degrees > MOST_DEGREES or self.shift_mm > MOST_SHIFT_MM:
            yield f"it turns by {self.degrees:.0f} degrees and shifts by {self.shift_mm:.0f} mm"
        if "aximum number of iterations" in self.stopped:
            yield f"it had not ended after {ITERATIONS} iterations"
        # Both are negative: a metric that is a tenth better is a tenth farther from 0.
        if not self.after <= min(LEAST_GAIN * self.mirrored, 0):
            yield (
                f"with left and right exchanged it fits about as well (metric {self.after:.3f} "
                f"against {self.mirrored:.3f}), so that one of the two scans may be mirrored"
            )


def register(
    source: Volume,
    target: Volume,
    foregrounds: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    seed: int = SEED,
) -> Registration:
    """Find where a target lies against its source.

    Args:
        source: stays as it is.
        target: is moved; it may have a grid of its own.
        foregrounds: head or body in the source and in the target, on their grids.
        seed: of the voxels that the metric looks at.

    Raises:
        DataError: the registration cannot be believed; the sentence says why.
    """
    found = _registered(source, target, foregrounds, seed)
    faults = list(found.faults())
    if faults:
        raise DataError(
            f"{target.path}: cannot be registered to {source.path.name}: {'; '.join(faults)}; look "
            "at both scans, register them by other means, or leave the subject out"
        )
    return found


def _registered(
    source: Volume,
    target: Volume,
    foregrounds: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    seed: int,
) -> Registration:
    import SimpleITK

    one_thread()
    fixed, moving = _at_resolution(itk_image(source)), _at_resolution(itk_image(target))
    start = _centred(fixed, moving)
    transform, stopped = _optimized(fixed, moving, start, seed)
    # The target's first axis runs from right to left, see `Volume`.
    other = _at_resolution(itk_image(target, target.data[::-1]))
    mirrored, _ = _optimized(fixed, other, _centred(fixed, other), seed)
    matrix = world_matrix(transform)
    rows = tuple(tuple(float(value) for value in row) for row in matrix)
    middle = source.affine @ [*np.argwhere(foregrounds[0]).mean(axis=0), 1.0]
    return Registration(
        matrix=rows,
        seed=seed,
        before=_metric(fixed, moving, start, seed),
        after=_metric(fixed, moving, transform, seed),
        mirrored=_metric(fixed, other, mirrored, seed),
        overlap=overlap(foregrounds, source, target, rows),
        degrees=math.degrees(math.acos(float(np.clip((np.trace(matrix[:3, :3]) - 1) / 2, -1, 1)))),
        shift_mm=float(np.linalg.norm((matrix @ middle - middle)[:3])),
        stopped=stopped,
        version=SimpleITK.Version_VersionString(),
    )


def _at_resolution(image: SimpleITK.Image) -> SimpleITK.Image:
    """Cubes of 2 mm over the same field of view."""
    import SimpleITK

    extent = [n * step for n, step in zip(image.GetSize(), image.GetSpacing(), strict=True)]
    size = [max(round(length / RESOLUTION_MM), 1) for length in extent]
    inset = [(RESOLUTION_MM - step) / 2 for step in image.GetSpacing()]
    index = [move / step for move, step in zip(inset, image.GetSpacing(), strict=True)]
    origin = image.TransformContinuousIndexToPhysicalPoint(index)
    spacing, direction = [RESOLUTION_MM] * 3, image.GetDirection()
    lowest = float(SimpleITK.GetArrayViewFromImage(image).min())
    return SimpleITK.Resample(
        SimpleITK.Cast(image, SimpleITK.sitkFloat32),
        size,
        SimpleITK.Transform(3, SimpleITK.sitkIdentity),
        SimpleITK.sitkLinear,
        origin,
        spacing,
        direction,
        lowest,
    )


def _centred(fixed: SimpleITK.Image, moving: SimpleITK.Image) -> SimpleITK.Transform:
    """The start: both centres of mass on one another. Voxels below the lowest weigh nothing."""
    import SimpleITK

    rigid = SimpleITK.Euler3DTransform()
    weights = [
        image - float(SimpleITK.GetArrayViewFromImage(image).min()) for image in (fixed, moving)
    ]
    how = SimpleITK.CenteredTransformInitializerFilter.MOMENTS
    return SimpleITK.CenteredTransformInitializer(*weights, rigid, how)


def _optimized(
    fixed: SimpleITK.Image,
    moving: SimpleITK.Image,
    start: SimpleITK.Transform,
    seed: int,
) -> tuple[SimpleITK.Transform, str]:
    import SimpleITK

    rigid = SimpleITK.Euler3DTransform(start)
    method = _method(rigid, seed)
    method.Execute(fixed, moving)
    return rigid, str(method.GetOptimizerStopConditionDescription())


def _method(transform: SimpleITK.Transform, seed: int) -> SimpleITK.ImageRegistrationMethod:
    """A registration that changes the transform that it is given."""
    import SimpleITK

    method = SimpleITK.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(BINS)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(SAMPLED, seed)
    method.SetInterpolator(SimpleITK.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=1.0, minStep=1e-3, numberOfIterations=ITERATIONS, relaxationFactor=0.5
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel(list(SHRINK))
    method.SetSmoothingSigmasPerLevel(list(SMOOTHING_MM))
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetInitialTransform(transform, inPlace=True)
    return method


def _metric(
    fixed: SimpleITK.Image, moving: SimpleITK.Image, transform: SimpleITK.Transform, seed: int
) -> float:
    return float(_method(transform, seed).MetricEvaluate(fixed, moving))
