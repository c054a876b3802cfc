"""The files that describe a study at one site: ``study.json``, and ``run.json`` of every seed.

They have the form of a simulated study's files, so that ``fedi2i report`` makes the site's own page
of them: with the site's patients, pictures and tests, and of no other site.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from app_custom.study.task import StudyTask
from fedi2i import __version__
from fedi2i.digest import digest
from lightning_modules.configuration import ExperimentConfig, experiment_values
from lightning_modules.evaluation.baselines import UNTRAINED_ARMS, UNTRAINED_LABELS
from lightning_modules.metrics.presets.catalogue import PRESETS
from lightning_modules.strategies.catalogue import STRATEGY_JOBS
from partitions.manifest import split_counts
from partitions.preparation import PreparedSite

_COMMON = ("data", "model", "preset")
"""Settings that all jobs of a study have in common; a strategy may need rounds or a sharing scope
of its own."""
_OF_A_STRATEGY = ("strategy", "sharing", "seed")


def site_design(
    task: StudyTask, experiment: ExperimentConfig, prepared: PreparedSite
) -> dict[str, Any]:
    """What may not change at this site while the study runs; it names the study's folder here."""
    values = experiment_values(experiment)
    return {
        "title": f"{task.study} at {prepared.site}",
        "release": __version__,
        "reference": task.reference,
        "primary_outcome": {"metric": task.metric, "patients": "federated"},
        "margin": task.margin,
        "experiment": {key: values[key] for key in _COMMON if key in values},
        "manifests": {prepared.site: prepared.content_hash},
        "study": task.design,
    }


def run_record(
    design: Mapping[str, Any],
    experiment: ExperimentConfig,
    prepared: PreparedSite,
    untrained: Iterable[str],
    arms: Iterable[Mapping[str, Any]],
) -> dict[str, Any]:
    """``run.json`` of one seed, as far as its arms have been measured.

    Args:
        design: see ``site_design``.
        experiment: of the last job; what belongs to its strategy alone is left out.
        prepared: this site's data, with their manifest.
        untrained: arms without a network that have rows.
        arms: the entries of the trained arms, see ``arm_entries``.

    Raises:
        ValueError: the data were opened without their manifest.
    """
    if prepared.manifest is None:
        raise ValueError("a site's record needs the manifest of its data")
    preset, values = PRESETS[experiment.preset], experiment_values(experiment)
    percentiles = list(experiment.data.preparation.percentiles)
    there = set(untrained)
    return {
        "title": f"{design['title']}, seed {experiment.seed}",
        "created": now(),
        "seed": experiment.seed,
        "computed": prepared.manifest.computed,
        "data_note": "",
        "primary_outcome": design["primary_outcome"],
        "design": digest(design),
        "metrics": [metric.description() for metric in preset.metrics.values()],
        "preset": {**preset.description(), "percentiles": percentiles},
        "experiment": {key: values[key] for key in values if key not in _OF_A_STRATEGY},
        "versions": {"fedi2i": __version__},
        "manifests": design["manifests"],
        "sites": [{"name": prepared.site, "unseen": False, **split_counts(prepared.manifest)}],
        "arms": [
            *(_untrained(name) for name in UNTRAINED_ARMS if name in there),
            *arms,
        ],
    }


def arm_entries(task: StudyTask, experiment: ExperimentConfig, site: str) -> list[dict[str, Any]]:
    """What ``run.json`` says of the models that one job ends with at a site.

    The model that this site would use carries the site's name where the strategy keeps parts of it
    here, and so does its personal model.
    """
    job, rule = STRATEGY_JOBS.get(task.arm), experiment.strategy.record.site
    label = job.label if job else task.arm
    training = experiment.training
    said: dict[str, Any] = {
        "rounds": training.rounds,
        "steps": training.rounds * training.steps,
        "note": "trained in the federation",
    }
    if job is not None:
        said |= {"does": job.does, "acts": job.acts}
    if task.arm == task.reference:
        said["reference"] = True
    own = {"name": f"{task.arm}@{site}", "label": f"{label} (personal)", "site": site}
    entries = []
    if rule.local_parts is not None:
        entries.append({**own, "family": task.arm, **said})
    elif rule.personal_term is not None:
        entries.append({"name": task.arm, "label": f"{label} (global)", **said})
        entries.append({**own, "family": f"{task.arm}_personal", **said})
    else:
        entries.append({"name": task.arm, "label": label, **said})
    if task.local:
        alone = {key: said[key] for key in ("rounds", "steps")}
        entries.append(
            {
                "name": f"local-{site}",
                "label": f"Local: {site}",
                **alone,
                "note": "trained at this site alone, without communication",
            }
        )
    return entries


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _untrained(name: str) -> dict[str, Any]:
    label, note = UNTRAINED_LABELS[name]
    return {"name": name, "label": label, "rounds": 0, "steps": 0, "note": note}
