"""How little and how much a job may ask of a site: the site's own file says it, not the job.

A job over few sites, few patients or few slices gives single patients away: after one step of plain
gradient descent on one slice the "global model" is the gradient of that slice, and the slice can be
computed from it. The limits stand below ``limits`` in a participant's ``fedi2i.yaml``. What a job
says of itself is checked when it arrives (``JobAdmission``), and all of it when a site's session
opens, before anything is prepared or trained.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from fedi2i.errors import UserError
from fedi2i.typed_config import number, switch
from lightning_modules.configuration import ExperimentConfig
from lightning_modules.model_networks import ModelNetworks, described
from partitions.preparation import PreparedSplit
from partitions.preparation.configuration import DOMAINS

FULL_PRECISION = 17
"""Significant digits that a float64 has at most: with so many nothing is rounded."""


REFUSED = "job_limits.refused"
"""The action in the site's audit trail."""
REFUSED_BY = "fedi2i.refused_by"
"""Header of an answer: the ``Rule`` that refused the job."""


@dataclass(frozen=True)
class JobLimits:
    """What a participant lets a job ask of it. The defaults are for real patients.

    Attributes:
        least_sites: fewest sites of a job, and fewest whose updates may make a global model. With
            two, either of them can subtract its own part and hold the other's.
        least_training_patients: fewest patients that a network is trained on here.
        least_validation_patients: fewest patients that a metric is the mean of; a site without any
            sends no metric, and trains.
        least_training_slices: fewest slices that a network is trained on here.
        least_samples_per_round: fewest slices that an update is made of: steps times batch size.
        most_share_of_a_patient: largest part of the training slices that one patient may hold.
        metric_digits: significant digits of numbers that leave; coarser numbers say less of single
            patients.
        most_pixels: largest prepared slice, rows times columns, and most voxels of a patch.
        most_steps: most optimizer steps per round.
        most_parameters: largest model, parameters of all its networks.
        other_release: whether a job, a server or another site of another release of FedI2I, or with
            other code of the same release, is taken all the same.
        plain_updates: whether what is trained here may reach the server readable; without it only
            encrypted averaging is taken.
        single_updates: whether what this site alone has trained may reach the server readable;
            without it secure aggregation, whose sum the server reads, is taken as well.
    """

    least_sites: int = number(3, low=1)
    least_training_patients: int = number(5, low=1)
    least_validation_patients: int = number(3, low=1)
    least_training_slices: int = number(50, low=1)
    least_samples_per_round: int = number(50, low=1)
    most_share_of_a_patient: float = number(0.5, above=True, most=1.0)
    metric_digits: int = number(4, low=1, most=FULL_PRECISION)
    most_pixels: int = number(1024 * 1024, low=1)
    most_steps: int = number(20_000, low=1)
    most_parameters: int = number(200_000_000, low=1)
    other_release: bool = switch(False)
    plain_updates: bool = switch(True)
    single_updates: bool = switch(True)


SIMULATION = JobLimits(
    least_sites=1,
    least_training_patients=1,
    least_validation_patients=1,
    least_training_slices=1,
    least_samples_per_round=1,
    most_share_of_a_patient=1.0,
    metric_digits=FULL_PRECISION,
)
"""For simulations and proofs of concept on one machine, whose owner holds all the data anyway."""


class Rule(StrEnum):
    """What a job was refused for; the word may go to whoever submitted it, and nothing else does.

    A word for each limit, so that the submitter learns which one, and no number of the site's.
    """

    LEAST_SITES = "least_sites"
    LEAST_TRAINING_PATIENTS = "least_training_patients"
    LEAST_VALIDATION_PATIENTS = "least_validation_patients"
    LEAST_TRAINING_SLICES = "least_training_slices"
    LEAST_SAMPLES_PER_ROUND = "least_samples_per_round"
    MOST_SHARE_OF_A_PATIENT = "most_share_of_a_patient"
    MOST_PIXELS = "most_pixels"
    MOST_STEPS = "most_steps"
    MOST_PARAMETERS = "most_parameters"
    OTHER_RELEASE = "other_release"
    PLAIN_UPDATES = "plain_updates"
    SINGLE_UPDATES = "single_updates"
    PATIENT_PRIVACY = "patient_privacy"
    STATISTICS = "statistics"


