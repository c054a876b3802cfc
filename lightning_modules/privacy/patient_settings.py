"""The settings of patient-level differential privacy, what they spend, and what they cannot be.

Read without torch: whoever writes a job counts its epsilon too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fedi2i.errors import ConfigError, DataError
from fedi2i.typed_config import number, switch
from lightning_modules.configuration import ExperimentConfig
from lightning_modules.model_networks import MODELS
from lightning_modules.privacy.accountant import Release
from lightning_modules.privacy.ledger import Budget
from lightning_modules.source_contrasts import refuse_several_contrasts
from lightning_modules.strategies.interface import YES, Strategy

_SENSITIVITY = 1.0
"""A patient is added or removed, and moves the clipped sum by one clipping norm."""


@dataclass(frozen=True)
class PatientNoise:
    """How the networks of a site are trained with patient-level differential privacy (DP-SGD).

    Attributes:
        noise_multiplier: standard deviation of the noise on a sum of clipped gradients, as a
            multiple of the clipping norm.
        clipping_generator: norm to which one patient's gradient of a generator is clipped.
        clipping_discriminator: the same for discriminators.
        sampling_rate: probability with which a patient is drawn for a step of a network.
        slices: most slices of a drawn patient that take part in a step.
        patients: fewest training patients of a site that takes part. Everybody knows it; it stands
            wherever the site's true number would say who is there: sums of gradients are divided by
            ``sampling_rate`` times it, and it is the number of samples that a site states.
        epsilon: the most that a site spends; a job that would need more is refused.
        delta: the probability with which the guarantee may fail, below 1 / patients of every site.
        share_metrics: whether validation metrics leave. They are of other patients, whom the
            guarantee does not cover.
    """

    noise_multiplier: float = number(1.0, above=True, meaning="noise as a multiple of clipping")
    clipping_generator: float = number(20.0, above=True, meaning="norm of a patient's gradient")
    clipping_discriminator: float = number(2.0, above=True, meaning="the same, discriminators")
    sampling_rate: float = number(
        0.1, above=True, most=1.0, meaning="how likely a patient is drawn for a step"
    )
    slices: int = number(2, above=True, most=4096, meaning="most slices of a drawn patient")
    patients: int = number(
        2, above=True, most=10_000_000, meaning="fewest training patients of a site; public"
    )
    epsilon: float = number(50.0, above=True, meaning="the most that a site spends")
    delta: float = number(1e-3, high=1.0, above=True, meaning="how often the guarantee may fail")
    share_metrics: bool = switch(True, meaning="validation metrics leave, outside the guarantee")

    @property
    def budget(self) -> Budget:
        """The most that a site spends on jobs with these settings."""
        return Budget(self.epsilon, self.delta)

    @property
    def expected_patients(self) -> float:
        """By how much a sum of gradients is divided: the same whoever is there."""
        return self.sampling_rate * self.patients

    def clipping(self, model: str) -> dict[str, float]:
        """The clipping norm of every network of a model."""
        norms = {
            "generator": self.clipping_generator,
            "discriminator": self.clipping_discriminator,
        }
        return {network: norms[role] for network, role in MODELS[model].roles.items()}

    def release(self, model: str, steps: int) -> Release:
        """What some steps of every network release.

        All networks of a model see real slices, so all are noised, also those that stay at the
        site: what is shared has learnt from them. Each draws its own patients, so that the steps of
        one are independent of those of the other, and their number adds up.
        """
        count = steps * len(MODELS[model].names)
        return Release(self.noise_multiplier, _SENSITIVITY, self.sampling_rate, count)


def check_experiment(experiment: ExperimentConfig, where: str) -> None:
    """Refuse an experiment that patient-level differential privacy does not cover.

    Raises:
        ConfigError: naming the setting and the remedy.
    """
    reason = experiment.model.described.no_patient_noise
    if reason:
        raise ConfigError(
            f"{where}: model '{experiment.model.name}' does not admit patient-level differential "
            f"privacy: {reason}; take 'pix2pix' or 'regression'"
        )
    refuse_several_contrasts(
        experiment, where, "patient-level differential privacy draws batches of one"
    )
    _check_strategy(experiment.strategy.record, where)
    experiment.model.refuse_batch_norm(
        "running statistics are images' data that no clipping bounds", where
    )


def check_patients(noise: PatientNoise, budget: Budget, patients: int) -> None:
    """Refuse a site with fewer patients than everybody counts on, or with too many for its delta.

    Args:
        noise: the job's settings.
        budget: the budget that holds at the site.
        patients: training patients of the site.

    Raises:
        DataError: the numbers stay in this site's log.
    """
    if patients < noise.patients:
        raise DataError(
            f"this site has {patients} training patient(s), and the job counts on "
            f"{noise.patients} (privacy.patients); take no part, or have the job written with a "
            "smaller number"
        )
    if budget.delta * patients >= 1:
        raise DataError(
            f"delta is {budget.delta:g}, and this site has {patients} training patients: so much "
            "would allow one of them to be given away whole; write a delta well below "
            f"{1 / patients:.2g}"
        )


def refuse_statistics(buffers: Iterable[tuple[str, bool]], where: str) -> None:
    """Refuse buffers that could take up data of patients, as those of batch normalisation do.

    Gradients are clipped; what a layer notes of its inputs on its way is not.

    Args:
        buffers: name, and whether it holds floating-point numbers.
        where: the words a message begins with.

    Raises:
        ConfigError: naming the first.
    """
    for name, is_floating in buffers:
        if is_floating:
            raise ConfigError(
                f"{where}: buffer '{name}' of the model may take up data that no clipping bounds; "
                "take networks without such buffers, e.g. norm 'instance' in place of 'batch'"
            )


def _check_strategy(strategy: Strategy, where: str) -> None:
    admits = strategy.mechanisms.patient_level_dp
    if admits != YES:
        raise ConfigError(
            f"{where}: strategy '{strategy.name}' does not admit patient-level differential "
            f"privacy: {admits}"
        )
