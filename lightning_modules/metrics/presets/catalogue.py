"""All presets, found by walking this package, and what of their metrics may be sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import lightning_modules.metrics.presets as package
from fedi2i.catalogue import members
from lightning_modules.metrics.interface import Metric
from lightning_modules.metrics.presets.interface import Preset

PREPARED = "-prepared"
"""Ending of the name of a preset in HU where it was computed on prepared slices."""
DEFAULT = "mr"


def _on_prepared_slices(preset: Preset) -> Preset:
    grid = "prepared slices, resampled and cut; not comparable with published figures"
    return replace(preset, name=preset.name + PREPARED, facts={**preset.facts, "grid": grid})


_FILES: dict[str, Preset] = members(package, "PRESET")
PRESETS: Mapping[str, Preset] = _FILES | {
    preset.name: preset for preset in map(_on_prepared_slices, _FILES.values()) if preset.in_hu
}
"""Every preset by its name. One in HU has two: on the scan's own grid, and on prepared slices."""

SENDABLE: Mapping[str, Metric] = {
    name: metric for preset in _FILES.values() for name, metric in preset.metrics.items()
}
"""The metrics of all presets. Those of one name have one range, whatever they are computed from."""


def needs_scans(preset: Preset) -> bool:
    """Whether test patients are measured on the grid of their scans, in HU."""
    return preset.in_hu and not preset.name.endswith(PREPARED)


def on_prepared_slices(name: str) -> Preset:
    """The preset by which a site measures its validation patients, whose scans it does not open."""
    preset = PRESETS[name]
    return PRESETS[name + PREPARED] if needs_scans(preset) else preset
