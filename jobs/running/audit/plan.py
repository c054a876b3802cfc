"""What is audited: settings of a run, mechanisms, sites, and how much is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from fedi2i.errors import ConfigError
from fedi2i.typed_config import merged, nearest, read_yaml
from jobs.privacy.catalogue import MECHANISMS, NONE, PrivacyConfig, privacy_from, privacy_values
from jobs.running.audit.people import people
from jobs.running.audit.training import acts_in_training
from jobs.writing.federation import read_federated_experiment
from lightning_modules.configuration import ExperimentConfig, experiment_from
from lightning_modules.contrasts import refuse_conditional
from lightning_modules.model_networks import shared_networks
from lightning_modules.privacy.patient_settings import check_experiment
from lightning_modules.source_contrasts import refuse_several_contrasts
from lightning_modules.strategies.catalogue import StrategyConfig
from partitions.preparation import PreparedSite

RECORD = "experiment.yaml"
"""The settings in a run folder."""
FEWEST_PEOPLE = 4


@dataclass(frozen=True)
class Sizes:
    """How much is computed.

    Attributes:
        models: models per mechanism, an even number: two pairs or more.
        slices: slices of different patients to rebuild from updates without a mechanism.
        protected_slices: the same under each mechanism.
        larger: rebuildings of a step on a batch, and of a whole round.
        draws: trials of naming all sites.
        permutations: of membership and of names, and resamples of patients.
        iterations: of gradient matching on each grid.
    """

    models: int = 10
    slices: int = 20
    protected_slices: int = 6
    larger: int = 3
    draws: int = 3
    permutations: int = 1000
    iterations: int = 40


QUICK = Sizes(4, 3, 2, 1, 1, 200, 15)
"""For a first look: too few trials to tell a small leak from chance."""


@dataclass(frozen=True)
class AuditedMechanism:
    """A mechanism with its settings.

    Attributes:
        label: as tables call it.
        privacy: the mechanism.
    """

    label: str
    privacy: PrivacyConfig

    def epsilon(self, experiment: ExperimentConfig) -> float | None:
        """What a site would spend in the run; None where no epsilon is promised."""
        return self.privacy.epsilon(experiment, experiment.training.rounds)


@dataclass(frozen=True)
class AuditPlan:
    """The audit of one run at one site.

    Attributes:
        experiment: the run's settings.
        mechanisms: what is compared; ``none`` is always the first.
        site: the site whose patients are members and non-members.
        sites: the prepared data, of that site and of others where they are here, too.
        sizes: how much is computed.
        quick: whether ``sizes`` are those for a first look.
        title: heading of the page.
    """

    experiment: ExperimentConfig
    mechanisms: tuple[AuditedMechanism, ...]
    site: PreparedSite
    sites: tuple[PreparedSite, ...]
    sizes: Sizes
    quick: bool
    title: str

    @property
    def shared(self) -> tuple[str, ...]:
        """The networks that whoever has the model has."""
        return shared_networks(self.experiment.model.described, self.experiment.sharing)

    @property
    def not_inverted(self) -> str:
        """Why no image is sought in updates, as the page says it; empty where one is.

        The attacks know the adversarial and the L1 term. Against another loss they would explain
        gradients that nobody sends, and their failure would look like safety.
        """
        model = self.experiment.model
        if not model.described.paired:
            return "its slices are unpaired, and these attacks need pairs"
        if model.neighbours:
            return "it is shown neighbouring slices, and these attacks seek one source slice"
        if model.lambda_features:
            return (
                "it learns by its discriminator's features, a loss that these attacks do not know"
            )
        return ""


def read_run(run: Path, changes: Mapping[str, Any]) -> tuple[ExperimentConfig, PrivacyConfig]:
    """The settings of a run, and the mechanism of its job.

    Args:
        run: the folder of a comparison, or an experiment file.
        changes: nested values that replace the run's.

    Raises:
        ConfigError: no settings are there, or they cannot be read.
    """
    path = run / RECORD if run.is_dir() else run
    if not path.is_file():
        raise ConfigError(
            f"{path}: missing; name a run folder that 'fedi2i compare' wrote, or an experiment file"
        )
    values = read_yaml(path)
    if "federation" in values:
        job = read_federated_experiment(path, {"experiment": changes})
        experiment, privacy = job.experiment, job.privacy
    else:
        experiment = experiment_from(merged(values, changes), str(path))
        privacy = PrivacyConfig()
    refuse_conditional(experiment, str(path), "these attacks ask a generator of one pair")
    refuse_several_contrasts(experiment, str(path), "these attacks seek one image of the source")
    return experiment, privacy


def mechanism_from(text: str) -> AuditedMechanism:
    """Read one ``--mechanism``: ``none``, or a name, a colon and settings.

    Raises:
        ConfigError: an unknown mechanism or setting, or one that this audit cannot attack.
    """
    where = f"--mechanism {text}"
    name, _, rest = text.partition(":")
    pairs = [pair for pair in rest.split(",") if pair]
    if any("=" not in pair for pair in pairs):
        raise ConfigError(f"{where}: write name:key=value, e.g. update_noise:noise_multiplier=0.1")
    known = [NONE, *MECHANISMS]
    if name not in known:
        raise ConfigError(f"{where}: unknown mechanism '{name}'; {nearest(name, known)}")
    given = OmegaConf.to_container(OmegaConf.from_dotlist(pairs))
    privacy = privacy_from({"mechanism": name, **dict(given)}, where)  # type: ignore[arg-type]
    return audited(privacy, where, pairs)


def audited(privacy: PrivacyConfig, where: str, told: Sequence[str] = ()) -> AuditedMechanism:
    """A mechanism under a name that says its settings.

    Args:
        privacy: the mechanism.
        where: the words a message begins with.
        told: ``key=value`` as they were asked for; by default those that differ from the defaults.

    Raises:
        ConfigError: it changes nothing that the audit's attacker sees.
    """
    record = privacy.record
    if record is None:
        return AuditedMechanism("no mechanism", privacy)
    if record.released is None and record.learner is None:
        raise ConfigError(
            f"{where}: the audit cannot repeat what '{record.name}' does; where it hides messages "
            "and changes no model, what the model tells is audited as 'none'"
        )
    values, defaults = privacy_values(privacy), asdict(record.settings())
    changed = [f"{k}={v}" for k, v in values.items() if defaults.get(k, v) != v]
    told = [pair.replace("_", " ").replace("=", " ") for pair in told or changed]
    return AuditedMechanism(", ".join([record.label, *told]), privacy)


def make_plan(
    settings: tuple[ExperimentConfig, Sequence[AuditedMechanism]],
    sites: Sequence[PreparedSite],
    site: str | None,
    quick: bool,
    title: str,
) -> AuditPlan:
    """Put together what is audited.

    Args:
        settings: the run's, and the mechanisms.
        sites: the prepared data that is here.
        site: the site that is audited; by default the one with most patients.
        quick: for a first look.
        title: heading of the page.

    Raises:
        ConfigError: no such site, it has too few patients to be divided, a mechanism that acts in
            training does not admit the run's model, or it is a model of volumes or a lab's own.
    """
    experiment, mechanisms = settings
    if experiment.model.patch:
        raise ConfigError(
            f"model.patch is {list(experiment.model.patch)}, and the attacks of this audit know "
            "models of slices alone; audit the run's model of slices, without model.patch"
        )
    if experiment.model.module.is_own:
        raise ConfigError(
            f"'{experiment.model.module.kind}' is a module of your own, and the attacks of this "
            "audit know the steps and losses of this project's models; audit one of ours"
        )
    for mechanism in mechanisms:
        if acts_in_training(mechanism.privacy):
            check_experiment(experiment, f"--mechanism {mechanism.privacy.mechanism}")
    by_name = {prepared.site: prepared for prepared in sites}
    if site is not None and site not in by_name:
        raise ConfigError(f"--site {site}: not in --data; {nearest(site, by_name)}")
    chosen = by_name[site] if site else max(sites, key=lambda one: (len(people(one)), one.site))
    number = len(people(chosen))
    if number < FEWEST_PEOPLE:
        raise ConfigError(
            f"site '{chosen.site}' has {number} patients with both images; the audit divides "
            f"{FEWEST_PEOPLE} or more into members and others"
        )
    none = audited(PrivacyConfig(), "none")
    others = [one for one in mechanisms if one.privacy.acts]
    ordered = tuple(dict.fromkeys([none, *others]))
    sizes = QUICK if quick else Sizes()
    sizes = replace(sizes, slices=min(sizes.slices, number))
    plain = replace(experiment, strategy=StrategyConfig())
    return AuditPlan(plain, ordered, chosen, tuple(sites), sizes, quick, title)
