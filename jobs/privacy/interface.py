"""What a privacy mechanism of a job is: one record per mechanism, in one file beside its checks.

A mechanism changes what a job's topology wrote: it adds filters at the sites, gives the executor
arguments, or puts other parts at the server. What it computes lies in ``lightning_modules.privacy``
and ``app_custom.privacy``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from app_custom.privacy.nvflare_filters import FilteredUpdate, RememberReceived
from fedi2i.errors import ConfigError
from lightning_modules.privacy.ledger import BudgetSpentError

if TYPE_CHECKING:
    from jobs.writing.federation import FederatedExperiment
    from jobs.writing.topologies.parts import Config, ServerSide, SiteSide
    from lightning_modules.configuration import ExperimentConfig
    from lightning_modules.privacy.accountant import Release
    from lightning_modules.privacy.update_noise import Noise, State

    Filters = Callable[[str, FederatedExperiment], list[Config]]

GENERATOR_ONLY = {"sharing": "generator"}
"""What committed jobs share: discriminators see the real targets and stay at their sites."""
NO_GUARANTEE = "not differential privacy"
"""What the promise of a mechanism without any guarantee begins with."""


@dataclass(frozen=True)
class PrivacyMechanism:
    """A privacy mechanism: everything that jobs and documents know of it.

    Attributes:
        name: as experiment files call it, in ``privacy.mechanism``.
        label: as reports show it, in a few words.
        ending: what the names of its committed jobs end in, after the strategy's.
        promise: one sentence for reports: what it promises, to whom, or that it promises nothing.
        admitted_by: the field of the strategies' ``Mechanisms`` that says whether they admit it.
        unit: whose data the promise is about; empty where nothing is promised.
        relation: what the promise compares: the unit's data ``replaced``, or ``added or removed``.
        settings: the record of its settings, with defaults, ranges and meanings.
        refuse: refuses settings or experiments that it cannot work with; gets the job and the
            words a message begins with.
        releases: what a site releases in some rounds, with noise that an accountant counts, or None
            where nothing is promised that an epsilon would measure. Gets the settings, the
            experiment, the rounds.
        values: what its committed jobs set of its settings.
        federation: what they set of the federation.
        experiment: what they set of the experiment.
        arriving: the site's filters that see the global model, after it was decompressed; gets
            the run's name and the job.
        leaving: the site's filters that see its answer before the gate does.
        server: changes the server's side of a job.
        site: changes the sites' side of a job.
        released: for the leakage audit: what leaves of a trained model. Gets the settings, the
            experiment, the received and the trained weights, and a source of standard normal
            values. None where the mechanism changes no model after training.
        learner: for the leakage audit: further arguments of the learner, from the settings. None
            where the mechanism does not act inside training.
    """

    name: str
    label: str
    ending: str
    promise: str
    admitted_by: str
    settings: type[Any]
    refuse: Callable[[FederatedExperiment, str], None]
    releases: Callable[[Any, ExperimentConfig, int], list[Release]] | None = None
    unit: str = ""
    relation: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    federation: Mapping[str, Any] = field(default_factory=dict)
    experiment: Mapping[str, Any] = field(default_factory=dict)
    arriving: Filters | None = None
    leaving: Filters | None = None
    server: Callable[[ServerSide, FederatedExperiment], ServerSide] | None = None
    site: Callable[[SiteSide, FederatedExperiment], SiteSide] | None = None
    released: Callable[[Any, ExperimentConfig, State, State, Noise], State] | None = None
    learner: Callable[[Any], Mapping[str, Any]] | None = None

    @property
    def guarantees(self) -> bool:
        """Whether it promises anything at all."""
        return not self.promise.startswith(NO_GUARANTEE)


def filtered_updates(
    which: type[FilteredUpdate], arguments: Callable[[Any], dict[str, Any]]
) -> dict[str, Any]:
    """What the mechanisms have in common that hand updates to one of NVFlare's filters.

    Args:
        which: our filter around it.
        arguments: the filter's arguments, from the mechanism's settings.

    Returns:
        Values of ``PrivacyMechanism``.
    """

    def arriving(_: str, __: FederatedExperiment) -> list[Config]:
        return [{"path": f"{which.__module__}.{RememberReceived.__name__}", "args": {}}]

    def leaving(_: str, job: FederatedExperiment) -> list[Config]:
        path = f"{which.__module__}.{which.__name__}"
        return [{"path": path, "args": arguments(job.privacy.settings)}]

    def released(
        settings: Any, _: ExperimentConfig, received: State, trained: State, noise: Noise
    ) -> State:
        return which(**arguments(settings)).released(received, trained, noise)

    return {
        "admitted_by": "update_level_dp",
        "experiment": GENERATOR_ONLY,
        "arriving": arriving,
        "leaving": leaving,
        "released": released,
    }


def refuse_independent_start(job: FederatedExperiment, where: str) -> None:
    """Refuse first weights of the sites' own beside a mechanism that acts on updates.

    Raises:
        ConfigError: naming the setting and the remedy.
    """
    if job.experiment.strategy.initialisation == "independent":
        raise ConfigError(
            f"{where}: privacy.mechanism is '{job.privacy.mechanism}', but sites with first "
            "weights of their own send no update of a received model; take "
            "strategy.initialisation 'shared'"
        )


def refuse_batch_norm(job: FederatedExperiment, where: str) -> None:
    """Refuse batch normalisation beside a mechanism that bounds weights or gradients alone.

    Raises:
        ConfigError: naming the setting and the remedy.
    """
    job.experiment.model.refuse_batch_norm(
        f"running statistics are images' data that '{job.privacy.mechanism}' does not bound", where
    )


def refuse_exceeded_budget(
    settings: Any, needed: float, work: str, remedy: str, where: str
) -> None:
    """Refuse a job that would spend more than the budget that it names itself.

    Args:
        settings: the mechanism's, with ``epsilon`` and ``delta``.
        needed: the epsilon of all rounds.
        work: what spends it, in words.
        remedy: what to take instead of a larger budget.
        where: the words a message begins with.

    Raises:
        BudgetSpentError: with what the rounds need.
    """
    if needed > settings.epsilon:
        raise BudgetSpentError(
            f"{where}: {work} spend epsilon {needed:.4g} at delta {settings.delta:g}, and "
            f"privacy.epsilon is {settings.epsilon:g}; take {remedy} or a larger budget"
        )
