"""What the computed CT is like: one head, its scans, their errors and the time they take.

The figures of docs/computed-cohort.md come from here:

    python benchmarks/computed_ct.py
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from partitions.computed.ct.head import load_head
from partitions.computed.ct.head_profiles import NORTH
from partitions.computed.ct.head_subject import (
    SEEDS,
    cone_beam_image,
    ct_image,
    draw_head,
)
from partitions.scans.projections import angles, attenuation, project

LOW_DOSE = 0.25


@dataclass(frozen=True)
class ImageError:
    """A scan against the head that it was made of, in HU.

    Attributes:
        name: of the scan.
        bias: mean error in the brain.
        spread: standard deviation of the error there.
        absolute: mean absolute error over the head.
    """

    name: str
    bias: float
    spread: float
    absolute: float


@dataclass(frozen=True)
class HeadFigures:
    """One head: volumes in ml, the largest value in HU, the largest line integral, seconds."""

    head: float
    bone: float
    largest: float
    line_integral: float
    errors: tuple[ImageError, ...]
    seconds: float


def head_figures(seed: int = 5) -> HeadFigures:
    """Draw a head of the site north and scan it; the atlas is loaded before the clock runs."""
    atlas = load_head()
    started = time.process_time()
    spawned = np.random.SeedSequence(seed).spawn(len(SEEDS))
    draws = {name: np.random.default_rng(part) for name, part in zip(SEEDS, spawned, strict=True)}
    subject = draw_head(atlas, NORTH, draws)
    rays = project(attenuation(subject.hounsfield), subject.pixel_mm, angles(NORTH.ct.views))
    photons = NORTH.ct.photons
    images = {
        "full dose": ct_image(rays, subject.pixel_mm, NORTH.ct, photons, draws["ct"]),
        "a quarter": ct_image(rays, subject.pixel_mm, NORTH.ct, LOW_DOSE * photons, draws["low"]),
        "cone beam": cone_beam_image(subject, NORTH.cbct, draws["cone"]),
    }
    millilitres = NORTH.pixel_mm**2 * NORTH.slice_mm / 1000
    layers = subject.fractions.layers
    errors = []
    for name, image in images.items():
        error = image - subject.hounsfield
        inside = error[subject.brain]
        errors.append(
            ImageError(
                name,
                float(inside.mean()),
                float(inside.std()),
                float(np.abs(error[subject.mask]).mean()),
            )
        )
    return HeadFigures(
        head=float(subject.mask.sum() * millilitres),
        bone=float((layers["compact"] + layers["diploe"]).sum() * millilitres),
        largest=float(subject.hounsfield.max()),
        line_integral=float(rays.max()),
        errors=tuple(errors),
        seconds=time.process_time() - started,
    )


def main() -> None:
    """Print the figures."""
    found = head_figures()
    print(f"head {found.head:.0f} ml, bone {found.bone:.0f} ml, up to {found.largest:.0f} HU")
    print(f"largest line integral {found.line_integral:.1f}")
    for error in found.errors:
        print(
            f"{error.name:<10} brain: mean error {error.bias:+.1f}, standard deviation "
            f"{error.spread:.1f} HU; head: mean absolute error {error.absolute:.1f} HU"
        )
    print(f"{found.seconds:.1f} s of one core")


if __name__ == "__main__":
    main()
