"""What preparation does to whole volumes if asked to: lay them on one grid, take shading out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedi2i.errors import DataError
from partitions.check.scans import SubjectScans
from partitions.manifest import FRAMES_OF_REFERENCE
from partitions.preparation.configuration import DOMAINS, HEADERS, NONE, PreparationConfig
from partitions.preparation.corrections import bias_field, registration
from partitions.preparation.corrections.header_positions import HeaderPositions, believed
from partitions.preparation.corrections.placement import laid_over, reach
from partitions.preparation.corrections.registration import Registration
from partitions.preparation.masks import foreground_in
from partitions.preparation.scaling import HOUNSFIELD, is_computed_tomography
from partitions.scans.grid import on_one_grid
from partitions.scans.volume import Volume

Volumes = dict[str, Volume]


@dataclass(frozen=True)
class Laid:
    """A subject's volumes on one grid.

    Attributes:
        volumes: by domain.
        reach: where on that grid the target shows something; None where it was not moved.
        steps: what the record keeps: nothing, or ``registration``.
    """

    volumes: Volumes
    reach: NDArray[np.bool_] | None = None
    steps: dict[str, Any] = field(default_factory=dict)

    def shown(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The part of a mask that every scan shows."""
        return mask if self.reach is None else mask & self.reach


def laid_on_source(volumes: Volumes, config: PreparationConfig, subject: SubjectScans) -> Laid:
    """The target on the grid of the source, if that is wanted and both are there.

    Where the headers are to say how and both lie on one grid already, no voxel is touched.

    Args:
        volumes: source and target, or one of them.
        config: whether to, and how.
        subject: whose volumes these are.

    Raises:
        DataError: how the target lies cannot be believed.
    """
    if config.registration == NONE or set(volumes) != {"source", "target"}:
        return Laid(volumes)
    source, target = volumes["source"], volumes["target"]
    by_headers = config.registration == HEADERS
    if by_headers and on_one_grid(source.grid(), target.grid()):
        return Laid(volumes)
    found = _by_headers(volumes, config, subject) if by_headers else _by_search(volumes, config)
    hounsfield = config.scaling("target").unit == HOUNSFIELD
    return Laid(
        {**volumes, "target": laid_over(target, source, found.matrix, hounsfield)},
        reach(source, target, found.matrix),
        {"registration": {"method": config.registration, **found.to_json()}},
    )


def _by_search(volumes: Volumes, config: PreparationConfig) -> Registration:
    return registration.register(
        volumes["source"], volumes["target"], _foregrounds(volumes, config)
    )


def _by_headers(
    volumes: Volumes, config: PreparationConfig, subject: SubjectScans
) -> HeaderPositions:
    name = subject.record.subject
    why = _no_positions(subject)
    if why:
        raise DataError(
            f"subject '{name}': {why}, so that its headers cannot lay the target over the source; "
            "set 'registration: rigid', or leave the subject out"
        )
    return believed(volumes["source"], volumes["target"], _foregrounds(volumes, config), name)


def _no_positions(subject: SubjectScans) -> str:
    """Why the positions in a subject's headers do not belong together, as far as it is known."""
    if subject.record.metadata.get(FRAMES_OF_REFERENCE):
        return "its scans have different frames of reference"
    for scan in subject.images:
        if scan.header is not None and not scan.header.is_oriented:
            return f"{scan.place.file} does not say how the patient lies in it"
    return ""


def _foregrounds(
    volumes: Volumes, config: PreparationConfig
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    source, target = (foreground_in(volumes[name], name, config)[0] for name in DOMAINS)
    return source, target


def evened(
    volumes: Mapping[str, Volume],
    masks: Mapping[str, NDArray[np.bool_]],
    config: PreparationConfig,
) -> tuple[Volumes, dict[str, Any]]:
    """MR volumes without the shading of the receive coil, if that is wanted.

    Args:
        volumes: by domain, on one grid.
        masks: head or brain on that grid, by domain: what of it the volume shows.
        config: whether, and which domain is an MR image.

    Returns:
        The volumes, and what the record keeps: nothing, or ``bias`` by domain.

    Raises:
        DataError: a field cannot be fitted.
    """
    if config.bias_correction == NONE:
        return dict(volumes), {}
    fields = {
        name: bias_field.estimate(volume, masks[name])
        for name, volume in volumes.items()
        if _is_magnetic_resonance(name, config)
    }
    found = {
        name: bias_field.corrected(volume, fields[name]) if name in fields else volume
        for name, volume in volumes.items()
    }
    return found, {"bias": {name: field.to_json() for name, field in fields.items()}}


def _is_magnetic_resonance(domain: str, config: PreparationConfig) -> bool:
    named_ct = is_computed_tomography(config.sequence(domain))
    return not config.scaling(domain).is_fixed and not named_ct
