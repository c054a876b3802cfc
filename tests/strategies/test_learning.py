"""Every strategy's global model learns, not only moves."""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean

import pytest
import torch
from in_process_federation import InProcessFederation
from test_participation import AGGREGATED

from lightning_modules.evaluation.validation import load_translator, validate
from lightning_modules.networks.generators.catalogue import build_generator
from lightning_modules.strategies.catalogue import STRATEGY_JOBS
from lightning_modules.training.hardware import Hardware
from partitions.preparation import PreparedSite

MakeFederation = Callable[..., InProcessFederation]
SITES = ("east", "north")
HARDWARE = Hardware("cpu", "32-true", 1)


def psnr(federation: InProcessFederation, prepared: dict[str, PreparedSite]) -> float:
    """Of the global model, with what each site keeps, on the sites' validation patients."""
    generator = build_generator(federation.experiment.model.generator)
    values = []
    for site in SITES:
        learner = federation.learner(site)
        load_translator(generator, learner.complete(federation.tensors(), federation.round_number))
        values.append(validate(generator, prepared[site].split("val"), HARDWARE)["val/psnr"])
    return fmean(values)


@pytest.mark.parametrize("job", AGGREGATED)
def test_every_strategy_translates_unseen_patients_better_after_three_rounds(
    make_federation: MakeFederation, prepared_sites: dict[str, PreparedSite], job: str
) -> None:
    torch.manual_seed(0)
    # Layer by layer, sites train fewer and fewer layers: finished ones learn no more.
    steps = 60 if job == "fedma_layerwise" else 30
    federation = make_federation(
        SITES, strategy=STRATEGY_JOBS[job].values, training={"steps": steps}
    )
    before = psnr(federation, prepared_sites)
    federation.run(rounds=3)
    assert psnr(federation, prepared_sites) > before + 1.0
