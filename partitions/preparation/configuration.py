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
MOST_CONTRASTS = 8
"""Of a source: a bound on what a job may ask of a site's disk and memory."""
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
        further_sources: sequences that the model reads beside it; a subject needs one of them all
            and may lack the others.
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
    further_sources: tuple[str, ...] = field(default=(), metadata=LEFT_OUT_WHILE_UNSET)

    def __post_init__(self) -> None:
        """Refuse values out of range; accept lists, as YAML gives them."""
        object.__setattr__(self, "further_sources", tuple(self.further_sources))
        object.__setattr__(self, "size", tuple(self.size))
        object.__setattr__(self, "percentiles", tuple(self.percentiles))
        _check(self)

    @property
    def contrasts(self) -> dict[str, str]:
        """The sequences that the model reads, by their domain: ``source``, ``source_2`` ..."""
        further = {f"source_{place}": name for place, name in enumerate(self.further_sources, 2)}
        return {"source": self.source, **further}

    @property
    def domains(self) -> tuple[str, ...]:
        """The domains that are prepared, those of the source first."""
        return (*self.contrasts, "target")

    def sequence(self, domain: str) -> str:
        """The sequence of a domain, see ``domains``."""
        return {**self.contrasts, "target": self.target}[domain]

    def scaling(self, domain: str) -> Scaling:
        """How a domain is scaled: all contrasts of the source alike."""
        return self.target_scaling if domain == "target" else self.source_scaling


def _check(config: PreparationConfig) -> None:
    if config.source == config.target:
        raise ConfigError(
            f"preparation: source and target are both '{config.source}'; name two sequences"
        )
    for domain in config.domains:
        name = config.sequence(domain)
        if not _SEQUENCE.fullmatch(name):
            raise ConfigError(
                f"preparation: {domain} {name!r} is no name of a sequence; write 1 to 64 letters, "
                "digits and _ . + -, with a letter or a digit first"
            )
    if config.further_sources:
        _check_further_sources(config)
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


def _check_further_sources(config: PreparationConfig) -> None:
    """What several contrasts of a source must be, and what they cannot be prepared with."""
    names = [config.sequence(domain) for domain in config.domains]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(
            f"preparation: '{twice[0]}' is named twice among source, further_sources and target; "
            "name each sequence once"
        )
    if len(config.contrasts) > MOST_CONTRASTS:
        raise ConfigError(
            f"preparation: source and further_sources are {len(config.contrasts)} sequences, and "
            f"{MOST_CONTRASTS} are the most; take fewer"
        )
    if config.pairing != "paired":
        raise ConfigError(
            f"preparation: pairing is '{config.pairing}', and several contrasts of a source need "
            "the target of every subject; set it to 'paired', or leave further_sources out"
        )
    if config.registration != NONE:
        raise ConfigError(
            f"preparation: registration '{config.registration}' lays the target alone over the "
            "source, and several contrasts of a source must lie on one grid with it; set it to "
            f"'{NONE}' and bring registered scans in, or leave further_sources out"
        )
