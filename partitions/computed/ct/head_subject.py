"""One computed subject of the CT tasks: one head, and what each site's scanners show of it.

Every stage draws from its own child of the subject's seed, so that the same seed gives the same
head and the same full-dose CT in every task.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from partitions.computed.acquisition import (
    noise_free_magnitude,
    receive_field,
    rician,
    tissue_signal,
)
from partitions.computed.ageing import csf_weight, draw_age, draw_lesions, ventricle_shift_mm
from partitions.computed.ct.head import (
    MARGIN_MM,
    HeadAtlas,
    HeadFractions,
    draw_skull,
    sample_head,
)
from partitions.computed.ct.head_profiles import ConeBeamScanner, CtScanner, HeadProfile
from partitions.computed.ct.hounsfield import AIR_HU, draw_hounsfield, hounsfield_image, to_int16
from partitions.computed.deformation import draw_backward_map
from partitions.computed.subject import LESION_THRESHOLD, ComputedSubject, stored
from partitions.computed.tissues import SCALP_BY_FIELD, draw_tissues
from partitions.scans.projections import (
    angles,
    attenuation,
    detect,
    hounsfield,
    project,
    reconstruct,
)

FloatArray = NDArray[np.float64]

SEEDS = ("who", "shape", "disease", "skull", "density", "ct", "low", "cone", "mr")
"""The stages that draw, each from its own child of the subject's seed."""

MARROW_SIGNAL = 0.5
"""Signal of the diploe relative to fat; the other half is bone."""

CALIBRATED_HU = 32.0
"""What a cone-beam CT is calibrated to show in the brain, between grey and white matter."""


@dataclass(frozen=True)
class Head:
    """A subject before any scanner sees it.

    Attributes:
        age: whole years.
        fractions: what each voxel holds.
        hounsfield: shape (X, Y, Z), HU without noise or blur by a scanner.
        pixel_mm: in-plane voxel size.
        mask: the head, air cells included.
    """

    age: int
    fractions: HeadFractions
    hounsfield: FloatArray
    pixel_mm: float
    mask: NDArray[np.bool_]

    @property
    def brain(self) -> NDArray[np.bool_]:
        """Voxels wholly inside the skull, for calibration."""
        return self.fractions.brain.brain > 0.99


def compute_scans(
    head: HeadAtlas, profile: HeadProfile, seed: np.random.SeedSequence, sources: Sequence[str]
) -> ComputedSubject:
    """Compute one subject's source volumes and its full-dose CT.

    Args:
        head: the anatomy to deform.
        profile: scanners, grid and population.
        seed: the subject's own seed.
        sources: some of ``t1`` (MR), ``cbct`` and ``ct_low``.
    """
    seeds = zip(SEEDS, seed.spawn(len(SEEDS)), strict=True)
    draws = {name: np.random.default_rng(child) for name, child in seeds}
    subject = draw_head(head, profile, draws)
    degrees, photons = angles(profile.ct.views), profile.ct.photons
    integrals = project(attenuation(subject.hounsfield), subject.pixel_mm, degrees)
    show = partial(ct_image, integrals, subject.pixel_mm, profile.ct)
    made: dict[str, Callable[[], NDArray[np.int16]]] = {
        "t1": lambda: mr_volume(subject, profile, draws["mr"]),
        "cbct": lambda: to_int16(cone_beam_image(subject, profile.cbct, draws["cone"])),
        "ct_low": lambda: to_int16(show(photons * profile.ct.low_dose, draws["low"])),
        "ct": lambda: to_int16(show(photons, draws["ct"])),
    }
    return ComputedSubject(
        age=subject.age,
        volumes={name: made[name]() for name in (*sources, "ct")},
        mask=subject.mask,
        lesion=subject.fractions.brain.lesion > LESION_THRESHOLD,
    )


def draw_head(head: HeadAtlas, profile: HeadProfile, draws: dict[str, np.random.Generator]) -> Head:
    """Draw one subject's head on its site's grid."""
    atlas = head.brain
    age = draw_age(profile.age_mean, profile.age_sd, draws["who"])
    shift = ventricle_shift_mm(age, individual=float(draws["who"].normal(0, 0.4)))
    shape = draw_backward_map(atlas, draws["shape"], shift, margin_mm=MARGIN_MM)
    fractions = sample_head(
        head,
        draw_lesions(atlas, age, draws["disease"]),
        shape,
        draw_skull(shape, draws["skull"]),
        profile,
        csf_weight(age),
    )
    return Head(
        age=age,
        fractions=fractions,
        hounsfield=hounsfield_image(fractions, draw_hounsfield(draws["density"])),
        pixel_mm=profile.pixel_mm,
        mask=fractions.head > 0.5,
    )


