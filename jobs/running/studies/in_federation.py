"""Run a study in a running federation: a job per strategy and seed, and numbers in return.

Only federated arms run there, and each site's own local-only arm, at that site. Rows of test
patients, pictures and the site's own page stay at their site (``app_custom.study``). What comes
back per arm, seed, site and metric is number, mean and standard deviation.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from app_custom.gates.study_numbers import GLOBAL, LOCAL, MEAN, PATIENTS, PERSONAL, SD
from app_custom.study.task import StudyTask
from fedi2i import __version__
from fedi2i.digest import digest
from fedi2i.errors import ConfigError, DataError, UserError
from fedi2i.files import write_csv, write_text
from fedi2i.metric_files import FILE_NAME, MetricRow, read_metrics
from fedi2i.typed_config import as_dict
from jobs.privacy.catalogue import PRIVACY_JOBS, base_job, privacy_values
from jobs.running.comparison_checks import REFERENCE
from jobs.running.spent_epsilon import RUN_FILE, STUDY_FILE
from jobs.running.studies.begun import begun_record
from jobs.running.studies.study import Study
from jobs.writing.export import export_job
from jobs.writing.federation import FederatedExperiment, with_strategy
from lightning_modules.configuration import experiment_values
from lightning_modules.metrics.presets.catalogue import PRESETS

FEDERATED_FILE = "federated_study.json"
SUMMARIES_FILE = "summaries.csv"
COLUMNS = ("arm", "seed", "site", "metric", PATIENTS, MEAN, SD)
LOCAL_ARM = "local-only"
ENDED = "FINISHED"
"""How NVFlare's word for an ended job begins, however it ended."""
_POLL_SECONDS = 10.0

SummaryRow = tuple[str, int, str, str, int, float, float]


class Federation(Protocol):
    """What a study asks of a running federation: ``nvflare job`` with one person's kit."""

    def submit(self, job: Path) -> str:
        """Submit a job folder; returns the job's id."""
        ...

    def status(self, job_id: str) -> str:
        """The job's status, e.g. ``FINISHED:COMPLETED``."""
        ...

    def check_completed(self, job_id: str) -> None:
        """Refuse a job that did not complete, with what participants said."""
        ...

    def download(self, job_id: str, out: Path) -> Path:
        """Download a job's result; returns the folder of the server's run."""
        ...


@dataclass(frozen=True)
class StudyJob:
    """One job of a study.

    Attributes:
        strategy: a committed job.
        seed: of the experiment.
        job: what is written for NVFlare.
    """

    strategy: str
    seed: int
    job: FederatedExperiment

    @property
    def name(self) -> str:
        """Of the job, its folder and its files in the study's folder."""
        return f"{self.strategy}-seed-{self.seed}"


def run_in_federation(
    study: Study, name: str, federation: Federation, out: Path, poll: float = _POLL_SECONDS
) -> None:
    """Submit what is not finished, one job after the other, and collect the sites' numbers.

    What is finished, and what has been submitted, is known from the study's folder alone: the
    same command goes on after an interruption, with the job that was running then.

    Args:
        study: what to run; its arms without a federation stay out.
        name: the study's name, as sites will call it.
        federation: where.
        out: the study's folder.
        poll: seconds between two looks at a running job.

    Raises:
        UserError: a study that cannot run there, a folder that holds another one, or a job that
            was refused or failed; the same command submits it again.
    """
    seeds, design = _begin(study, out)
    jobs = study_jobs(study, name, seeds, digest(design))
    for number, one in enumerate(jobs, start=1):
        if _received(out, one).is_file():
            continue
        print(f"[study] {one.name}, job {number} of {len(jobs)}", flush=True)
        _run(one, federation, out, poll)
        collect(jobs, out)
    rows = collect(jobs, out)
    told = {(row[0], row[1], row[2]) for row in rows}
    print(f"[study] {len(told)} summaries of an arm, a seed and a site", flush=True)


def study_jobs(study: Study, name: str, seeds: Sequence[int], design: str) -> list[StudyJob]:
    """The jobs of a study, seed by seed; with the reference each site also trains its own arm.

    Args:
        study: the study.
        name: its name, as sites will call it.
        seeds: all of its seeds.
        design: digest of what may not change.

    Raises:
        ConfigError: a strategy that does not fit the federation.
    """
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "_", name).lstrip("_.-") or "study"
    jobs = []
    for seed in seeds:
        seeded = replace(study.job, experiment=replace(study.job.experiment, seed=seed))
        for strategy in study.config.strategies:
            task = StudyTask(
                study=plain,
                arm=strategy,
                reference=REFERENCE,
                metric=study.config.primary.metric,
                margin=study.config.margin,
                design=design,
                local=strategy == REFERENCE,
            )
            job = replace(with_strategy(seeded, strategy), study=task)
            jobs.append(StudyJob(strategy, seed, job))
    return jobs


def collect(jobs: Iterable[StudyJob], out: Path) -> list[SummaryRow]:
    """Write ``summaries.csv`` of all jobs whose result is here; returns its rows.

    Raises:
        DataError: a result is damaged.
    """
    rows = [
        row
        for one in jobs
        if _received(out, one).is_file()
        for row in summary_rows(read_metrics(_received(out, one)), one)
    ]
    write_csv(out / SUMMARIES_FILE, COLUMNS, rows)
    return rows


