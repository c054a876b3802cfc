"""All metrics of intensities in [0, 1], found by walking this package.

Those of images in HU stand in ``lightning_modules/metrics/presets``, beside the ranges and windows
that they belong to.
"""

from __future__ import annotations

from collections.abc import Mapping

import lightning_modules.metrics as package
from fedi2i.catalogue import members
from lightning_modules.metrics.interface import Metric

METRICS: Mapping[str, Metric] = members(package, "METRIC")
"""Every metric by its name, which is the name of its file."""
