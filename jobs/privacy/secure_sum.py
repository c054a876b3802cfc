"""Secure aggregation by pairwise masks: the server learns the sum of all updates and no other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from app_custom.privacy.secure_sum.key_exchange import EXCHANGE_TASKS
from fedi2i.errors import ConfigError
from fedi2i.typed_config import number
from jobs.privacy.interface import GENERATOR_ONLY, PrivacyMechanism, refuse_batch_norm
from lightning_modules.privacy.integer_code import IntegerCode
from lightning_modules.privacy.pairwise_masks import LEAST_SITES

if TYPE_CHECKING:
    from jobs.writing.federation import FederatedExperiment
    from jobs.writing.topologies.parts import Config, ServerSide, SiteSide

_PARTS = "app_custom.privacy.secure_sum"
_LONGEST_WAIT = 600
"""Seconds that a round waits for its last sites once enough have answered. Going on without a site
means that all others train the round again, so the wait is longer than in a plain job."""


@dataclass(frozen=True)
class SecureSum:
    """Settings of secure aggregation; what goes into the sum are integers.

    Attributes:
        bits: length of the integers, 32 or 64.
        fraction_bits: binary digits after the point; the mean is right to half of the last one.
        bound: the largest change of a weight in one round; what is beyond is clipped and counted.
        slices_per_weight: training slices that make one unit of a site's weight in the mean.
            Weights go up to 255 with 32 bits.
    """

    bits: int = number(32, low=32, most=64, meaning="length of the integers, 32 or 64")
    fraction_bits: int = number(20, low=1, most=62, meaning="binary digits after the point")
    bound: float = number(1.0, above=True, meaning="largest change of a weight in a round")
    slices_per_weight: int = number(4, low=1, meaning="training slices per unit of weight")


def _refuse(job: FederatedExperiment, where: str) -> None:
    federation, experiment, name = job.federation, job.experiment, job.privacy.mechanism
    if federation.needed < LEAST_SITES:
        raise ConfigError(
            f"{where}: privacy.mechanism is '{name}', and rounds of {federation.needed} site(s) "
            "hide nobody, as each site subtracts its own part; name three sites or more, and "
            f"leave federation.min_sites at {LEAST_SITES} or above"
        )
    if federation.participation.missing:
        raise ConfigError(
            f"{where}: federation.participation.missing is {federation.participation.missing}, "
            f"but under privacy.mechanism '{name}' a site that misses a round stays out until the "
            "job ends; leave it out"
        )
    if federation.compression != "none":
        raise ConfigError(
            f"{where}: federation.compression is '{federation.compression}', but masked integers "
            f"cannot be made smaller; leave it out beside privacy.mechanism '{name}'"
        )
    if experiment.strategy.initialisation == "independent":
        raise ConfigError(
            f"{where}: privacy.mechanism is '{name}', but sites with first weights of their own "
            "send no change of a received model; take strategy.initialisation 'shared'"
        )
    refuse_batch_norm(job, where)
    try:
        IntegerCode(*_code(job).values()).check_no_overflow(len(federation.sites))
    except ConfigError as error:
        raise ConfigError(f"{where}: privacy: {error}") from error


def _code(job: FederatedExperiment) -> dict[str, Any]:
    settings = job.privacy.settings
    return {
        "bits": settings.bits,
        "fraction_bits": settings.fraction_bits,
        "bound": settings.bound,
        "slices_per_weight": settings.slices_per_weight,
    }


def _begin(run: str, _: FederatedExperiment) -> list[Config]:
    return [{"path": f"{_PARTS}.filters.BeginSum", "args": {"run": run}}]


def _mask(run: str, job: FederatedExperiment) -> list[Config]:
    arguments = {"run": run, **_code(job)}
    return [{"path": f"{_PARTS}.filters.MaskUpdate", "args": arguments}]


def _site(side: SiteSide, _: FederatedExperiment) -> SiteSide:
    """Beside the learner an executor for the exchange of keys, with a gate of its own."""
    (learner,) = side.executors
    run = learner["executor"]["args"]["run_name"]
    keys = {
        "tasks": list(EXCHANGE_TASKS),
        "executor": {
            "path": f"{_PARTS}.mask_keys.MaskKeys",
            "args": {"run": run},
        },
    }
    (answers,) = side.task_result_filters
    gate = {"tasks": list(EXCHANGE_TASKS), "filters": answers["filters"][-1:]}
    return replace(side, executors=[learner, keys], task_result_filters=[answers, gate])


def _server(side: ServerSide, job: FederatedExperiment) -> ServerSide:
    """The aggregator and the workflow of sums in the places of the plain ones."""
    aggregator = {"path": f"{_PARTS}.aggregator.SecureAggregator"}
    rounds = {"path": f"{_PARTS}.rounds.SecureRounds"}
    return replace(
        side,
        components=_replaced(side.components, "aggregator", aggregator, _code(job)),
        workflows=_replaced(
            side.workflows,
            "scatter_and_gather",
            rounds,
            {"wait_time_after_min_received": _LONGEST_WAIT},
        ),
    )


def _replaced(
    parts: Iterable[Config], name: str, changed: Config, arguments: Config
) -> list[Config]:
    return [
        {**part, **changed, "args": {**part["args"], **arguments}} if part["id"] == name else part
        for part in parts
    ]


MECHANISM = PrivacyMechanism(
    name="secure_sum",
    label="secure aggregation",
    ending="secure",
    promise="the server learns the sum of the sites' updates, and no single one",
    admitted_by="secure_aggregation",
    settings=SecureSum,
    refuse=_refuse,
    federation={"min_sites": LEAST_SITES},  # a round goes on without a site that is lost
    experiment=GENERATOR_ONLY,
    leaving=_mask,
    arriving=_begin,
    server=_server,
    site=_site,
)
