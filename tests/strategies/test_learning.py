"""Every strategy's global model learns, not only moves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from in_process_federation import InProcessFederation
from test_participation import AGGREGATED

from jobs.writing.federation import DEFAULT_FILE, read_federated_experiment
from lightning_modules.evaluation.baselines import CONSTANT_ARM, MEAN_TARGET_ARM, baselines_of
from lightning_modules.evaluation.validation import (
    load_translator,
    patient_metrics,
    patients,
    translate,
    validate,
)
from lightning_modules.networks.generators.catalogue import build_generator
from lightning_modules.strategies.catalogue import STRATEGY_JOBS
from lightning_modules.training.hardware import Hardware
from partitions.__main__ import main as partitions_command
from partitions.manifest import read_manifest
from partitions.preparation import PreparedSite, prepare_site

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
def test_every_strategy_translates_unseen_patients_better_after_a_few_rounds(
    make_federation: MakeFederation, prepared_sites: dict[str, PreparedSite], job: str
) -> None:
    torch.manual_seed(0)
    # Layer by layer, sites train fewer and fewer layers: finished ones learn no more.
    steps, rounds = (60, 4) if job == "fedma_layerwise" else (30, 3)
    federation = make_federation(
        SITES, strategy=STRATEGY_JOBS[job].values, training={"steps": steps}
    )
    before = psnr(federation, prepared_sites)
    federation.run(rounds=rounds)
    assert psnr(federation, prepared_sites) > before + 1.0


def without_a_network(prepared: dict[str, PreparedSite]) -> float:
    """The better of constant and mean target on the sites' validation patients."""
    values: dict[str, list[float]] = {CONSTANT_ARM: [], MEAN_TARGET_ARM: []}
    for site, baselines in baselines_of([prepared[site] for site in SITES]).items():
        for patient in patients(prepared[site].split("val")):
            found = baselines.predictions(patient)
            for arm, of_arm in values.items():
                of_arm.append(patient_metrics(found[arm], patient)["psnr"])
    return max(fmean(of_arm) for of_arm in values.values())


@pytest.mark.parametrize(
    "changes",
    [{}, {"model": {"name": "regression"}, "sharing": "generator"}],
    ids=["pix2pix", "regression"],
)
def test_a_federated_model_learns_more_than_can_be_had_without_a_network(
    make_federation: MakeFederation, prepared_sites: dict[str, PreparedSite], changes: Any
) -> None:
    torch.manual_seed(0)
    federation = make_federation(SITES, training={"steps": 60}, **changes)
    federation.run(rounds=3)
    assert psnr(federation, prepared_sites) > without_a_network(prepared_sites) + 1.0


@pytest.mark.slow
@pytest.mark.nightly
def test_the_smoke_experiment_learns_more_than_can_be_had_without_a_network(
    tmp_path: Path,
) -> None:
    """Faster: the tiny federation above. Here on the test patients, as ``make smoke`` reports."""
    assert partitions_command(["demo", "--out", str(tmp_path), "--size", "smoke"]) == 0
    job = read_federated_experiment(DEFAULT_FILE.with_name("smoke.yaml"))
    prepared = {
        site: prepare_site(
            read_manifest(tmp_path / site),
            job.experiment.data.preparation,
            tmp_path / site / "prepared",
            progress=False,
        )
        for site in job.federation.sites
    }
    rounds = job.experiment.training.rounds
    federation = InProcessFederation(job.experiment, prepared, tmp_path / "run", len(prepared))
    federation.run(rounds=rounds)
    generator = build_generator(job.experiment.model.generator)
    load_translator(generator, federation.tensors())
    values: dict[str, list[float]] = {"constant": [], "mean-target": [], "fedavg": []}
    for site, baselines in baselines_of(list(prepared.values())).items():
        for patient in patients(prepared[site].split("test")):
            found = baselines.predictions(patient)
            found["fedavg"] = translate(generator, patient.source, HARDWARE)
            for arm, of_arm in values.items():
                of_arm.append(patient_metrics(found[arm], patient)["psnr"])
    means = {arm: fmean(of_arm) for arm, of_arm in values.items()}
    assert means["fedavg"] > max(means["constant"], means["mean-target"]) + 0.5, means
