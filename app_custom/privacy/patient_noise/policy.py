"""A site's own demand: jobs train here with patient-level differential privacy, or not at all.

It stands below ``patient_privacy`` in the site's ``fedi2i.yaml``, which no job can read or change.
The demand is refused or met, and never put on a job that does not name it: how gradients are made
is the job's to say, and a site that trained otherwise than the others would spoil their model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from app_custom.gates.job_limits import JobRefusedError, Rule
from fedi2i.errors import ConfigError
from fedi2i.typed_config import check_values, number, record_from, switch
from lightning_modules.privacy.ledger import Budget
from lightning_modules.privacy.patient_settings import PatientNoise


@dataclass(frozen=True)
class PatientPrivacy:
    """What a site demands of every job.

    Attributes:
        required: whether jobs without patient-level differential privacy are refused. Then the
            other values hold in place of the jobs' own.
        epsilon: the most that all jobs together may spend.
        delta: the delta at which it is computed, below 1 / training patients of the site.
        share_metrics: whether validation metrics may leave, where the job shares them.
    """

    required: bool = switch(False)
    epsilon: float = number(8.0, above=True)
    delta: float = number(1e-3, high=1.0, above=True)
    share_metrics: bool = switch(False)

    def __post_init__(self) -> None:
        """Refuse a budget that would not hold, because nothing demands it.

        Raises:
            ConfigError: naming the key that is missing.
        """
        if not self.required and any(getattr(self, f.name) != f.default for f in fields(self)):
            raise ConfigError(
                "patient_privacy has values, but not 'required: true', without which they do not "
                "hold; add it, or remove them"
            )

    def budget(self, noise: PatientNoise) -> Budget:
        """The budget that holds at this site for a job."""
        return Budget(self.epsilon, self.delta) if self.required else noise.budget

    def shares_metrics(self, noise: PatientNoise) -> bool:
        """Whether validation metrics of a job leave."""
        return noise.share_metrics and (self.share_metrics or not self.required)


def noise_from(values: Mapping[str, Any] | None, where: str) -> PatientNoise | None:
    """The settings that a job gives its executor; None where it trains without noise.

    Raises:
        ConfigError: an unknown key or a value that no mechanism can have.
    """
    if values is None:
        return None
    noise = record_from(PatientNoise, values, where, "patient_noise.")
    check_values(noise, where, "patient_noise.")
    return noise


def check_demand(policy: PatientPrivacy, noise: PatientNoise | None) -> None:
    """Refuse a job that trains without noise where the site demands it.

    Raises:
        JobRefusedError: it does.
    """
    if policy.required and noise is None:
        raise JobRefusedError(
            Rule.PATIENT_PRIVACY,
            "the job trains without patient-level differential privacy, and this site demands it",
        )