def summary_rows(recorded: Iterable[MetricRow], one: StudyJob) -> Iterator[SummaryRow]:
    """What sites have said of their test patients at the end of a job.

    Args:
        recorded: the server's record of the job.
        one: the job.
    """
    arms = {GLOBAL: one.strategy, PERSONAL: f"{one.strategy}_personal", LOCAL: LOCAL_ARM}
    found: dict[tuple[str, str, str], dict[str, float]] = {}
    for site, _, name, value in recorded:
        model, _, rest = name.partition("/")
        metric, _, number = rest.partition("/")
        if model in arms and number:
            found.setdefault((arms[model], site, metric), {})[number] = value
    for (arm, site, metric), numbers in sorted(found.items()):
        if numbers.keys() >= {PATIENTS, MEAN, SD}:
            patients = int(numbers[PATIENTS])
            yield arm, one.seed, site, metric, patients, numbers[MEAN], numbers[SD]


def _run(one: StudyJob, federation: Federation, out: Path, poll: float) -> None:
    """Submit a job unless it has been, wait for its end, and take its result.

    While the server cannot be reached the job counts as submitted; once it has ended without a
    result it does not.

    Raises:
        UserError: it was refused, did not complete, or cannot be asked for.
    """
    known = out / "submitted" / f"{one.name}.txt"
    if not known.is_file():
        folder = export_job(one.name, one.job, out / "jobs" / one.name)
        write_text(known, f"{federation.submit(folder)}\n")
    job_id = known.read_text(encoding="utf-8").strip()
    while not federation.status(job_id).startswith(ENDED):
        time.sleep(poll)
    try:
        federation.check_completed(job_id)
    except UserError as error:
        known.unlink()
        raise DataError(f"{one.name}: {error}; the same command submits it again") from error
    result = federation.download(job_id, out / "downloads" / one.name) / FILE_NAME
    read_metrics(result)
    write_text(_received(out, one), result.read_text(encoding="utf-8"))


def _received(out: Path, one: StudyJob) -> Path:
    return out / "received" / f"{one.name}.csv"


def _begin(study: Study, out: Path) -> tuple[list[int], dict[str, Any]]:
    """Write the study's file before its first job, or refuse a folder that holds something else.

    Returns:
        All seeds of the study, those of earlier calls first; and its design.
    """
    config, job = study.config, study.job
    if config.primary.patients != "federated":
        raise ConfigError(
            "primary.patients is 'unseen', but a job of a running federation reaches the sites "
            "that train; take 'federated'"
        )
    if job.federation.hostile or job.federation.participation.acts:
        raise ConfigError(
            "federation.hostile and federation.participation are for simulations; a study in a "
            "running federation goes without them"
        )
    for name in (STUDY_FILE, RUN_FILE):
        if (out / name).exists():
            raise ConfigError(f"{out}: holds the runs of a simulation; take a new folder")
    design = {
        "title": config.title,
        "release": __version__,
        "strategies": list(config.strategies),
        "reference": REFERENCE,
        "primary_outcome": as_dict(config.primary),
        "margin": config.margin,
        "experiment": {**experiment_values(job.experiment), "seed": None},
        "federation": as_dict(job.federation),
        "privacy": privacy_values(job.privacy),
    }
    design = json.loads(json.dumps(design))
    path = out / FEDERATED_FILE
    begun: dict[str, Any] = {}
    if path.exists():
        begun = begun_record(path, design, {"seeds": list}, "jobs of the two cannot be compared")
    seeds = list(dict.fromkeys([*begun.get("seeds", []), *config.seeds]))
    preset = PRESETS[job.experiment.preset]
    record = {
        "created": begun.get("created", datetime.now(UTC).isoformat(timespec="seconds")),
        "design": design,
        "seeds": seeds,
        "sites": list(job.federation.sites),
        "labels": _labels(config.strategies),
        "metrics": [m.description() for m in preset.metrics.values() if m.shared],
        "preset": preset.description(),
        "left_out": _left_out(study),
    }
    write_text(path, json.dumps(record, indent=1) + "\n")
    return seeds, design


def _labels(strategies: Sequence[str]) -> dict[str, str]:
    labels = {}
    for name in strategies:
        job = base_job(name)
        rule = job.strategy.site
        labels[name] = PRIVACY_JOBS[name].label if name in PRIVACY_JOBS else job.label
        if rule.personal_term is not None:
            labels[f"{name}_personal"] = f"{labels[name]} (personal)"
    return {**labels, LOCAL_ARM: "Local only"}


def _left_out(study: Study) -> list[str]:
    """What a simulated study of the same file has, and this one cannot."""
    config = study.config
    sites = ", ".join(study.job.federation.unseen)
    asked = {
        "the centralised arm, which needs all scans in one place": True,
        "the arm 'regression'": config.regression,
        "the ensemble of the sites' local models": config.ensemble,
        "fine-tuned models": bool(config.fine_tuning),
        "FedAvg without each of the sites": config.leave_one_site_out,
        "distances of distributions": config.distributions,
        f"patients of sites that took part in no training ({sites})": bool(sites),
    }
    return [what for what, wanted in asked.items() if wanted]
