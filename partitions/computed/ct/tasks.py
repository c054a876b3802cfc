"""The computed cohorts, one per translation task: their sites, sizes, sequences and makers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from partitions.computed import site_profiles, tissues
from partitions.computed.atlas import load_atlas
from partitions.computed.ct import head_profiles, hounsfield
from partitions.computed.ct.head import load_head
from partitions.computed.ct.head_profiles import HeadProfile
from partitions.computed.ct.head_subject import compute_scans
from partitions.computed.site_profiles import SiteProfile
from partitions.computed.subject import ComputedSubject, compute_subject

Profile = SiteProfile | HeadProfile
Counts = Mapping[str, tuple[int, int, int]]


@dataclass(frozen=True)
class Task:
    """One computed cohort.

    Attributes:
        dataset: name of the data set in its manifests.
        about: what is computed, for the command line.
        sequences: the volumes of every subject.
        profiles: its sites, in the order in which seeds count them.
        sizes: subjects in train, val and test at each site, by size.
        compute: makes a subject of a site from its own seed.
        facts: what a manifest says of a site's scanners.
        parameters: what else decides the voxels; added to the cohort's key.
        small: the sites of the size ``smoke``, where they differ from ``profiles``.
    """

    dataset: str
    about: str
    sequences: tuple[str, ...]
    profiles: tuple[Profile, ...]
    sizes: dict[str, dict[str, tuple[int, int, int]]]
    compute: Callable[[Any, np.random.SeedSequence], ComputedSubject]
    facts: Callable[[Any], dict[str, Any]]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    small: tuple[Profile, ...] | None = None

    def sites(self, size: str) -> tuple[Profile, ...]:
        """The site profiles of a size."""
        return self.small if size == "smoke" and self.small is not None else self.profiles

    def key_content(self, size: str) -> dict[str, Any]:
        """What decides the voxels and splits of a size, besides version and seed."""
        return {
            "counts": self.sizes[size],
            # The key that earlier versions wrote: their cohorts are recognised.
            "hospitals": [dataclasses.asdict(profile) for profile in self.sites(size)],
            "tissues": _table(tissues.BY_FIELD),
            **self.parameters,
        }


BRAIN_SIZES = {
    "demo": {
        "north": (16, 3, 5),
        "east": (10, 2, 4),
        "south": (6, 2, 2),
        "west": (3, 1, 2),
        "island": (0, 0, 8),
    },
    "smoke": {
        "north": (3, 1, 1),
        "east": (2, 1, 1),
        "south": (2, 1, 1),
        "west": (1, 1, 1),
        "island": (0, 0, 3),
    },
}
HEAD_SIZES = {
    "demo": {"north": (8, 2, 3), "east": (6, 1, 3), "south": (4, 1, 2), "island": (0, 0, 4)},
    "smoke": {"north": (2, 1, 1), "east": (2, 1, 1), "south": (1, 1, 1), "island": (0, 0, 1)},
}


def _brain(profile: SiteProfile, seed: np.random.SeedSequence) -> ComputedSubject:
    return compute_subject(load_atlas(), profile, seed)


def _head(source: str, profile: HeadProfile, seed: np.random.SeedSequence) -> ComputedSubject:
    return compute_scans(load_head(), profile, seed, (source,))


def _brain_facts(profile: SiteProfile) -> dict[str, Any]:
    protocols = {"t1": profile.t1w, "t2": profile.t2w, "flair": profile.flair}
    return {
        "field_strength": profile.field_strength,
        "t1_sequence": type(profile.t1w).__name__,
        **{
            f"{name}_{key}": value
            for name, sequence in protocols.items()
            for key, value in dataclasses.asdict(sequence).items()
        },
    }


def _ct_facts(profile: HeadProfile) -> dict[str, Any]:
    return {
        "ct_photons": profile.ct.photons,
        "ct_views": profile.ct.views,
        "kernel": profile.ct.kernel,
        "body_part": "head",
    }


def _mr_and_ct_facts(profile: HeadProfile) -> dict[str, Any]:
    protocol = dataclasses.asdict(profile.mr.t1w)
    return {
        "field_strength": profile.mr.field_strength,
        "t1_sequence": type(profile.mr.t1w).__name__,
        **{f"t1_{key}": value for key, value in protocol.items()},
        **_ct_facts(profile),
    }


def _cone_beam_facts(profile: HeadProfile) -> dict[str, Any]:
    scanner = dataclasses.asdict(profile.cbct)
    return {f"cbct_{key}": value for key, value in scanner.items()} | _ct_facts(profile)


def _low_dose_facts(profile: HeadProfile) -> dict[str, Any]:
    return {"low_dose": profile.ct.low_dose, **_ct_facts(profile)}


def _head_task(
    dataset: str, about: str, source: str, facts: Callable[[Any], dict[str, Any]]
) -> Task:
    return Task(
        dataset=dataset,
        about=about,
        sequences=(source, "ct"),
        profiles=head_profiles.PROFILES,
        sizes=HEAD_SIZES,
        compute=partial(_head, source),
        facts=facts,
        parameters={
            "source": source,
            "hounsfield": hounsfield.MEAN_AND_SD,
            "scalp": _table(tissues.SCALP_BY_FIELD),
        },
        small=tuple(map(head_profiles.coarse, head_profiles.PROFILES)),
    )


def _table(by_field: Mapping[float, Mapping[str, tissues.Tissue]]) -> dict[str, Any]:
    return {
        f"{field_strength:g}": {name: dataclasses.asdict(tissue) for name, tissue in table.items()}
        for field_strength, table in by_field.items()
    }


TASKS = {
    "mr": Task(
        dataset="demo",
        about="brain MR: T1w, T2w and FLAIR",
        sequences=("t1", "t2", "flair"),
        profiles=site_profiles.PROFILES,
        sizes=BRAIN_SIZES,
        compute=_brain,
        facts=_brain_facts,
    ),
    "mr-ct": _head_task("mr_ct", "head MR (T1w) and CT", "t1", _mr_and_ct_facts),
    "cbct-ct": _head_task("cbct_ct", "cone-beam CT and CT of the head", "cbct", _cone_beam_facts),
    "ldct": _head_task(
        "ldct_computed", "low-dose and full-dose CT of the head", "ct_low", _low_dose_facts
    ),
}
"""Every task, by the name that ``fedi2i data demo --task`` takes."""
