"""What preparation does to whole volumes if it is asked to: register, take shading out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from partitions.preparation.configuration import NONE, PreparationConfig
from partitions.preparation.corrections import bias_field, registration
from partitions.preparation.masks import foreground_in
from partitions.preparation.scaling import HOUNSFIELD, is_computed_tomography
from partitions.scans.volume import Volume

Volumes = dict[str, Volume]


def laid_on_source(volumes: Volumes, config: PreparationConfig) -> tuple[Volumes, dict[str, Any]]:
    """The target on the grid of the source, if a registration is wanted and both are there.

    Args:
        volumes: source and target, or one of them.
        config: whether to.

    Returns:
        The volumes, and what the record keeps: nothing, or ``registration``.

    Raises:
        DataError: the registration cannot be believed.
    """
    if config.registration == NONE or set(volumes) != {"source", "target"}:
        return volumes, {}
    source, target = volumes["source"], volumes["target"]
    heads = tuple(foreground_in(volumes[name], name, config)[0] for name in ("source", "target"))
    found = registration.register(source, target, (heads[0], heads[1]))
    hounsfield = config.scaling("target").unit == HOUNSFIELD
    laid = registration.laid_over(target, source, found, hounsfield)
    return {**volumes, "target": laid}, {"registration": found.to_json()}


def evened(
    volumes: Mapping[str, Volume], mask: NDArray[np.bool_], config: PreparationConfig
) -> tuple[Volumes, dict[str, Any]]:
    """MR volumes without the shading of the receive coil, if that is wanted.

    Args:
        volumes: by domain, on one grid.
        mask: head or brain on that grid.
        config: whether, and which domain is an MR image.

    Returns:
        The volumes, and what the record keeps: nothing, or ``bias`` by domain.

    Raises:
        DataError: a field cannot be fitted.
    """
    if config.bias_correction == NONE:
        return dict(volumes), {}
    fields = {
        name: bias_field.estimate(volume, mask)
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