def ct_image(
    integrals: FloatArray,
    pixel_mm: float,
    scanner: CtScanner,
    photons: float,
    rng: np.random.Generator,
) -> FloatArray:
    """A CT in HU at one dose. Full and low dose share the projector and differ in photons only."""
    noisy = detect(integrals, photons, rng)
    return hounsfield(reconstruct(noisy, pixel_mm, angles(scanner.views), scanner.kernel))


def cone_beam_image(
    subject: Head, scanner: ConeBeamScanner, rng: np.random.Generator
) -> FloatArray:
    """A cone-beam CT in HU, after a one-point calibration on the brain.

    Attenuation is scaled so that the brain shows `CALIBRATED_HU` on average: air stays -1000 HU,
    and what scatter did to the rest stays visible.
    """
    degrees = angles(scanner.views)
    integrals = _seen_by_moving_views(subject, scanner, degrees, rng)
    gain = 1 + scanner.ring_sd * rng.standard_normal((integrals.shape[0], 1, 1))
    noisy = detect(integrals, scanner.photons, rng, scanner.scatter, gain)
    if scanner.field_mm is not None:
        noisy = _truncated(noisy, scanner.field_mm / subject.pixel_mm)
    image = hounsfield(reconstruct(noisy, subject.pixel_mm, degrees))
    measured = float(image[subject.brain].mean())
    return AIR_HU + (image - AIR_HU) * (CALIBRATED_HU - AIR_HU) / (measured - AIR_HU)


def mr_volume(subject: Head, profile: HeadProfile, rng: np.random.Generator) -> NDArray[np.int16]:
    """A T1-weighted MR of the head: brain, scalp and marrow; bone and air are dark but for noise.

    The signals of T1-weighted sequences are never negative, so that those of brain and scalp may
    be added as magnitudes.
    """
    scanner, fractions = profile.mr, subject.fractions
    tissues = draw_tissues(scanner.field_strength, rng)
    head = fractions.head > 0.01
    clean = noise_free_magnitude(fractions.brain, head, tissues, scanner.t1w)
    scalp = SCALP_BY_FIELD[scanner.field_strength]
    muscle, fat = (
        float(tissue_signal(scanner.t1w, scalp[name], 1.0, 1.0)) for name in ("muscle", "fat")
    )
    signals = {"muscle": muscle, "skin": muscle, "fat": fat, "diploe": MARROW_SIGNAL * fat}
    for name, signal in signals.items():
        clean = clean + signal * fractions.layers[name][head]
    spacing = (profile.pixel_mm, profile.pixel_mm, profile.slice_mm)
    image = np.zeros(head.shape)
    image[head] = clean * receive_field(head, spacing, scanner.bias_rms, rng)
    reference = float(clean[fractions.brain.wm[head] > 0.9].mean())
    noisy = rician(image, reference / scanner.snr, rng)
    return stored(noisy, scanner.level, reference, rng)


def _seen_by_moving_views(
    subject: Head, scanner: ConeBeamScanner, degrees: FloatArray, rng: np.random.Generator
) -> FloatArray:
    # The second half of the views sees the head shifted, if it moves.
    first = attenuation(subject.hounsfield)
    if scanner.motion_mm == 0:
        return project(first, subject.pixel_mm, degrees)
    direction = rng.uniform(0, 2 * np.pi)
    shift = scanner.motion_mm / subject.pixel_mm * np.array([np.cos(direction), np.sin(direction)])
    moved = ndimage.shift(first, (*shift, 0.0), order=1)
    half = len(degrees) // 2
    seen = [project(first, subject.pixel_mm, degrees[:half])]
    seen.append(project(moved, subject.pixel_mm, degrees[half:]))
    return np.concatenate(seen, axis=1)


def _truncated(integrals: FloatArray, width: float) -> FloatArray:
    # Detectors beyond the field repeat the value at its edge, the usual completion.
    margin = max(round((integrals.shape[0] - width) / 2), 0)
    kept = integrals[margin : integrals.shape[0] - margin]
    return np.pad(kept, ((margin, margin), (0, 0), (0, 0)), mode="edge")
