"""The five computed sites: scanner, protocol, image grid and population of each.

The names are neutral words. The protocols are typical of clinical 2D brain imaging and belong to no
real site. Times are in ms, lengths in mm, angles in degrees.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

CENTRE_MM = (0.0, -17.0, 4.0)
"""Middle of the field of view of the brain examinations, MNI coordinates."""


class ImageGrid(Protocol):
    """Where a site's voxels lie; see `SiteProfile`."""

    @property
    def pixel_mm(self) -> float:
        """In-plane spacing."""

    @property
    def matrix(self) -> int:
        """Pixels along each side of the square slice."""

    @property
    def slice_mm(self) -> float:
        """Slice thickness."""

    @property
    def slices(self) -> int:
        """Number of slices."""

    @property
    def centre_mm(self) -> tuple[float, float, float]:
        """Middle of the field of view, MNI coordinates."""

    @property
    def orientation(self) -> str:
        """Stored voxel axes, as nibabel axis codes."""


@dataclass(frozen=True)
class SpinEcho:
    """A spin-echo protocol: repetition time and echo time in ms."""

    tr: float
    te: float


@dataclass(frozen=True)
class GradientEcho:
    """A spoiled gradient-echo protocol: repetition and echo time in ms, flip angle in degrees."""

    tr: float
    te: float
    flip: float


@dataclass(frozen=True)
class InversionRecovery:
    """An inversion-recovery spin-echo protocol: repetition, echo and inversion time in ms."""

    tr: float
    te: float
    ti: float


Sequence = SpinEcho | GradientEcho | InversionRecovery


@dataclass(frozen=True)
class SiteProfile:
    """One computed site.

    Attributes:
        site: its name in the federation.
        field_strength: tesla.
        t1w: protocol of the T1-weighted volume.
        t2w: protocol of the T2-weighted volume.
        flair: protocol of the FLAIR volume.
        pixel_mm: in-plane spacing.
        matrix: pixels along each side of the square slice.
        slice_mm: slice thickness, without gaps.
        slices: number of slices.
        orientation: stored voxel axes, as nibabel axis codes.
        snr: mean white-matter signal over the noise's standard deviation, in each volume.
        bias_rms: root mean square of the logarithm of the receive field inside the brain.
        level: stored intensity of white matter, on average, per volume (t1w, t2w, flair).
        age_mean: years.
        age_sd: years.
    """

    site: str
    field_strength: float
    t1w: SpinEcho | GradientEcho
    t2w: SpinEcho
    flair: InversionRecovery
    pixel_mm: float
    matrix: int
    slice_mm: float
    slices: int
    orientation: str
    snr: float
    bias_rms: float
    level: tuple[float, float, float]
    age_mean: float
    age_sd: float

    @property
    def centre_mm(self) -> tuple[float, float, float]:
        """Middle of the field of view, MNI coordinates."""
        return CENTRE_MM


NORTH = SiteProfile(
    site="north",
    field_strength=3.0,
    t1w=GradientEcho(tr=20, te=3.5, flip=25),
    t2w=SpinEcho(tr=5000, te=100),
    flair=InversionRecovery(tr=9000, te=120, ti=2480),
    pixel_mm=1.3,
    matrix=160,
    slice_mm=4.0,
    slices=42,
    orientation="RAS",
    snr=45,
    bias_rms=0.10,
    level=(900, 300, 350),
    age_mean=42,
    age_sd=13,
)

EAST = SiteProfile(
    site="east",
    field_strength=1.5,
    t1w=SpinEcho(tr=500, te=14),
    t2w=SpinEcho(tr=4000, te=85),
    flair=InversionRecovery(tr=8000, te=110, ti=2350),
    pixel_mm=1.6,
    matrix=128,
    slice_mm=5.0,
    slices=34,
    orientation="LAS",
    snr=28,
    bias_rms=0.06,
    level=(420, 380, 260),
    age_mean=50,
    age_sd=14,
)

SOUTH = SiteProfile(
    site="south",
    field_strength=3.0,
    t1w=SpinEcho(tr=650, te=10),
    t2w=SpinEcho(tr=6500, te=80),
    flair=InversionRecovery(tr=10000, te=130, ti=2580),
    pixel_mm=1.2,
    matrix=176,
    slice_mm=4.5,
    slices=38,
    orientation="LPS",
    snr=36,
    bias_rms=0.17,
    level=(1500, 700, 500),
    age_mean=35,
    age_sd=9,
)

WEST = SiteProfile(
    site="west",
    field_strength=1.5,
    t1w=SpinEcho(tr=600, te=17),
    t2w=SpinEcho(tr=3200, te=115),
    flair=InversionRecovery(tr=7000, te=100, ti=2210),
    pixel_mm=1.7,
    matrix=120,
    slice_mm=5.5,
    slices=31,
    orientation="RPS",
    snr=14,
    bias_rms=0.05,
    level=(240, 150, 160),
    age_mean=69,
    age_sd=8,
)

ISLAND = SiteProfile(
    site="island",
    field_strength=1.5,
    t1w=GradientEcho(tr=30, te=6, flip=40),
    t2w=SpinEcho(tr=4500, te=95),
    flair=InversionRecovery(tr=9000, te=140, ti=2480),
    pixel_mm=1.5,
    matrix=144,
    slice_mm=5.0,
    slices=34,
    orientation="LPI",
    snr=22,
    bias_rms=0.13,
    level=(650, 520, 220),
    age_mean=60,
    age_sd=11,
)

PROFILES = (NORTH, EAST, SOUTH, WEST, ISLAND)
"""All sites, in the order in which seeds count them."""
