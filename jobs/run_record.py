"""The files that describe a finished comparison: ``run.json`` and ``curves.csv``."""

from __future__ import annotations

import csv
import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from jobs.federation import STRATEGY_SETTINGS, FederatedExperiment
from lightning_modules.evaluation import SOURCE_ARM
from lightning_modules.hardware import available_cores, choose_hardware
from lightning_modules.metrics.image_quality import PRESET
from partitions.atomic_file import replacing, write_text
from partitions.manifest import SiteManifest, split_counts
from partitions.typed_config import as_dict

_LABELS = {
    SOURCE_ARM: "Source as prediction",
    "centralised": "Centralised",
    "fedavg": "FedAvg",
    "fedprox": "FedProx",
}
_PACKAGES = (
    "fedi2i",
    "torch",
    "nvflare",
    "pytorch-lightning",
    "monai",
    "nibabel",
    "torchmetrics",
    "omegaconf",
    "numpy",
    "scipy",
    "nilearn",
)
_COMPUTED_NOTE = (
    "All volumes are computed, not acquired: the ICBM152 atlas under random deformations, with "
    "tissue parameters from the literature and simulated scanners (docs/computed-cohort.md). "
    "Figures compare methods on this cohort; they are no evidence about real scanners."
)


@dataclass(frozen=True)
class ArmOutcome:
    """A finished arm: its files, its time, how many sites' data it saw."""

    name: str
    model: Path
    metrics: Path
    seconds: float
    sites: int
    federated: bool


def write_curves(out: Path, outcomes: Sequence[ArmOutcome]) -> None:
    """Collect the arms' metrics files in ``curves.csv``, with the arm's name before each row."""
    with (
        replacing(out / "curves.csv") as temporary,
        temporary.open("w", newline="", encoding="utf-8") as stream,
    ):
        writer = csv.writer(stream)
        writer.writerow(("arm", "site", "round", "metric", "value"))
        for arm in outcomes:
            with arm.metrics.open(newline="", encoding="utf-8") as source:
                rows = csv.reader(source)
                next(rows)
                writer.writerows((arm.name, *row) for row in rows)


def write_run_record(
    out: Path,
    title: str,
    job: FederatedExperiment,
    manifests: Sequence[SiteManifest],
    outcomes: Sequence[ArmOutcome],
) -> None:
    """Write ``run.json``: everything needed to repeat the run and to read its results."""
    experiment = job.experiment
    computed = any(manifest.computed for manifest in manifests)
    preparation = experiment.data.preparation
    record = {
        "title": title,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": experiment.seed,
        "computed": computed,
        "data_note": _COMPUTED_NOTE if computed else "",
        "preset": {**PRESET, "percentiles": list(preparation.percentiles)},
        "experiment": {**as_dict(experiment), "strategies": STRATEGY_SETTINGS},
        "versions": {"python": platform.python_version()} | {p: version(p) for p in _PACKAGES},
        "machine": _machine(experiment.training.precision, len(job.federation.sites)),
        "manifests": {manifest.site: manifest.content_hash() for manifest in manifests},
        "sites": [_site(manifest, job) for manifest in manifests],
        "arms": [
            {
                "name": SOURCE_ARM,
                "label": _LABELS[SOURCE_ARM],
                "seconds": 0.0,
                "rounds": 0,
                "steps": 0,
                "bytes_sent": 0,
                "note": "the input taken as the output",
            },
            *(_arm(arm, job) for arm in outcomes),
        ],
    }
    write_text(out / "run.json", json.dumps(record, indent=1) + "\n")


def _arm(arm: ArmOutcome, job: FederatedExperiment) -> dict[str, Any]:
    training = job.experiment.training
    note = "the final model of the server" if arm.federated else "no communication"
    return {
        "name": arm.name,
        "label": _LABELS.get(arm.name, arm.name.replace("local-", "Local: ")),
        "seconds": round(arm.seconds, 1),
        "rounds": training.rounds,
        "steps": training.steps * arm.sites * training.rounds,
        "bytes_sent": _payload(arm, training.rounds) if arm.federated else 0,
        "note": note,
    }


def _payload(arm: ArmOutcome, rounds: int) -> int:
    """Bytes of parameters sent: each round to every site and back, and the final evaluation."""
    state = torch.load(arm.model, map_location="cpu", weights_only=True)["model"]
    size = sum(value.numel() * value.element_size() for value in state.values())
    return int(size * arm.sites * (2 * rounds + 1))


def _site(manifest: SiteManifest, job: FederatedExperiment) -> dict[str, Any]:
    return {
        "name": manifest.site,
        "unseen": manifest.site in job.federation.unseen,
        **split_counts(manifest),
        "description": _description(manifest),
    }


def _description(manifest: SiteManifest) -> str:
    """Field strength and mean age, as far as the manifest knows them."""
    fields = {
        float(record.metadata["field_strength"])
        for record in manifest.subjects
        if record.metadata.get("field_strength")
    }
    ages = [record.metadata["age"] for record in manifest.subjects if record.metadata.get("age")]
    parts = [f"{field:g} T" for field in sorted(fields)]
    if ages:
        parts.append(f"mean age {sum(ages) / len(ages):.0f} years")
    if manifest.computed:
        parts.append("computed")
    return ", ".join(parts)


def _machine(precision: str, sites: int) -> dict[str, Any]:
    hardware = choose_hardware(precision, max(1, available_cores() // sites))
    return {
        "cpu": _cpu_name(),
        "cores": available_cores(),
        "accelerator": hardware.accelerator,
        "precision": hardware.precision,
        "torch_threads": hardware.threads,
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
