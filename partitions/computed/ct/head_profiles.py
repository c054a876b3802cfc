"""The computed sites of the CT tasks: grid, MR scanner, CT scanner and cone-beam CT of each.

As in :mod:`partitions.computed.site_profiles` the names are neutral words and no real site is
meant. All sites see 256 mm in the plane, which holds every head, and slices from below the
cerebellum to above the vertex; the shell around the brain stem lies outside the field of view.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from partitions.computed.site_profiles import GradientEcho, SpinEcho

CENTRE_MM = (0.0, -17.0, 21.0)
"""Middle of the field of view, MNI coordinates."""

COARSER = 2
"""How much larger the pixels of the smoke size are in the plane."""

FEWER = 3
"""How many times fewer views and slices the smoke size has, each as many times thicker."""


@dataclass(frozen=True)
class MrScanner:
    """A T1-weighted MR examination.

    Attributes:
        field_strength: tesla.
        t1w: the protocol.
        snr: mean white-matter signal over the noise's standard deviation.
        bias_rms: root mean square of the logarithm of the receive field inside the head.
        level: stored intensity of white matter, on average.
    """

    field_strength: float
    t1w: SpinEcho | GradientEcho
    snr: float
    bias_rms: float
    level: float


@dataclass(frozen=True)
class CtScanner:
    """A CT scanner.

    Attributes:
        photons: photons per ray in air at full dose.
        low_dose: photons at low dose, relative to full dose.
        views: projections over half a turn.
        kernel: filter of the back-projection, see `partitions.scans.projections.KERNELS`.
    """

    photons: float
    low_dose: float
    views: int
    kernel: str


@dataclass(frozen=True)
class ConeBeamScanner:
    """A cone-beam CT; the last three artefacts are off unless set.

    Attributes:
        photons: photons per ray in air.
        views: projections over half a turn; few of them make streaks.
        scatter: scattered photons relative to the primary ones of the central ray.
        field_mm: width of the detector; None sees the whole head.
        ring_sd: standard deviation of the detectors' gain errors.
        motion_mm: how far the head moves, in the plane, half-way through the examination.
    """

    photons: float
    views: int
    scatter: float
    field_mm: float | None = None
    ring_sd: float = 0.0
    motion_mm: float = 0.0


@dataclass(frozen=True)
class HeadProfile:
    """One computed site of the CT tasks; `SiteProfile` says what the shared fields mean."""

    site: str
    pixel_mm: float
    matrix: int
    slice_mm: float
    slices: int
    orientation: str
    age_mean: float
    age_sd: float
    mr: MrScanner
    ct: CtScanner
    cbct: ConeBeamScanner

    @property
    def centre_mm(self) -> tuple[float, float, float]:
        """Middle of the field of view, MNI coordinates."""
        return CENTRE_MM


def coarse(profile: HeadProfile) -> HeadProfile:
    """The same site with fewer, larger voxels and fewer views, for the smoke size."""
    return replace(
        profile,
        pixel_mm=profile.pixel_mm * COARSER,
        matrix=profile.matrix // COARSER,
        slice_mm=profile.slice_mm * FEWER,
        slices=profile.slices // FEWER,
        ct=replace(profile.ct, views=profile.ct.views // FEWER),
        cbct=replace(profile.cbct, views=profile.cbct.views // FEWER),
    )


NORTH = HeadProfile(
    site="north",
    pixel_mm=2.0,
    matrix=128,
    slice_mm=5.0,
    slices=33,
    orientation="RAS",
    age_mean=42,
    age_sd=13,
    mr=MrScanner(3.0, GradientEcho(tr=20, te=3.5, flip=25), snr=45, bias_rms=0.10, level=900),
    ct=CtScanner(photons=1e6, low_dose=0.25, views=300, kernel="shepp-logan"),
    cbct=ConeBeamScanner(photons=1e5, views=180, scatter=0.2),
)

EAST = HeadProfile(
    site="east",
    pixel_mm=2.1,
    matrix=122,
    slice_mm=4.5,
    slices=36,
    orientation="LAS",
    age_mean=50,
    age_sd=14,
    mr=MrScanner(1.5, SpinEcho(tr=500, te=14), snr=28, bias_rms=0.06, level=420),
    ct=CtScanner(photons=7e5, low_dose=0.15, views=240, kernel="cosine"),
    cbct=ConeBeamScanner(photons=8e4, views=150, scatter=0.35),
)

SOUTH = HeadProfile(
    site="south",
    pixel_mm=1.9,
    matrix=136,
    slice_mm=5.0,
    slices=33,
    orientation="LPS",
    age_mean=35,
    age_sd=9,
    mr=MrScanner(3.0, SpinEcho(tr=650, te=10), snr=36, bias_rms=0.17, level=1500),
    ct=CtScanner(photons=1.5e6, low_dose=0.10, views=360, kernel="ramp"),
    cbct=ConeBeamScanner(photons=1.5e5, views=240, scatter=0.5),
)

ISLAND = HeadProfile(
    site="island",
    pixel_mm=2.0,
    matrix=128,
    slice_mm=5.5,
    slices=30,
    orientation="LPI",
    age_mean=60,
    age_sd=11,
    mr=MrScanner(1.5, GradientEcho(tr=30, te=6, flip=40), snr=22, bias_rms=0.13, level=650),
    ct=CtScanner(photons=5e5, low_dose=0.25, views=270, kernel="hamming"),
    cbct=ConeBeamScanner(photons=6e4, views=120, scatter=0.3),
)

PROFILES = (NORTH, EAST, SOUTH, ISLAND)
"""All sites, in the order in which seeds count them."""
