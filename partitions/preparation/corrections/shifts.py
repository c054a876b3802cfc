"""Shifts of images that make one simulated hospital unlike another, applied when it is prepared.

They act on intensities in [0, 1], on the acquired voxels, before resampling. A severity of 0 leaves
an image as it is, bit for bit; 1 is a strong shift. What a shift draws depends on its seed, the
site and the patient alone, so that a patient's scans are shifted alike, in any order. SciPy is
imported where images are shifted, as reading a shift should not wait for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from fedi2i.errors import ConfigError
from fedi2i.typed_config import check_values, number, record_from, word
from partitions.manifest import SubjectRecord
from partitions.preparation.corrections.dose import with_dose
from partitions.preparation.intensities import Scale
from partitions.preparation.scaling import HOUNSFIELD

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]

SHIFT = "shift"
"""Key of the metadata: how a subject's images are changed, a `Shift` without its zeros."""

_GAMMA = 2.0
_NOISE = 0.1
_BIAS = 0.3
_COARSER = 3.0
_SMALLEST_DOSE = 0.05
_MOVED_MM, _TURNED_DEGREES = 6.0, 6.0
_FWHM = 2 * np.sqrt(2 * np.log(2))
"""Full width at half maximum of a Gaussian, over its standard deviation."""


@dataclass(frozen=True)
class Shift:
    """How the images of a site are changed; severities from 0 (not at all) to 1.

    Attributes:
        contrast: gamma inside the mask, at 1 about 2 at one site and 1/2 at another: the site draws
            the direction, the patient the amount.
        noise: Rician noise as of MR magnitude images, at 1 with a standard deviation of 0.1 of the
            intensity range. It is no model of noise in CT, which `dose` has.
        bias: a smooth field that multiplies, at 1 with a standard deviation of 0.3 in its
            logarithm inside the mask.
        resolution: coarser pixels within the slice, at 1 three times as wide.
        misregistration: the source is moved against target and masks, at 1 by 6 mm and 6 degrees
            at most, within the slice.
        dose: a CT in HU at 0.05 to the power of the severity of its dose: a quarter at 0.46, a
            tenth at 0.77, a twentieth at 1.
        on: which images: ``both``, ``source`` or ``target``; misregistration moves the source.
        seed: of what is drawn.
    """

    contrast: float = number(0.0, most=1.0)
    noise: float = number(0.0, most=1.0)
    bias: float = number(0.0, most=1.0)
    resolution: float = number(0.0, most=1.0)
    misregistration: float = number(0.0, most=1.0)
    dose: float = number(0.0, most=1.0)
    on: str = word("both", "both", "source", "target")
    seed: int = 0


@dataclass(frozen=True)
class _Place:
    """What a shift of one image depends on besides its severity.

    Attributes:
        mask: the head or brain, shape (x, y, z).
        edges: voxel edges in mm.
        scale: what the intensities 0 and 1 are.
        site: draws that all patients of a site have in common.
        patient: draws of this patient and image.
    """

    mask: Mask
    edges: tuple[float, float, float]
    scale: Scale
    site: np.random.Generator
    patient: np.random.Generator


def shift_entry(shift: Shift) -> dict[str, Any]:
    """What the metadata hold of a shift: no zeros."""
    return {key: value for key, value in asdict(shift).items() if value != 0 or key == "seed"}


def shifted(
    images: Mapping[str, Image],
    mask: Mask,
    edges: tuple[float, float, float],
    record: SubjectRecord,
    scales: Mapping[str, Scale],
) -> dict[str, Image]:
    """The images of a subject as its site's shift leaves them; unchanged where it has none.

    Args:
        images: ``source`` and ``target`` or one of them, in [0, 1], shape (x, y, z); further
            contrasts of the source are shifted as it is, with draws of their own but for the
            place of a misregistration.
        mask: the head or brain, the same shape; it is not moved.
        edges: voxel edges in mm.
        record: whose images these are; its metadata say the shift.
        scales: of the images, by the same names.

    Returns:
        The images by the same names, in [0, 1].

    Raises:
        ConfigError: the metadata hold a shift that cannot be, or a dose of what is no CT in HU.
    """
    if SHIFT not in record.metadata:
        return dict(images)
    where = f"subject '{record.subject}': {SHIFT}"
    shift = record_from(Shift, record.metadata[SHIFT], where)
    check_values(shift, where)
    found = {}
    for name, image in images.items():
        domain = "target" if name == "target" else "source"
        for kind, change in _CHANGES.items():
            severity = getattr(shift, kind)
            moves = kind == "misregistration"
            if severity and (domain == "source" if moves else shift.on in ("both", domain)):
                if kind == "dose" and scales[name].unit != HOUNSFIELD:
                    raise ConfigError(
                        f"{where}.dose is of a CT, and the {name} is not scaled in HU; set "
                        f"{domain}_scaling to a window in HU, or restrict the shift by 'on'"
                    )
                draws = _draws(shift.seed, record, kind, domain if moves else name)
                place = _Place(mask, edges, scales[name], *draws)
                image = np.clip(change(image, severity, place), 0.0, 1.0).astype(np.float32)
        found[name] = image
    return found


