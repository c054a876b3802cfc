"""NVFlare's PercentilePrivacy on updates: small changes become 0, large ones are cut off."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from app_custom.privacy.nvflare_filters import PercentileOnUpdates
from fedi2i.typed_config import number
from jobs.privacy.interface import (
    NO_GUARANTEE,
    PrivacyMechanism,
    filtered_updates,
    refuse_independent_start,
)


@dataclass(frozen=True)
class Percentile:
    """Settings of PercentilePrivacy; it adds no noise and promises nothing.

    Attributes:
        percentile: this share of all values of an update, the smallest, becomes 0, in per cent.
        gamma: larger values are cut to it, in units of the weights per step.
        steps: by how many steps the update is divided before it is compared with ``gamma``.
    """

    percentile: float = number(10.0, high=100.0, meaning="per cent of values that become 0")
    gamma: float = number(0.01, above=True, meaning="larger values per step are cut to it")
    steps: int = number(1, low=1, meaning="steps by which an update is divided first")


MECHANISM = PrivacyMechanism(
    name="percentile",
    label="PercentilePrivacy on updates (not differential privacy)",
    ending="percentile",
    promise=f"{NO_GUARANTEE}: the largest changes leave as they are, up to a bound",
    settings=Percentile,
    refuse=refuse_independent_start,
    **filtered_updates(PercentileOnUpdates, asdict),
)
