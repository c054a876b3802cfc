"""Gather from an experiment file, or from the folder of a finished run, what documents ask for."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from app_custom.gates.shared_metrics import IN_ROUNDS, SHARED_METRICS
from fedi2i.digest import digest
from fedi2i.epsilon import EPSILON_TOTAL
from fedi2i.errors import ConfigError, DataError
from fedi2i.metric_files import COLUMNS
from fedi2i.typed_config import merged
from jobs.privacy.catalogue import PRIVACY_JOBS, epsilon_of, privacy_from, privacy_values
from jobs.privacy.interface import PrivacyMechanism
from jobs.writing.federation import FederatedExperiment, FederationConfig, with_strategy
from lightning_modules.configuration import experiment_from, experiment_values
from lightning_modules.sharing.local_parts import sharing_scope
from lightning_modules.strategies.catalogue import STRATEGY_JOBS
from partitions.manifest import SPLITS

RUN_FILE = "run.json"
CURVES_FILE = "curves.csv"
_HIDING = ("encryption", "secure_aggregation")


@dataclass(frozen=True)
class Training:
    """One federated training: a strategy with its privacy mechanism.

    Attributes:
        name: as jobs and runs call it.
        label: as reports show it.
        topology: ``star``, ``ring`` or ``swarm``.
        networks: the networks that leave a site.
        local: their parts that stay.
        extras: further arrays that leave.
        mechanism: its privacy mechanism, or None.
        settings: the mechanism's own settings.
        epsilon: what a site spends on it by its settings; None where nothing is promised.
        measured: what each site had spent at its end, from a finished run's own record.
    """

    name: str
    label: str
    topology: str
    networks: tuple[str, ...]
    local: tuple[str, ...]
    extras: tuple[str, ...]
    mechanism: PrivacyMechanism | None
    settings: Mapping[str, Any]
    epsilon: float | None
    measured: Mapping[str, float]

    @property
    def hides_updates(self) -> bool:
        """Whether the server sees no single site's update."""
        return self.mechanism is not None and self.mechanism.admitted_by in _HIDING


@dataclass(frozen=True)
class Site:
    """One site.

    Attributes:
        name: its name.
        trains: False where it only tests the finished models.
        patients: split to the number of its patients, where a finished run says so.
    """

    name: str
    trains: bool
    patients: Mapping[str, int]


@dataclass(frozen=True)
class Processing:
    """What is processed, where, by which settings.

    Attributes:
        title: the run's title, or the experiment file's name.
        job: the experiment and its federation; of several trainings what they share.
        digest: of all settings, to tell documents of different runs apart.
        sites: who takes part.
        trainings: one for every federated training.
        finished: whether this describes a finished run.
        computed: whether the data are computed, and nobody's.
    """

    title: str
    job: FederatedExperiment
    digest: str
    sites: tuple[Site, ...]
    trainings: tuple[Training, ...]
    finished: bool = False
    computed: bool = False

    @property
    def training_sites(self) -> int:
        """How many sites train."""
        return sum(site.trains for site in self.sites)

    @property
    def accounted(self) -> bool:
        """Whether every training spends an epsilon: sites then state no numbers of their own."""
        return all(training.epsilon is not None for training in self.trainings)

    @property
    def numbers(self) -> tuple[str, ...]:
        """The numbers besides weights that leave a site, as far as this run can have them."""
        return tuple(sorted(SHARED_METRICS if self.job.study else IN_ROUNDS))


def of_experiment(name: str, job: FederatedExperiment) -> Processing:
    """What an experiment file says.

    Args:
        name: what the documents call it.
        job: the experiment as it was read.
    """
    federation = job.federation
    sites = [Site(site, True, {}) for site in federation.sites]
    sites += [Site(site, False, {}) for site in federation.unseen]
    strategy = job.experiment.strategy
    training = _training(strategy.name, strategy.record.label, job, {})
    return Processing(name, job, _digest(job), tuple(sites), (training,))


def of_run(folder: Path) -> Processing:
    """What a finished run says of itself.

    Args:
        folder: with ``run.json`` and, where epsilon was spent, ``curves.csv``.

    Raises:
        DataError: no finished run, or one of a release whose settings this one does not know.
    """
    path = folder / RUN_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        values = {key: value for key, value in content["experiment"].items() if key != "strategies"}
        experiment = experiment_from(values, str(path))
        sites = tuple(
            Site(str(site["name"]), not site["unseen"], {s: int(site[s]) for s in SPLITS})
            for site in content["sites"]
        )
        arms = [str(arm["name"]) for arm in content["arms"]]
        title, computed = str(content["title"]), bool(content["computed"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ConfigError) as error:
        raise DataError(
            f"{path}: is no record of a run that this release can read ({error}); give the folder "
            "of a finished run, or its experiment file"
        ) from error
    federation = FederationConfig(
        sites=tuple(site.name for site in sites if site.trains),
        unseen=tuple(site.name for site in sites if not site.trains),
    )
    job = FederatedExperiment(federation, experiment)
    spent = _spent(folder / CURVES_FILE)
    trainings = tuple(
        _training(name, label, under, spent.get(name, {}))
        for name, label, under in _arms(job, arms)
    )
    if not trainings:
        raise DataError(f"{path}: has no federated arm, so that nothing left a site")
    return Processing(title, job, _digest(job), sites, trainings, True, computed)


def _arms(
    job: FederatedExperiment, names: Sequence[str]
) -> Iterator[tuple[str, str, FederatedExperiment]]:
    """The federated arms of a run: name, label, and the job that each of them ran."""
    for name in dict.fromkeys(names):
        if name in STRATEGY_JOBS:
            yield name, STRATEGY_JOBS[name].label, with_strategy(job, name)
        elif name in PRIVACY_JOBS:
            private = PRIVACY_JOBS[name]
            under = with_strategy(job, private.strategy_job)
            values = merged(experiment_values(under.experiment), private.changes["experiment"])
            experiment = experiment_from(values, f"job '{name}'")
            privacy = privacy_from(private.changes["privacy"], f"job '{name}'")
            yield name, private.label, replace(under, experiment=experiment, privacy=privacy)


def _training(
    name: str, label: str, job: FederatedExperiment, measured: Mapping[str, float]
) -> Training:
    record = job.experiment.strategy.record
    scope = sharing_scope(job.experiment)
    settings = privacy_values(job.privacy)
    return Training(
        name=name,
        label=label,
        topology=record.topology,
        networks=tuple(scope.networks),
        local=tuple(scope.local),
        extras=tuple(record.site.extras),
        mechanism=job.privacy.record,
        settings={key: value for key, value in settings.items() if key != "mechanism"},
        epsilon=epsilon_of(job, job.experiment.training.rounds),
        measured=dict(measured),
    )


def _spent(path: Path) -> dict[str, dict[str, float]]:
    """Arm to site to the largest total epsilon that the site reported."""
    found: dict[str, dict[str, float]] = {}
    if not path.is_file():
        return found
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            rows = csv.reader(stream)
            if tuple(next(rows, ())) != ("arm", *COLUMNS):
                raise ValueError(f"its first line is not arm,{','.join(COLUMNS)}")
            for arm, site, _, metric, value in rows:
                if metric == EPSILON_TOTAL:
                    sites = found.setdefault(arm, {})
                    sites[site] = max(sites.get(site, 0.0), float(value))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); give a whole run folder") from error
    return found


def _digest(job: FederatedExperiment) -> str:
    values = {
        "federation": asdict(job.federation),
        "experiment": experiment_values(job.experiment),
        "privacy": privacy_values(job.privacy),
    }
    return digest(values)[:12]
