"""What a job is made from: an experiment and the federation it runs in, read from one YAML file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf.errors import OmegaConfBaseException

from app_custom.aggregation.compression import KINDS
from app_custom.study.task import StudyTask
from fedi2i.errors import ConfigError
from fedi2i.site_names import check_site_names
from fedi2i.typed_config import (
    LEFT_OUT_WHILE_UNSET,
    check_values,
    merged,
    nearest,
    number,
    read_yaml,
    record_from,
    word,
)
from jobs.privacy.catalogue import (
    PRIVACY_JOBS,
    PrivacyConfig,
    base_job,
    check_privacy,
    privacy_from,
)
from jobs.writing.hostile_sites import HostileSite, check_hostile_sites, check_one_process
from jobs.writing.whole_passes import check_whole_passes, with_whole_passes
from lightning_modules.configuration import (
    ExperimentConfig,
    experiment_from,
    experiment_values,
)
from lightning_modules.strategies.interface import STAR, SWARM
from lightning_modules.training.participation import Participation, check_stragglers

MOST_ROUND_SECONDS = 30 * 86400
"""A site that has not answered after a month is not at work."""
MOST_GPU_MEMORY = 4096.0
DEFAULT_FILE = Path(__file__).parents[1] / "experiments" / "demo.yaml"


@dataclass(frozen=True)
class FederationConfig:
    """Who takes part.

    Attributes:
        sites: names of the sites that train.
        unseen: sites that only test the finished models.
        min_sites: fewest sites that make a round; by default all of them.
        initial_model: name of the model to start from, as the server maps it; by default seeded
            random weights.
        round_timeout: seconds after which a round is over without the sites that have not
            answered; the job goes on if ``min_sites`` have. Choose it well above the slowest
            site's round.
        gpus: GPUs that the job asks of a site, by site; a site that is not named computes on its
            CPU. In the simulator say ``nvflare simulator -gpu`` instead.
        gpu_memory: GiB that each of these GPUs must have; 0 for any.
        compression: how arrays travel between server and sites, ``none``, ``fp16``, ``bf16`` or
            ``int8``; see ``app_custom.aggregation.compression``.
        participation: who misses rounds or does a part of them, by plan.
        hostile: sites that send what they did not learn, and what; never in a job.
    """

    sites: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()
    min_sites: int | None = None
    initial_model: str | None = None
    round_timeout: int = number(86400, low=1, most=MOST_ROUND_SECONDS, meaning="in seconds")
    gpus: dict[str, int] = field(default_factory=dict)
    gpu_memory: float = number(0.0, most=MOST_GPU_MEMORY, meaning="GiB that each GPU must have")
    compression: str = word("none", *KINDS, meaning="how arrays travel")
    participation: Participation = field(
        default_factory=Participation, metadata=LEFT_OUT_WHILE_UNSET
    )
    hostile: dict[str, HostileSite] = field(default_factory=dict, metadata=LEFT_OUT_WHILE_UNSET)

    @property
    def needed(self) -> int:
        """Fewest sites that make a round."""
        return len(self.sites) if self.min_sites is None else self.min_sites


@dataclass(frozen=True)
class FederatedExperiment:
    """An experiment, its federation, and the privacy mechanism of its job.

    Attributes:
        only_evaluates: the job trains nothing and measures a given model, see
            ``jobs.writing.evaluation_job``.
        study: what the job says to its sites of the study that it belongs to.
    """

    federation: FederationConfig = field(default_factory=FederationConfig)
    experiment: ExperimentConfig = field(default_factory=ExperimentConfig)
    privacy: PrivacyConfig = field(default_factory=PrivacyConfig)
    only_evaluates: bool = False
    study: StudyTask | None = None


def read_federated_experiment(
    path: Path, overrides: Mapping[str, Any] | None = None, fit_rounds: bool = False
) -> FederatedExperiment:
    """Read an experiment file with the keys ``federation``, ``experiment`` and ``privacy``.

    Args:
        path: the file.
        overrides: values that replace the file's.
        fit_rounds: fit the rounds to the strategy where it needs a certain number of them.

    Raises:
        ConfigError: unknown keys, impossible values, or sites that do not add up.
    """
    content = read_yaml(path)
    known = {"federation", "experiment", "privacy"}
    for key, value in content.items():
        if key not in known:
            raise ConfigError(f"{path}: unknown key '{key}'; {nearest(str(key), known)}")
        if not isinstance(value, Mapping):
            raise ConfigError(f"{path}: {key} is '{value}'; write 'key: value' lines below it")
    try:
        values = merged(content, overrides or {})
    except (OmegaConfBaseException, TypeError) as error:
        raise ConfigError(f"{path}: {str(error).splitlines()[0]}") from error
    federation = record_from(FederationConfig, values.get("federation", {}), f"{path}: federation")
    _check_federation(federation, str(path))
    experiment = experiment_from(values.get("experiment", {}), f"{path}: experiment")
    if fit_rounds:
        experiment = with_whole_passes(experiment)
    privacy = privacy_from(values.get("privacy", {}), str(path))
    job = FederatedExperiment(federation, experiment, privacy)
    _check_strategy_fits(job, str(path))
    return job


def with_strategy(
    job: FederatedExperiment, name: str, settings: Mapping[str, Any] | None = None
) -> FederatedExperiment:
    """The same federation and experiment under the strategy of a committed job.

    Where the experiment has settings for this very strategy, they hold; so do its settings of a
    privacy job's very mechanism.

    Args:
        job: federation and experiment, whatever its strategy.
        name: the committed job.
        settings: settings of the strategy that differ from the committed job's.

    Raises:
        ConfigError: there is no such job, or the strategy does not fit this federation.
    """
    values = experiment_values(job.experiment)
    committed = base_job(name)
    privacy = job.privacy
    if name in PRIVACY_JOBS:
        shown = PRIVACY_JOBS[name]
        values = merged(values, shown.mechanism.experiment)
        if privacy.mechanism != shown.mechanism.name:
            privacy = privacy_from(shown.changes["privacy"], f"job '{name}'")
    own = values["strategy"] if values["strategy"]["name"] == committed.values["name"] else {}
    tuned = {key: value for key, value in own.items() if key not in committed.distinctions}
    values["strategy"] = {**tuned, **committed.values, **(settings or {})}
    experiment = with_whole_passes(experiment_from(values, f"strategy '{name}'"))
    changed = FederatedExperiment(job.federation, experiment, privacy)
    _check_strategy_fits(changed, f"strategy '{name}'")
    return changed


def _check_strategy_fits(job: FederatedExperiment, where: str) -> None:
    """Refuse a strategy that would change nothing, or could not work, in this federation."""
    strategy, sites = job.experiment.strategy, len(job.federation.sites)
    record = strategy.record
    if record.check_sites is not None:
        record.check_sites(strategy.settings, sites, job.federation.needed, where)
    check_whole_passes(job.experiment, where)
    check_privacy(job, where)
    check_one_process(job, where)
    if record.topology == SWARM and job.federation.compression != "none":
        raise ConfigError(
            f"{where}: federation.compression is '{job.federation.compression}', but in a swarm "
            "sites send their models to each other, which is not compressed; leave it out"
        )
    if job.federation.initial_model and (
        strategy.initialisation == "independent" or record.topology == SWARM
    ):
        raise ConfigError(
            f"{where}: federation.initial_model is '{job.federation.initial_model}', but here "
            "sites draw their own first weights; leave it out"
        )
    if record.topology != STAR and job.federation.participation.acts:
        raise ConfigError(
            f"{where}: strategy '{strategy.name}' passes models between sites and needs each of "
            "them in every round; leave federation.participation out"
        )
    if record.topology != STAR and not 2 <= sites == job.federation.needed:
        raise ConfigError(
            f"{where}: strategy '{strategy.name}' passes models between sites: it takes two or "
            f"more, and each of them; there are {sites}, and federation.min_sites is "
            f"{job.federation.needed}"
        )


def _check_federation(federation: FederationConfig, where: str) -> None:
    names = [*federation.sites, *federation.unseen]
    if not federation.sites:
        raise ConfigError(f"{where}: federation.sites is empty; name the sites that train")
    check_site_names(names, f"{where}: federation")
    check_values(federation, where, "federation.")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"{where}: site '{twice[0]}' is named twice in federation")
    _check_gpus(federation, where)
    if not 1 <= federation.needed <= len(federation.sites):
        raise ConfigError(
            f"{where}: federation.min_sites is {federation.min_sites}; it must be from 1 to the "
            f"number of sites, {len(federation.sites)}"
        )
    _check_participation(federation, where)
    check_hostile_sites(federation.hostile, federation.sites, f"{where}: federation.hostile")


def _check_participation(federation: FederationConfig, where: str) -> None:
    stragglers = federation.participation.stragglers
    check_stragglers(stragglers, f"{where}: federation.participation.stragglers", federation.sites)
    if federation.participation.missing and federation.needed == len(federation.sites):
        raise ConfigError(
            f"{where}: federation.participation.missing is {federation.participation.missing}, "
            "but all sites are needed in every round; say in federation.min_sites how many must "
            "remain"
        )


def _check_gpus(federation: FederationConfig, where: str) -> None:
    for site, count in federation.gpus.items():
        if site not in federation.sites:
            raise ConfigError(
                f"{where}: federation.gpus names '{site}', which does not train; "
                f"{nearest(site, federation.sites)}"
            )
        if count < 0:
            raise ConfigError(
                f"{where}: federation.gpus of '{site}' is {count}; write how many GPUs the job "
                "asks for, or leave the site out"
            )
