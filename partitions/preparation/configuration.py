"""What preparation does, as one frozen record; part of the cache's hash."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

from fedi2i.errors import ConfigError
from fedi2i.typed_config import LEFT_OUT_WHILE_UNSET, choose
from partitions.preparation.scaling import Scaling, check_target

DOMAINS = ("source", "target")
"""What a slice can be: what the model reads, and what it writes."""
MOST_PIXELS_A_SIDE = 4096
"""Of a prepared slice. A site may allow less in its own file."""
PAIRINGS = ("paired", "unpaired")
_SEQUENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}")
"""A sequence's name becomes part of file names, of DICOM headers and of configurations that MONAI
evaluates."""
NONE, HEADERS, RIGID, N4 = "none", "headers", "rigid", "n4"
REGISTRATIONS = (NONE, HEADERS, RIGID)
BIAS_CORRECTIONS = (NONE, N4)


@dataclass(frozen=True)
class PreparationConfig:
    """How scans become slices.

    Attributes:
        source: sequence the model reads, as the manifest names it.
        target: sequence the model writes, as the manifest names it.
        pairing: ``paired`` takes subjects that have both sequences. ``unpaired`` also takes
            training subjects that have one of them; validation and test compare with a true
            target, so that they need both all the same.
        size: rows and columns of the prepared slices, in pixels.
        spacing: in-plane pixel size in mm, the same along rows and columns; None keeps the pixel
            grid as stored (needed for data without a voxel size).
        percentiles: the two percentiles, in percent, inside the mask that become 0 and 1, where
            scans are scaled by percentiles.
        min_mask_fraction: slices whose mask covers less than this part of the slice are left out.
        source_scaling: how the source's values become intensities.
        target_scaling: how the target's do. A CT needs a window in HU.
        registration: how a target on a grid of its own comes onto the source's: ``headers`` by the
            positions in both headers, ``rigid`` by searching how it lies; with ``none`` both must
            lie on one voxel grid.
        bias_correction: ``n4`` takes the slow shading out of MR images.

    Raises:
        ConfigError: a value outside its range.
    """

    source: str = "t1"
    target: str = "t2"
    pairing: str = "paired"
    size: tuple[int, int] = (96, 80)
    spacing: float | None = 2.0
    percentiles: tuple[float, float] = (0.5, 99.5)
    min_mask_fraction: float = 0.02
    source_scaling: Scaling = field(default_factory=Scaling, metadata=LEFT_OUT_WHILE_UNSET)
    target_scaling: Scaling = field(default_factory=Scaling, metadata=LEFT_OUT_WHILE_UNSET)
    registration: str = field(default_factory=lambda: NONE, metadata=LEFT_OUT_WHILE_UNSET)
    bias_correction: str = field(default_factory=lambda: NONE, metadata=LEFT_OUT_WHILE_UNSET)

    def __post_init__(self) -> None:
        """Refuse values out of range; accept lists, as YAML gives them."""
        object.__setattr__(self, "size", tuple(self.size))
        object.__setattr__(self, "percentiles", tuple(self.percentiles))
        _check(self)

    def sequence(self, domain: str) -> str:
        """The sequence of a domain, ``source`` or ``target``."""
        return {"source": self.source, "target": self.target}[domain]

    def scaling(self, domain: str) -> Scaling:
        """How a domain, ``source`` or ``target``, is scaled."""
        return {"source": self.source_scaling, "target": self.target_scaling}[domain]


def _check(config: PreparationConfig) -> None:
    if config.source == config.target:
        raise ConfigError(
            f"preparation: source and target are both '{config.source}'; name two sequences"
        )
    for domain in DOMAINS:
        name = config.sequence(domain)
        if not _SEQUENCE.fullmatch(name):
            raise ConfigError(
                f"preparation: {domain} {name!r} is no name of a sequence; write 1 to 64 letters, "
                "digits and _ . + -, with a letter or a digit first"
            )
    choose(config.pairing, PAIRINGS, "preparation: pairing")
    if len(config.size) != 2 or not 1 <= min(config.size) <= max(config.size) <= MOST_PIXELS_A_SIDE:
        raise ConfigError(
            f"preparation: size {list(config.size)} must be two integers from 1 to "
            f"{MOST_PIXELS_A_SIDE}"
        )
    if config.spacing is not None and not 0 < config.spacing < math.inf:
        raise ConfigError(
            f"preparation: spacing {config.spacing} must be positive (mm), or null to keep pixels"
        )
    low, high = config.percentiles
    if not 0 <= low < high <= 100:
        raise ConfigError(
            f"preparation: percentiles {list(config.percentiles)} must rise within 0 to 100"
        )
    if not 0 <= config.min_mask_fraction < 1:
        raise ConfigError(
            f"preparation: min_mask_fraction {config.min_mask_fraction} must be in [0, 1)"
        )
    choose(config.registration, REGISTRATIONS, "preparation: registration")
    choose(config.bias_correction, BIAS_CORRECTIONS, "preparation: bias_correction")
    for domain in DOMAINS:
        config.scaling(domain).check(f"preparation: {domain}_scaling")
    check_target(config.target, config.target_scaling, "preparation: target_scaling")