PRIVACY_BUDGET = "privacy_budget"
"""The word that goes to the submitter where a site's privacy budget is spent, and no number."""
REASONS: Mapping[str, str] = {
    **{str(rule): f"its own limits refuse the job: '{rule}'" for rule in Rule},
    PRIVACY_BUDGET: "its privacy budget is spent, so it takes no further part; the job goes on "
    "without it where federation.min_sites allows",
}
"""What a submitter reads for each word that a site may answer with."""


class JobRefusedError(UserError):
    """A site's own limits refuse a job.

    Attributes:
        rule: the word for it, one of ``REASONS``.
    """

    def __init__(self, rule: Rule, sentence: str) -> None:
        super().__init__(f"refused by '{rule}' in this participant's own file: {sentence}")
        self.rule: str = rule


class BudgetRefusedError(JobRefusedError):
    """A site's privacy budget is spent."""

    def __init__(self, sentence: str) -> None:
        UserError.__init__(self, f"refused by '{PRIVACY_BUDGET}': {sentence}")
        self.rule = PRIVACY_BUDGET


def check_sites(limits: JobLimits, sites: int, needed: int) -> None:
    """Refuse a job of too few sites, or one that makes do with too few.

    Args:
        limits: the participant's.
        sites: sites that the job runs at.
        needed: fewest sites whose updates make a round, as the job's ``min_clients`` says.

    Raises:
        JobRefusedError: naming the limit.
    """
    what = ""
    if sites < limits.least_sites:
        what = f"the job runs at {sites} site(s)"
    elif needed < limits.least_sites:
        what = f"the job makes rounds of {needed} site(s) (min_sites)"
    if what:
        raise JobRefusedError(
            Rule.LEAST_SITES,
            f"{what}, at least {limits.least_sites} are asked for; {why_more(min(sites, needed))}",
        )


def why_more(sites: int) -> str:
    """Why a round of so few sites gives a site away, and who alone may allow it."""
    reason = (
        "each of two computes the other's model from the mean, whatever encrypts or masks it"
        if sites == 2
        else "the model of such a round is that site's own"
        if sites == 1
        else "few sites can put their parts together and compute another's model"
    )
    return f"{reason}; a site allows it by 'limits: {{least_sites: {sites}}}' in its own file alone"


def check_settings(limits: JobLimits, experiment: ExperimentConfig) -> None:
    """Refuse settings that ask for too little of a round, or too much of the machine.

    Raises:
        JobRefusedError: naming the limit.
    """
    training = experiment.training
    samples = training.steps * training.batch_size
    if samples < limits.least_samples_per_round:
        raise _too_few(
            Rule.LEAST_SAMPLES_PER_ROUND,
            f"a round is {training.steps} steps of {training.batch_size} slices",
            limits.least_samples_per_round,
        )
    if training.steps > limits.most_steps:
        raise _too_much(Rule.MOST_STEPS, f"a round has {training.steps} steps", limits.most_steps)
    check_pixels(limits, experiment.data.preparation.size)
    _check_patch(limits, experiment.model.patch)


def check_pixels(limits: JobLimits, size: tuple[int, int]) -> None:
    """Refuse slices that are too large.

    Raises:
        JobRefusedError: naming the limit.
    """
    rows, columns = size
    if rows * columns > limits.most_pixels:
        raise _too_much(
            Rule.MOST_PIXELS, f"slices have {rows} x {columns} pixels", limits.most_pixels
        )


def _check_patch(limits: JobLimits, patch: tuple[int, ...]) -> None:
    if patch and math.prod(patch) > limits.most_pixels:
        shape = " x ".join(str(side) for side in patch)
        raise _too_much(Rule.MOST_PIXELS, f"patches have {shape} voxels", limits.most_pixels)


def check_parameters(limits: JobLimits, parameters: int) -> None:
    """Refuse a model that is too large.

    Raises:
        JobRefusedError: naming the limit.
    """
    if parameters > limits.most_parameters:
        raise _too_much(
            Rule.MOST_PARAMETERS, f"the model has {parameters} parameters", limits.most_parameters
        )