def _draws(
    seed: int, record: SubjectRecord, kind: str, image: str
) -> tuple[np.random.Generator, np.random.Generator]:
    words = [crc32(text.encode()) for text in (kind, record.site, record.patient, image)]
    return np.random.default_rng([seed, *words[:2]]), np.random.default_rng([seed, *words])


def _contrast(image: Image, severity: float, place: _Place) -> NDArray[Any]:
    direction = place.site.choice((-1.0, 1.0))
    gamma = _GAMMA ** (direction * severity * place.patient.uniform(0.8, 1.2))
    return np.where(place.mask, image**gamma, image)


def _noise(image: Image, severity: float, place: _Place) -> NDArray[Any]:
    """The magnitude of a complex image with Gaussian noise in both parts.

    Gudbjartsson and Patz, Magnetic Resonance in Medicine 1995, doi:10.1002/mrm.1910340618.
    """
    real, imaginary = place.patient.normal(0.0, _NOISE * severity, (2, *image.shape))
    return np.asarray(np.hypot(image + real, imaginary))


def _bias(image: Image, severity: float, place: _Place) -> NDArray[Any]:
    """Multiply by the exponential of a second-order polynomial, centred in the mask."""
    axes = [np.linspace(-1, 1, side) for side in image.shape]
    x, y, z = np.meshgrid(*axes, indexing="ij", sparse=True)
    terms = (x, y, z, x * y, x * z, y * z, x**2, y**2, z**2)
    field = np.zeros(image.shape)
    for weight, term in zip(place.patient.normal(size=len(terms)), terms, strict=True):
        field += weight * term
    inside = field[place.mask]
    field = (field - inside.mean()) / max(float(inside.std()), 1e-12)
    return np.asarray(image * np.exp(_BIAS * severity * field))


def _resolution(image: Image, severity: float, place: _Place) -> NDArray[Any]:
    """Blur to the width of larger pixels, sample at them, and come back by interpolation."""
    from scipy import ndimage

    factor = 1 + (_COARSER - 1) * severity
    # Acquired pixels already have a width of 1: only what is missing to the larger one is added.
    sigma = float(np.sqrt(factor**2 - 1)) / _FWHM
    blurred = ndimage.gaussian_filter(image, (sigma, sigma, 0), mode="nearest")
    small = [max(1, round(side / factor)) for side in image.shape[:2]]
    return _resized(_resized(blurred, small), list(image.shape[:2]))


def _resized(image: NDArray[Any], sides: list[int]) -> NDArray[Any]:
    from scipy import ndimage

    zoom = [new / old for new, old in zip(sides, image.shape[:2], strict=True)]
    found: NDArray[Any] = ndimage.zoom(
        image, (*zoom, 1), order=1, mode="nearest", grid_mode=True, prefilter=False
    )
    return found


def _dose(image: Image, severity: float, place: _Place) -> NDArray[Any]:
    scan = place.scale.to_unit(image)
    noisy = with_dose(scan, place.edges, _SMALLEST_DOSE**severity, place.patient)
    return place.scale.to_intensity(noisy)


def _misregistration(image: Image, severity: float, place: _Place) -> NDArray[Any]:
    """Turn and move within the slice, about the middle of the mask; what comes in is 0."""
    from scipy import ndimage

    angle = np.deg2rad(severity * _TURNED_DEGREES * place.patient.uniform(-1, 1))
    direction = place.patient.uniform(0, 2 * np.pi)
    way = severity * _MOVED_MM * np.array([np.cos(direction), np.sin(direction)])
    edges = np.array(place.edges[:2])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = np.eye(3)
    matrix[:2, :2] = turn * edges / edges[:, np.newaxis]  # in voxels, which need not be square
    centre = np.array([axis.mean() for axis in np.nonzero(place.mask)])
    moved = np.array([*(way / edges), 0.0])
    found: NDArray[Any] = ndimage.affine_transform(
        image, matrix, centre - matrix @ (centre + moved), order=1, mode="constant"
    )
    return found


_CHANGES: Mapping[str, Callable[[Image, float, _Place], NDArray[Any]]] = {
    "misregistration": _misregistration,
    "resolution": _resolution,
    "contrast": _contrast,
    "bias": _bias,
    "dose": _dose,
    "noise": _noise,
}
"""In the order in which they act: noise is of the receiver, and comes last."""
