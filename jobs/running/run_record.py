"""The files that describe a finished comparison: ``run.json`` and ``curves.csv``."""

from __future__ import annotations

import csv
import json
import math
import platform
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

from fedi2i import __version__
from fedi2i.cores import available_cores
from fedi2i.errors import DataError
from fedi2i.files import write_csv, write_text
from fedi2i.metric_files import COLUMNS, SAMPLES, MetricRow
from fedi2i.site_names import ALL_SITES
from fedi2i.typed_config import as_dict
from jobs.running.arm_outcome import ArmOutcome
from jobs.running.spent_epsilon import (
    EARLIER,
    RUN_FILE,
    earlier_trainings,
    spent_together,
    trainings_of,
)
from jobs.writing.federation import FederatedExperiment
from lightning_modules.configuration import experiment_values
from lightning_modules.evaluation.baselines import UNTRAINED_ARMS, UNTRAINED_LABELS
from lightning_modules.evaluation.followed_baselines import BASELINES_FILE
from lightning_modules.metrics.presets.catalogue import PRESETS
from lightning_modules.strategies.catalogue import STRATEGY_JOBS, StrategyJob
from lightning_modules.training.hardware import choose_hardware
from partitions.manifest import SiteManifest, split_counts

_PACKAGES = (
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
class PrimaryOutcome:
    """The outcome that a comparison is about, chosen before it is run; all others are secondary.

    Attributes:
        metric: name of a metric.
        patients: ``federated``, all test patients of the sites that trained, or ``unseen``.
    """

    metric: str = "psnr"
    patients: str = "federated"


def write_curves(
    out: Path, outcomes: Sequence[ArmOutcome], baselines: Iterable[Sequence[str]] = ()
) -> None:
    """Collect the arms' metrics files in ``curves.csv``, with the arm's name before each row.

    Args:
        out: the run folder.
        outcomes: the arms that were trained.
        baselines: rows of what needs no network, see ``read_baselines``.
    """
    rows = ((arm.name, *row) for arm in outcomes for row in arm.rows)
    write_csv(out / "curves.csv", ("arm", *COLUMNS), chain(rows, baselines))


def read_baselines(out: Path) -> list[list[str]]:
    """The rows of what needs no network, as the evaluation measured it on validation patients.

    Raises:
        DataError: their file is missing or damaged.
    """
    path = out / BASELINES_FILE
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            header, *rows = csv.reader(stream)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); evaluate into a new folder") from error
    if tuple(header) != ("arm", *COLUMNS):
        raise DataError(f"{path}: has other columns than arm,{','.join(COLUMNS)}; evaluate again")
    return rows


def write_run_record(
    out: Path,
    title: str,
    job: FederatedExperiment,
    manifests: Sequence[SiteManifest],
    outcomes: Sequence[ArmOutcome],
    primary: PrimaryOutcome = PrimaryOutcome(),
    design: str = "",
) -> None:
    """Write ``run.json``: everything needed to repeat the run and to read its results.

    Args:
        out: the run folder.
        title: heading of the report.
        job: experiment and federation.
        manifests: of all sites.
        outcomes: the arms.
        primary: the primary outcome.
        design: digest of the design of the study that the run belongs to, if any.

    Raises:
        DataError: an earlier record in the folder is damaged.
    """
    experiment = job.experiment
    computed = any(manifest.computed for manifest in manifests)
    preparation, preset = experiment.data.preparation, PRESETS[experiment.preset]
    record: dict[str, Any] = {
        "title": title,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": experiment.seed,
        "computed": computed,
        "data_note": _COMPUTED_NOTE if computed else "",
        "primary_outcome": asdict(primary),
        **({"design": design} if design else {}),
        **_participation(job),
        **({"hostile": hostile} if (hostile := as_dict(job.federation).get("hostile")) else {}),
        "metrics": [metric.description() for metric in preset.metrics.values()],
        "preset": {**preset.description(), "percentiles": list(preparation.percentiles)},
        "experiment": {
            **experiment_values(experiment),
            "strategies": {name: dict(entry.values) for name, entry in STRATEGY_JOBS.items()},
        },
        "versions": {"python": platform.python_version(), "fedi2i": __version__}
        | {package: version(package) for package in _PACKAGES},
        "machine": _machine(experiment.training.precision, len(job.federation.sites)),
        "manifests": {manifest.site: manifest.content_hash() for manifest in manifests},
        "sites": [_site(manifest, job) for manifest in manifests],
        "arms": [
            *map(_untrained, UNTRAINED_ARMS),
            *(entry for arm in outcomes for entry in _arm(arm, job)),
        ],
    }
    if earlier := earlier_trainings(out / RUN_FILE, record):
        record[EARLIER] = earlier
    together = spent_together(trainings_of(record, out.name))
    record["spent_together"] = [asdict(spent) for spent in together]
    write_text(out / RUN_FILE, json.dumps(record, indent=1) + "\n")


