"""How a domain's intensities become numbers from 0 to 1: by each volume itself, or by a unit."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from fedi2i.errors import ConfigError
from fedi2i.typed_config import choose

PERCENTILES, WINDOW, SUV, RAW = "percentiles", "window", "suv", "raw"
KINDS = (PERCENTILES, WINDOW, SUV, RAW)
HOUNSFIELD = "HU"
SUV_UNIT = "SUV"
_UNIT = re.compile(r"[\w/%*^.-]{1,12}")
_COMPUTED_TOMOGRAPHY = re.compile(r"(cb|ld|nd|fd|qd|s)?ct(?![a-z])")


@dataclass(frozen=True)
class Scaling:
    """How the scans of one domain are scaled.

    Attributes:
        kind: ``percentiles`` maps the two percentiles of the voxels inside the mask to 0 and 1,
            volume by volume (MR, which has no unit); ``window`` maps ``low`` and ``high`` of a unit
            (CT in HU); ``suv`` does so with standardised uptake values (PET), for which each
            subject's metadata have ``suv_factor``; ``raw`` maps the smallest and the largest voxel
            of the volume, so that nothing is clipped.
        low: what becomes 0, in the unit; ``window`` and ``suv`` only (``suv``: 0 unless given).
        high: what becomes 1, likewise.
        unit: a word such as ``HU``; ``window`` needs one, ``suv`` has its own.
    """

    kind: str = PERCENTILES
    low: float | None = None
    high: float | None = None
    unit: str = ""

    @property
    def is_fixed(self) -> bool:
        """Whether 0 and 1 mean the same for every volume, so that a translation has a unit."""
        return self.kind in (WINDOW, SUV)

    def limits(self) -> tuple[float, float]:
        """What becomes 0 and 1, where that is fixed; the configuration has checked it."""
        return self.low or 0.0, self.high or 0.0

    def check(self, key: str) -> None:
        """Refuse what does not fit together.

        Raises:
            ConfigError: naming the key, what is wrong with it and what to write.
        """
        choose(self.kind, KINDS, f"{key}.kind")
        if self.unit and not _UNIT.fullmatch(self.unit):
            raise ConfigError(f"{key}.unit '{self.unit}': give one short word, such as HU")
        if not self.is_fixed:
            if self.low is not None or self.high is not None:
                raise ConfigError(
                    f"{key}: '{self.kind}' takes its limits from each volume; leave out 'low' and "
                    "'high', or set kind to 'window'"
                )
            return
        if self.high is None or (self.low is None and self.kind == WINDOW):
            raise ConfigError(f"{key}: '{self.kind}' needs 'low' and 'high', e.g. {_EXAMPLE}")
        low, high = self.limits()
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ConfigError(f"{key}: low {low:g} and high {high:g} must be finite and rise")
        if self.kind == WINDOW and not self.unit:
            raise ConfigError(f"{key}: 'window' needs the 'unit' of its limits, e.g. {_EXAMPLE}")
        if self.kind == SUV and self.unit not in ("", SUV_UNIT):
            raise ConfigError(f"{key}: the unit of 'suv' is {SUV_UNIT}; leave 'unit' out")


_EXAMPLE = "{kind: window, low: -1024, high: 3071, unit: HU}"


def is_computed_tomography(sequence: str) -> bool:
    """Whether a sequence's name begins with that of a CT: ``ct``, ``cbct``, ``ldct_full``."""
    return _COMPUTED_TOMOGRAPHY.match(sequence.lower()) is not None


def check_target(sequence: str, scaling: Scaling, key: str) -> None:
    """Refuse a CT target without a unit: its values would be lost.

    Raises:
        ConfigError: the target is a CT and is scaled volume by volume.
    """
    if is_computed_tomography(sequence) and not scaling.is_fixed:
        raise ConfigError(
            f"{key}: the target '{sequence}' is a CT, and '{scaling.kind}' would take its HU from "
            f"it, as a new patient has no target to take the limits from; write {_EXAMPLE}"
        )
