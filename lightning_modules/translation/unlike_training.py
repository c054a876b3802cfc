"""How far a new scan lies from the scans of the training, as prepared slices show it.

Of intensities the measure is the Wasserstein-1 distance (Ramdas et al., Entropy 2017,
doi:10.3390/e19020047) of histograms on one grid: the area between the two cumulative histograms, in
parts of the scale. It is also the area between the two quantile functions, which a few percentiles
tell well enough: they are all that the sites of a federation say of their patients, see
``source_percentiles``.

A network that is shown neighbouring slices has also learnt what they look like at the training's
distances. Preparation never resamples between slices, so that a scan of other slices shows it
neighbours from elsewhere in the body.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from fedi2i.metric_files import SOURCE, SOURCE_LEVELS, SOURCE_SPREAD, MetricRow
from fedi2i.site_names import ALL_SITES
from lightning_modules.translation.model_card import BINS, ModelCard, SourceIntensities
from partitions.preparation import PreparedSplit
from partitions.preparation.grids.native_grid import SliceGeometry

FAR = 2.0
"""A scan is far away when it is that many times farther than the farthest training patient ..."""
LEAST_FAR = 0.05
"""... and at least so far, in parts of the scale: a few training patients may be much alike."""
LEAST_SITES = 2
"""Of which the mean goes into a model file: one that travels must not describe one hospital."""
_LEVELS = 65535.0
_TOLERATED = 0.05
"""Part of a distance between slices: scanners note distances with few digits."""


def histogram(slices: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Which part of the pixels inside the mask lies in each bin.

    Args:
        slices: intensities in [0, 1], any shape.
        mask: true inside the body; the same shape, not empty.
    """
    counts, _ = np.histogram(slices[mask], bins=BINS, range=(0.0, 1.0))
    return np.asarray(counts / max(int(counts.sum()), 1), dtype=np.float64)


def distance(one: Iterable[float], other: Iterable[float]) -> float:
    """Wasserstein-1 distance of two histograms on [0, 1], in parts of the scale."""
    first, second = (np.cumsum(np.fromiter(shares, float)) for shares in (one, other))
    return float(np.abs(first - second).mean())


def source_intensities(splits: Iterable[PreparedSplit]) -> SourceIntensities | None:
    """The training's source scans as a model file keeps them; None where there is none."""
    found = [
        histogram(
            np.asarray(split.source[where] / _LEVELS, dtype=np.float32), split.mask[where] > 0
        )
        for split in splits
        for subject in split.subjects
        if "source" in subject.domains
        for where in [slice(subject.start, subject.stop)]
    ]
    if not found:
        return None
    mean = np.mean(found, axis=0)
    return SourceIntensities(
        tuple(round(float(share), 6) for share in mean),
        round(max(distance(one, mean) for one in found), 6),
    )


def source_percentiles(split: PreparedSplit, least_patients: int) -> dict[str, float]:
    """What a site says of its training's source scans: means over patients, and nothing of one.

    Args:
        split: the training patients.
        least_patients: of fewer nothing is said.

    Returns:
        ``SOURCE`` and ``SOURCE_SPREAD`` to values in [0, 1], or nothing.
    """
    patients = np.array(list(_percentiles_of_patients(split)))
    if len(patients) < max(least_patients, 2):
        return {}
    mean = patients.mean(axis=0)
    named = dict(zip(SOURCE, mean.tolist(), strict=True))
    return {**named, SOURCE_SPREAD: float(np.abs(patients - mean).mean())}


def _percentiles_of_patients(split: PreparedSplit) -> Iterator[NDArray[np.float64]]:
    """The percentiles of every patient inside the mask, all scans of one person together."""
    scans: dict[str, list[slice]] = {}
    for subject in split.subjects:
        if "source" in subject.domains:
            scans.setdefault(subject.patient, []).append(slice(subject.start, subject.stop))
    for where in scans.values():
        inside = np.concatenate([split.source[one][split.mask[one] > 0] for one in where])
        yield np.asarray(np.quantile(inside / _LEVELS, SOURCE_LEVELS), dtype=np.float64)


