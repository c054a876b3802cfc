"""LG-FedAvg: the generators' encoder stays at the site, their decoder is shared."""

from __future__ import annotations

from lightning_modules.strategies.fedavg import WeightedMean
from lightning_modules.strategies.fedper import encoder_of, shared_generators
from lightning_modules.strategies.interface import (
    YES,
    LocalInputs,
    Mechanisms,
    Paper,
    SiteRule,
    Strategy,
)


def encoders(inputs: LocalInputs) -> tuple[str, ...]:
    """Prefixes of the shared generators' encoders.

    The paper learns local representations at the sites and shares what works on them; a generator
    makes its representation in the encoder, the bottleneck included.

    Raises:
        ConfigError: no generator is shared.
    """
    return tuple(
        f"{name}.{path}"
        for name, generator in shared_generators(inputs, "lg_fedavg").items()
        for path in encoder_of(name, generator)
    )


STRATEGY = Strategy(
    name="lg_fedavg",
    label="LG-FedAvg",
    does="keeps the generators' encoders at the site",
    paper=Paper(
        "Liang et al. 2020",
        "arXiv:2001.01523",
        "liang2020lgfedavg",
        "w = (local representation, shared global part)",
    ),
    server=WeightedMean,
    site=SiteRule(local_parts=encoders, local_text="its own encoder"),
    acts=False,
    mechanisms=Mechanisms(
        update_level_dp=YES, patient_level_dp=YES, encryption=YES, secure_aggregation=YES
    ),
)
