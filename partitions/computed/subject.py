"""One computed subject: draw who it is, compute what the scanner of its site stores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from partitions.computed.acquisition import noise_free_magnitude, receive_field, rician
from partitions.computed.ageing import csf_weight, draw_age, draw_lesions, ventricle_shift_mm
from partitions.computed.anatomy import Fractions, sample_fractions
from partitions.computed.atlas import Atlas
from partitions.computed.ct.head_profiles import HeadProfile
from partitions.computed.deformation import draw_backward_map
from partitions.computed.site_profiles import SiteProfile
from partitions.computed.tissues import Tissue, draw_tissues

FloatArray = NDArray[np.float64]

LESION_THRESHOLD = 0.25
"""Lesion fraction from which a voxel belongs to the lesion mask."""

LARGEST_INT16 = 32767


@dataclass(frozen=True)
class PlannedSubject:
    """A subject before it is computed: its name, site, split, seed and task."""

    name: str
    profile: SiteProfile | HeadProfile
    split: str
    entropy: int
    spawn_key: tuple[int, int]
    task: str = "mr"

    def seed(self) -> np.random.SeedSequence:
        """The subject's own seed, the same however many others are computed."""
        return np.random.SeedSequence(self.entropy, spawn_key=self.spawn_key)


@dataclass(frozen=True)
class ComputedSubject:
    """The volumes of one subject, all of shape (X, Y, Z), axes right, anterior, superior.

    Attributes:
        age: whole years.
        volumes: int16, by sequence. MR in arbitrary units, CT in HU.
        mask: what was examined: the brain of the MR cohort, else the head.
        lesion: lesion mask; may be empty.
    """

    age: int
    volumes: dict[str, NDArray[np.int16]]
    mask: NDArray[np.bool_]
    lesion: NDArray[np.bool_]


def compute_subject(
    atlas: Atlas, profile: SiteProfile, seed: np.random.SeedSequence
) -> ComputedSubject:
    """Compute one subject; the same seed gives the same voxels.

    Args:
        atlas: the anatomy to deform.
        profile: scanner, protocol and population.
        seed: the subject's own seed; each stage draws from its own child.
    """
    who, shape, disease, chemistry, coil, noise = map(np.random.default_rng, seed.spawn(6))
    age = draw_age(profile.age_mean, profile.age_sd, who)
    shift = ventricle_shift_mm(age, individual=float(who.normal(0, 0.4)))
    fractions = sample_fractions(
        atlas,
        draw_lesions(atlas, age, disease),
        draw_backward_map(atlas, shape, shift),
        profile,
        csf_weight(age),
    )
    brain = fractions.brain > 0.5
    tissues = draw_tissues(profile.field_strength, chemistry)
    return ComputedSubject(
        age=age,
        volumes=_scan(fractions, brain, tissues, profile, coil, noise),
        mask=brain,
        lesion=(fractions.lesion > LESION_THRESHOLD) & brain,
    )


def _scan(
    fractions: Fractions,
    brain: NDArray[np.bool_],
    tissues: dict[str, Tissue],
    profile: SiteProfile,
    coil: np.random.Generator,
    noise: np.random.Generator,
) -> dict[str, NDArray[np.int16]]:
    spacing = (profile.pixel_mm, profile.pixel_mm, profile.slice_mm)
    field = receive_field(brain, spacing, profile.bias_rms, coil)
    white = fractions.wm[brain] > 0.9
    sequences = {"t1": profile.t1w, "t2": profile.t2w, "flair": profile.flair}
    volumes = {}
    for (name, sequence), level in zip(sequences.items(), profile.level, strict=True):
        clean = noise_free_magnitude(fractions, brain, tissues, sequence)
        reference = float(clean[white].mean())
        noisy = rician(clean * field, reference / profile.snr, noise)
        volumes[name] = np.zeros(brain.shape, dtype=np.int16)
        volumes[name][brain] = stored(noisy, level, reference, noise)
    return volumes


def stored(
    magnitude: FloatArray, level: float, reference: float, rng: np.random.Generator
) -> NDArray[np.int16]:
    """Whole numbers as a scanner stores them, ``reference`` near ``level``; gains differ."""
    gain = level * float(np.exp(np.clip(rng.normal(0, 0.1), -0.25, 0.25))) / reference
    return np.clip(np.rint(gain * magnitude), 0, LARGEST_INT16).astype(np.int16)
