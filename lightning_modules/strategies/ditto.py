"""Ditto: a personal model at every site, pulled towards the global one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fedi2i.typed_config import number
from lightning_modules.strategies.fedavg import WeightedMean
from lightning_modules.strategies.fedprox import ProximalTerm
from lightning_modules.strategies.interface import (
    STRONGEST_PULL,
    YES,
    Mechanisms,
    Paper,
    SiteRule,
    Strategy,
    by_role,
    pairs,
)

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class DittoSettings:
    """Pull of the personal model towards the received one, one coefficient per role."""

    lambda_generator: float = number(
        0.01,
        most=STRONGEST_PULL,
        meaning="pull of the personal model; 0 trains it without the others",
    )
    lambda_discriminator: float = number(
        0.0033, most=STRONGEST_PULL, meaning="the same for discriminators"
    )


def _personal_term(settings: DittoSettings, received: Mapping[str, Tensor]) -> ProximalTerm:
    return ProximalTerm(by_role(settings, "lambda"), anchors=received)


STRATEGY = Strategy(
    name="ditto",
    label="Ditto",
    does="trains a personal model beside the global one and pulls it towards it",
    paper=Paper(
        "Li et al., ICML 2021",
        "arXiv:2012.04221",
        "li2021ditto",
        "equation 1: + lambda/2 ||v - w||^2",
    ),
    settings=DittoSettings,
    server=WeightedMean,
    site=SiteRule(personal_term=_personal_term),
    fedavg_at={"lambda_generator": 0.0, "lambda_discriminator": 0.0},
    # Decades around the authors' value, which stands among 0.1, 1 and 2 there.
    grid=pairs("lambda", [0.01, 0.1, 1.0, 10.0], 1 / 3),
    mechanisms=Mechanisms(
        update_level_dp=YES,
        patient_level_dp="its personal models are trained on the same patients again, outside the "
        "steps that are accounted for",
        encryption=YES,
        secure_aggregation=YES,
    ),
    published=pairs("lambda", [1.0], 1 / 3)[0],
    published_in="experiments: each device chooses of 0.1, 1 and 2, or takes 1 with too few "
    "samples to choose (less under strong attacks); `lam=1` in the scripts of the authors' code",
)