def check_readable(limits: JobLimits, encrypted: bool, masked: bool) -> None:
    """Refuse a job whose updates leave readable, where the participant says that none may.

    Of how many sites the sum must be, ``check_sites`` says.

    Args:
        limits: the participant's.
        encrypted: whether what is trained leaves as ciphertext alone.
        masked: whether it leaves under the masks of secure aggregation alone.

    Raises:
        JobRefusedError: naming the limit.
    """
    if not encrypted and not limits.plain_updates:
        raise JobRefusedError(
            Rule.PLAIN_UPDATES,
            "the server could read what is trained here; export the job with privacy.mechanism "
            "'encryption'",
        )
    if not (encrypted or masked or limits.single_updates):
        raise JobRefusedError(
            Rule.SINGLE_UPDATES,
            "the server could read what this site alone has trained; export the job with "
            "privacy.mechanism 'secure_sum' or 'encryption'",
        )


def check_data(
    limits: JobLimits,
    model: ModelNetworks | str,
    training: PreparedSplit,
    validation: PreparedSplit,
) -> None:
    """Refuse to train on, or to measure, too few patients or slices.

    Slices count as the job's own settings left them: a share of the mask that one slice has alone
    leaves one slice. An unpaired model draws each domain by itself, so each is counted by itself; a
    domain that the site does not have trains nothing here.

    Args:
        limits: the participant's.
        model: the model, or its name.
        training: the prepared slices to train on.
        validation: the prepared slices to measure on.

    Raises:
        JobRefusedError: naming the limit.
    """
    paired = described(model).paired
    groups = (DOMAINS,) if paired else tuple((domain,) for domain in DOMAINS)
    for domains in groups:
        held = slices_of_patients(training, domains)
        if held:
            _check_training(limits, held)
    patients = len(slices_of_patients(validation, DOMAINS))
    # A site without validation patients measures nothing, so no number leaves.
    if 0 < patients < limits.least_validation_patients:
        raise _too_few(
            Rule.LEAST_VALIDATION_PATIENTS,
            f"this site has {patients} validation patient(s)",
            limits.least_validation_patients,
        )


def slices_of_patients(split: PreparedSplit, domains: tuple[str, ...]) -> Mapping[str, int]:
    """Count the slices of each patient who has some in all of these domains."""
    held: dict[str, int] = {}
    for subject in split.subjects:
        slices = subject.stop - subject.start
        if slices and set(domains) <= set(subject.domains):
            held[subject.patient] = held.get(subject.patient, 0) + slices
    return held


def rounded(limits: JobLimits, metrics: Mapping[str, float]) -> dict[str, float]:
    """Round numbers that are to leave to the significant digits that the participant allows."""
    digits = limits.metric_digits
    if digits >= FULL_PRECISION:
        return dict(metrics)
    return {name: float(f"{value:.{digits}g}") for name, value in metrics.items()}


def _check_training(limits: JobLimits, held: Mapping[str, int]) -> None:
    slices = sum(held.values())
    if len(held) < limits.least_training_patients:
        raise _too_few(
            Rule.LEAST_TRAINING_PATIENTS,
            f"this site has {len(held)} training patient(s) for it",
            limits.least_training_patients,
        )
    if slices < limits.least_training_slices:
        raise _too_few(
            Rule.LEAST_TRAINING_SLICES,
            f"this site has {slices} training slice(s) for it",
            limits.least_training_slices,
        )
    share = max(held.values()) / slices
    if share > limits.most_share_of_a_patient:
        raise _too_much(
            Rule.MOST_SHARE_OF_A_PATIENT,
            f"one patient holds {share:.0%} of the training slices",
            limits.most_share_of_a_patient,
        )


def _too_few(rule: Rule, what: str, least: float) -> JobRefusedError:
    return JobRefusedError(rule, f"{what}, at least {least:g} are asked for")


def _too_much(rule: Rule, what: str, most: float) -> JobRefusedError:
    return JobRefusedError(rule, f"{what}, at most {most:,.10g} are allowed")
