"""What the report says of one site: its people from the manifest, its images from the cache."""

from __future__ import annotations

import base64
import io
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from partitions.check.rules.data_sets import is_personal
from partitions.divisions.patients import MISSING, Patient, patients_of
from partitions.heterogeneity.intensities import (
    Histogram,
    features_of,
    histogram_of,
    mean_histogram,
)
from partitions.manifest import AGE, ORIGIN_SITE, PATIENT_ID, SPLITS, SiteManifest
from partitions.preparation import PreparedSite, PreparedSplit
from partitions.preparation.configuration import DOMAINS
from partitions.preparation.corrections.shifts import SHIFT
from partitions.preparation.intensities import Scale
from partitions.preparation.scaling import HOUNSFIELD

MOST_PANELS = 4
"""Patients of a site who are shown."""
SHOWN_HU = (-1000.0, 1000.0)
"""Black and white of a picture in HU, as in reports: air and dense bone."""
MOST_VALUES = 12
"""A key of the metadata with more values than this says nothing in a table."""
_NO_CATEGORY = frozenset({AGE, PATIENT_ID, SHIFT})


@dataclass(frozen=True)
class Ages:
    """Ages of a site's patients, in years; ``OLDEST`` counts as 90.

    Attributes:
        known: of how many patients the age is known.
        quartiles: 25th, 50th and 75th percentile; None where nobody's age is known.
        mean: in years, or None.
        values: every known age, where the report is made beside the patients; else empty.
    """

    known: int
    quartiles: tuple[float, float, float] | None = None
    mean: float | None = None
    values: tuple[float, ...] = ()


@dataclass(frozen=True)
class SiteImages:
    """What was measured of one domain of a site, in the mask.

    Attributes:
        patients: how many have such images.
        histogram: the mean of the patients' histograms.
        features: a row of six numbers per patient; empty where they did not leave the site.
    """

    patients: int
    histogram: Histogram
    features: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 0)))


@dataclass(frozen=True)
class SiteView:
    """One site.

    Attributes:
        site: its name.
        patients: how many.
        scans: how many subjects the manifest has; None if not known.
        splits: subjects per split.
        ages: of the patients.
        categories: key of the metadata to value to number of patients.
        images: what was measured, by domain.
        panels: pictures in base64, each with its caption.
        computed: whether the scans are computed.
    """

    site: str
    patients: int
    scans: int | None
    splits: Mapping[str, int]
    ages: Ages
    categories: Mapping[str, Mapping[str, int]]
    images: Mapping[str, SiteImages] = field(default_factory=dict)
    panels: tuple[tuple[str, str], ...] = ()
    computed: bool = False


def view_of(manifest: SiteManifest, prepared: PreparedSite | None) -> SiteView:
    """Look at one site.

    Args:
        manifest: its patients.
        prepared: its prepared slices; None leaves images out.
    """
    patients = patients_of([manifest])
    splits = Counter(record.split for record in manifest.subjects)
    opened = {} if prepared is None else {name: prepared.split(name) for name in SPLITS}
    return SiteView(
        site=manifest.site,
        patients=len(patients),
        scans=len(manifest.subjects),
        splits={name: splits[name] for name in SPLITS},
        ages=_ages(patients),
        categories=_categories(patients),
        images=_images(list(opened.values())),
        panels=tuple(_panels(opened)),
        computed=manifest.computed,
    )


def _ages(patients: Sequence[Patient]) -> Ages:
    values = [age for patient in patients if (age := patient.age()) is not None]
    if not values:
        return Ages(0)
    low, middle, high = (float(value) for value in np.percentile(values, (25, 50, 75)))
    return Ages(len(values), (low, middle, high), float(np.mean(values)), tuple(values))


def _categories(patients: Sequence[Patient]) -> dict[str, dict[str, int]]:
    """Values of the metadata that are not personal, and how many patients have them."""
    keys = {
        key
        for patient in patients
        for record in patient.records
        for key, value in record.metadata.items()
        if key not in _NO_CATEGORY and not isinstance(value, dict | list) and not is_personal(key)
    }
    return {
        key: dict(sorted(Counter(patient.category(key) for patient in patients).items()))
        for key in sorted(keys)
    }


def shown_categories(views: Sequence[SiteView]) -> dict[str, list[str]]:
    """The keys worth a table, with their values: two or more known ones, and not too many."""
    found: dict[str, set[str]] = {}
    for view in views:
        for key, counts in view.categories.items():
            found.setdefault(key, set()).update(counts)
    return {
        key: sorted(values, key=_numbers_first)
        for key, values in sorted(found.items())
        if 2 <= len(values - {MISSING}) <= MOST_VALUES and key != ORIGIN_SITE
    }


def _numbers_first(value: str) -> tuple[bool, float, str]:
    """Numbers by their size, then words by the alphabet; ``nan`` is a word, as it has no size."""
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    return (True, 0.0, value) if math.isnan(number) else (False, number, value)


def _images(splits: Sequence[PreparedSplit]) -> dict[str, SiteImages]:
    found = {}
    for domain in DOMAINS:
        measured = [
            (histogram_of(levels, mask), features_of(levels, mask))
            for split in splits
            for levels, mask in _patients_images(split, domain)
        ]
        if measured:
            histograms, features = zip(*measured, strict=True)
            found[domain] = SiteImages(
                len(measured), mean_histogram(histograms), np.stack(features)
            )
    return found


def _patients_images(
    split: PreparedSplit, domain: str
) -> Iterator[tuple[NDArray[np.uint16], NDArray[np.uint8]]]:
    """The slices of each patient's scans that have the domain, and their mask."""
    spans: dict[str, list[slice]] = {}
    for subject in split.subjects:
        if domain in subject.domains:
            spans.setdefault(subject.patient, []).append(slice(subject.start, subject.stop))
    arrays = {"source": split.source, "target": split.target}
    for scans in spans.values():
        yield (
            np.concatenate([arrays[domain][scan] for scan in scans]),
            np.concatenate([split.mask[scan] for scan in scans]),
        )


def _panels(splits: Mapping[str, PreparedSplit]) -> Iterator[tuple[str, str]]:
    """Source and target of a few patients, side by side: the slice with the largest mask."""
    shown = [
        (split, subject) for split in splits.values() for subject in split.subjects[:MOST_PANELS]
    ]
    for split, subject in shown[:MOST_PANELS]:
        areas = split.mask[subject.start : subject.stop].sum(axis=(1, 2))
        index = subject.start + int(areas.argmax())
        images = {"source": split.source[index], "target": split.target[index]}
        parts = [
            grey(images[domain], subject.scales.get(domain))
            for domain in DOMAINS
            if domain in subject.domains
        ]
        caption = f"{subject.subject}: {' and '.join(subject.domains)}"
        yield caption, _png(np.concatenate(parts, axis=1))


def grey(levels: NDArray[np.uint16], scale: Scale | None) -> NDArray[np.uint8]:
    """Prepared levels as they are shown: HU through the window `SHOWN_HU`, all else as it is.

    Args:
        levels: any shape.
        scale: of the volume they belong to.
    """
    if scale is None or scale.unit != HOUNSFIELD:
        return (levels >> 8).astype(np.uint8)
    low, high = SHOWN_HU
    part = (scale.levels_to_unit(levels) - low) / (high - low)
    return np.asarray(255 * np.clip(part, 0, 1), dtype=np.uint8)


def _png(image: NDArray[np.uint8]) -> str:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG", optimize=True)
    return base64.b64encode(stream.getvalue()).decode()