def intensities_of_sites(rows: Iterable[MetricRow]) -> SourceIntensities | None:
    """The training's source scans as the metrics of a federation tell; None where they do not.

    Args:
        rows: site, round, metric, value; the last value of a site counts.
    """
    said: dict[str, dict[str, float]] = {}
    for site, _, name, value in rows:
        if site != ALL_SITES and name in (*SOURCE, SOURCE_SPREAD):
            said.setdefault(site, {})[name] = value
    complete = [one for one in said.values() if len(one) > len(SOURCE)]
    if len(complete) < LEAST_SITES:
        return None
    # Sorted, as rounding, or a site that is not honest, may have exchanged them.
    sites = np.sort([[one[name] for name in SOURCE] for one in complete], axis=1)
    mean = sites.mean(axis=0)
    away = np.abs(sites - mean).mean(axis=1) + [one[SOURCE_SPREAD] for one in complete]
    shares = _shares_between(mean)
    return SourceIntensities(
        tuple(round(float(share), 6) for share in shares), round(float(away.max()), 6), True
    )


def _shares_between(percentiles: NDArray[np.float64]) -> NDArray[np.float64]:
    """The histogram of a distribution that is even between its percentiles, and beyond the last."""
    first, *_, last = percentiles
    low = max(0.0, first - (percentiles[1] - first) / 2)
    high = min(1.0, last + (last - percentiles[-2]) / 2)
    # Equal percentiles make a step, which has to have a width.
    places = np.array([low, *percentiles, high]) + 1e-9 * np.arange(len(percentiles) + 2)
    below = np.interp(np.linspace(0, 1, BINS + 1), places, [0.0, *SOURCE_LEVELS, 1.0])
    below[0], below[-1] = 0.0, 1.0
    return np.asarray(np.diff(below), dtype=np.float64)


def far_from_training(
    slices: NDArray[np.float32], mask: NDArray[np.bool_], training: SourceIntensities
) -> str:
    """A sentence with figures where a scan lies far from the training's; empty where it does not.

    Args:
        slices: the prepared source, intensities in [0, 1].
        mask: true inside the body.
        training: what the model file says.
    """
    apart = distance(histogram(slices, mask), training.shares)
    if apart <= max(FAR * training.spread, LEAST_FAR):
        return ""
    mean, most = ("training patient", "farthest training patient")
    if training.by_sites:
        mean, most = ("of the training's sites", "average patient of the farthest site")
    return (
        f"its intensities lie {apart:.3f} of the scale away from the mean {mean}, and the {most} "
        f"{training.spread:.3f}: the translation may mean nothing"
    )


def lacking(domains: Collection[str], card: ModelCard) -> list[str]:
    """A sentence where a patient lacks a contrast, and none was taken away in training.

    Args:
        domains: of the source, as far as the patient has them.
        card: the model's.
    """
    missing = [name for domain, name in card.preparation.contrasts.items() if domain not in domains]
    if not missing or card.training.experiment.get("model", {}).get("contrast_dropout"):
        return []
    return [
        f"has no {' and no '.join(missing)}, and the model was trained without contrast_dropout: "
        "the translation may mean nothing"
    ]


def slice_distances(splits: Iterable[PreparedSplit]) -> tuple[float, ...]:
    """The smallest and the largest distance between slices of any patient, in mm.

    Empty where no voxel size is known.
    """
    known = [s.spacing[2] for split in splits for s in split.subjects if s.spacing is not None]
    return (round(min(known), 3), round(max(known), 3)) if known else ()


def other_distances(geometry: SliceGeometry, card: ModelCard) -> str:
    """A sentence where a scan's neighbouring slices are nearer or farther than the training's."""
    if not card.network.view.spans_slices or not card.slice_distances:
        return ""
    apart = float(np.linalg.norm(np.array(geometry.plane_affine)[:3, 2]))
    low, high = card.slice_distances
    if low * (1 - _TOLERATED) <= apart <= high * (1 + _TOLERATED):
        return ""
    trained = f"{low:g} mm" if low == high else f"{low:g} to {high:g} mm"
    return (
        f"its slices lie {apart:.3g} mm apart, and those of the training {trained}: the model is "
        "shown several slices at once, and has not learnt from such"
    )
