"""Where the numbers come from: sites, settings, metric definitions, versions, machine, cost."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fedi2i.metric_files import SAMPLES
from report.number_format import NONE
from report.numbers.strategy_effects import job_label
from report.run.records import Arm, Run, Site


@dataclass(frozen=True)
class Training:
    """One training, whose cost is shown once however many models it left.

    Attributes:
        label: of all its models.
        arm: one of them, which states the cost.
        note: what its models are.
    """

    label: str
    arm: Arm
    note: str


@dataclass(frozen=True)
class SiteLine:
    """One line of Table 5.

    Attributes:
        site: the site.
        evaluated: number of its test patients that were evaluated.
        samples: the training slices that it stated to the server, its weight in the mean; smallest
            and largest where jobs or rounds differ; empty where it stated none.
    """

    site: Site
    evaluated: int
    samples: str


@dataclass(frozen=True)
class ProvenanceSection:
    """Tables 5 to 7 and the lists of settings, versions, machine and manifests.

    Attributes:
        sites: the lines of Table 5.
        trainings: the lines of Table 6.
        settings: heading -> (dotted key, value) pairs of one part of the experiment's settings.
    """

    sites: tuple[SiteLine, ...]
    trainings: tuple[Training, ...]
    settings: Mapping[str, Mapping[str, Any]]


def provenance_section(run: Run) -> ProvenanceSection:
    """Collect what ``run.json`` says."""
    evaluated = run.test_rows.groupby("site")["subject"].nunique()
    return ProvenanceSection(
        sites=tuple(
            SiteLine(site, int(evaluated.get(site.name, 0)), _samples(run, site.name))
            for site in run.about.sites
        ),
        trainings=tuple(_trainings(run)),
        settings=_settings(run.about.experiment),
    )


def _samples(run: Run, site: str) -> str:
    """The samples that a site has stated, as readers see them."""
    if run.curves is None:
        return ""
    rows = run.curves[(run.curves["metric"] == SAMPLES) & (run.curves["site"] == site)]
    stated = sorted({f"{value:.0f}" for value in rows["value"]}, key=float)
    return "" if not stated else stated[0] if len(stated) == 1 else f"{stated[0]} to {stated[-1]}"


def _trainings(run: Run) -> list[Training]:
    """The arms that one training made share its cost."""
    trainings: dict[tuple[object, ...], list[Arm]] = {}
    for arm in run.about.arms:
        cost = (arm.job, arm.rounds, arm.steps, arm.seconds, arm.bytes_sent)
        trainings.setdefault(cost, []).append(arm)
    return [
        Training(
            label=job_label(arms),
            arm=arms[0],
            note="; ".join(dict.fromkeys(arm.note for arm in arms if arm.note)) or NONE,
        )
        for arms in trainings.values()
    ]


def _settings(experiment: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Top-level sections side by side, nested keys with dots."""
    plain = {key: value for key, value in experiment.items() if not isinstance(value, dict)}
    nested = {key: flattened(value) for key, value in experiment.items() if isinstance(value, dict)}
    return ({"general": plain} if plain else {}) | nested


def flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted key -> value, in order."""
    pairs: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            pairs |= flattened(value, f"{prefix}{key}.")
        else:
            pairs[f"{prefix}{key}"] = value
    return pairs


def setting_text(value: Any) -> str:
    """A value as readers see it: text as it is, lists with commas, everything else as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and not any(isinstance(item, (dict, list)) for item in value):
        return ", ".join(setting_text(item) for item in value) or "(none)"
    return json.dumps(value, ensure_ascii=False)
