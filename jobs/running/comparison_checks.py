"""What a comparison or a study refuses before its first arm is run: arms, patients, data."""

from __future__ import annotations

from collections.abc import Sequence

from fedi2i.errors import ConfigError, DataError
from jobs.running.prepared_data import refuse_nobody_in
from jobs.running.site_arms import check_left_out
from jobs.writing.federation import FederatedExperiment, with_strategy
from lightning_modules.contrasts import refuse_conditional
from lightning_modules.evaluation.distributions.measured import FEWEST_PATIENTS, ONE_TARGET
from lightning_modules.source_contrasts import refuse_unheld
from lightning_modules.strategies.catalogue import STRATEGY_JOBS
from partitions.manifest import SiteManifest, split_counts

REFERENCE = next(
    name for name, job in STRATEGY_JOBS.items() if job.strategy.reference and job.is_default
)
"""The job that every other one is compared with, whatever comes out."""


def check_arms(
    job: FederatedExperiment,
    strategies: Sequence[str],
    *,
    ensemble: bool = False,
    fine_tuning: int = 0,
    leave_one_site_out: bool = False,
    where: str = "arms",
) -> None:
    """Refuse arms that cannot be run, before the first of them is.

    Args:
        job: experiment and federation.
        strategies: to run.
        ensemble: see ``Comparison``, as for the others.
        fine_tuning: see there.
        leave_one_site_out: see there.
        where: the file, for messages.

    Raises:
        ConfigError: a misspelt strategy or one that does not fit the federation or its privacy
            mechanism; fine-tuning without the arm that it begins with; too few sites.
    """
    for strategy in strategies:
        with_strategy(job, strategy)
    if fine_tuning and REFERENCE not in strategies:
        raise ConfigError(
            f"{where}: fine-tuning begins with the model of '{REFERENCE}', which is no arm; name it"
        )
    if leave_one_site_out:
        check_left_out(job, f"{where}: leave_one_site_out")
    if ensemble and len(job.federation.sites) < 2:
        raise ConfigError(f"{where}: ensemble: one site has one model; it takes two or more")


def check_patients(job: FederatedExperiment, manifests: Sequence[SiteManifest]) -> None:
    """Refuse a site that trains and lacks what every arm needs, before the first arm is run.

    Raises:
        DataError: nobody to train on, nobody to choose a model on, or nobody who has one of the
            source's contrasts.
    """
    refuse_nobody_in("train", job, manifests, "on whom it would train")
    chosen = "on whom the best model is chosen and every arm followed"
    refuse_nobody_in("val", job, manifests, chosen)
    training = [manifest for manifest in manifests if manifest.site in job.federation.sites]
    refuse_unheld(job.experiment.data.preparation, training)


def check_distributions(job: FederatedExperiment, manifests: Sequence[SiteManifest]) -> None:
    """Refuse distances of sets of slices where no group of test patients is large enough.

    Raises:
        DataError: neither a site nor all federated sites together have enough test patients.
        ConfigError: sites have different targets.
    """
    refuse_conditional(job.experiment, "distributions", ONE_TARGET)
    unseen = job.federation.unseen
    counts = {m.site: split_counts(m)["test"] for m in manifests if m.site not in unseen}
    groups = [*counts.values(), sum(counts.values())]
    groups += [len(m.subjects) for m in manifests if m.site in unseen]
    if max(groups) < FEWEST_PATIENTS:
        raise DataError(
            f"distances of distributions need {FEWEST_PATIENTS} test patients, and neither a site "
            f"nor all federated sites together have more than {max(groups)}; give more patients, "
            "or leave 'distributions' out"
        )