def _untrained(name: str) -> dict[str, Any]:
    label, note = UNTRAINED_LABELS[name]
    cost = {"seconds": 0.0, "rounds": 0, "steps": 0, "bytes_sent": 0}
    return {"name": name, "label": label, **cost, "note": note}


def _participation(job: FederatedExperiment) -> dict[str, Any]:
    """The plan by which sites miss rounds or parts of them; nothing where all do everything."""
    federation = job.federation
    if not federation.participation.acts:
        return {}
    plan = {"min_sites": federation.needed, "seed": job.experiment.seed}
    return {"participation": {**asdict(federation.participation), **plan}}


def took_part(rows: Iterable[MetricRow]) -> list[list[str]]:
    """The sites of every round whose updates the server took, as it noted them."""
    accepted = [(row[1], row[0]) for row in rows if row[2] == SAMPLES and row[0] != ALL_SITES]
    rounds = range(max((number for number, _ in accepted), default=-1) + 1)
    return [sorted({site for n, site in accepted if n == number}) for number in rounds]


def _arm(arm: ArmOutcome, job: FederatedExperiment) -> list[dict[str, Any]]:
    """One entry per model; what an arm cost stands in each of them."""
    there = took_part(arm.rows) if job.federation.participation.acts else []
    return [
        {
            "name": model.name,
            "label": model.label,
            **({"family": model.family, "site": model.site} if model.family else {}),
            "seconds": round(arm.seconds, 1),
            "rounds": arm.rounds,
            "steps": arm.steps,
            "bytes_sent": arm.bytes_sent,
            "note": arm.note,
            **(_strategy(arm.job, private=bool(arm.privacy)) if arm.job else {}),
            **({"does": arm.does, "acts": False} if arm.does else {}),
            **({"privacy": dict(arm.privacy)} if arm.privacy else {}),
            **({"took_part": there} if there else {}),
        }
        for model in arm.models
    ]


def _strategy(job: StrategyJob, private: bool) -> dict[str, Any]:
    """What a report needs to know of the strategy, so that it need know none by name.

    The other arms are compared with the reference as it is, not with one under a mechanism.
    """
    return {
        "does": job.does,
        "acts": job.acts,
        "paper": {key: getattr(job.paper, key) for key in ("text", "link", "equation")},
        **(
            {"reference": True} if job.strategy.reference and job.is_default and not private else {}
        ),
    }


def _site(manifest: SiteManifest, job: FederatedExperiment) -> dict[str, Any]:
    unseen = manifest.site in job.federation.unseen
    # An unseen site only tests, whatever split its manifest gives its patients.
    only_tests = {"train": 0, "val": 0, "test": len(manifest.subjects)}
    return {
        "name": manifest.site,
        "unseen": unseen,
        **(only_tests if unseen else split_counts(manifest)),
        "description": _description(manifest),
    }


def _description(manifest: SiteManifest) -> str:
    """Field strength and mean age, as far as the manifest knows them."""
    fields = set(_numbers(manifest, "field_strength"))
    ages = _numbers(manifest, "age")
    parts = [f"{field:g} T" for field in sorted(fields)]
    if ages:
        parts.append(f"mean age {sum(ages) / len(ages):.0f} years")
    if manifest.computed:
        parts.append("computed")
    return ", ".join(parts)


def _numbers(manifest: SiteManifest, key: str) -> list[float]:
    """What the subjects' metadata say under a key, as far as it is a number."""
    found = []
    for record in manifest.subjects:
        with suppress(TypeError, ValueError):
            found.append(float(record.metadata.get(key) or "unknown"))
    return [number for number in found if math.isfinite(number)]


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
