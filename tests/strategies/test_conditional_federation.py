"""Sites with different pairs train one conditional generator in a federation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from in_process_federation import InProcessFederation
from three_contrasts import CONTRASTS, PAIR, TRAINED, UNSEEN, write_three_contrasts

from fedi2i.typed_config import merged
from lightning_modules.configuration import ExperimentConfig, experiment_from
from lightning_modules.evaluation.validation import (
    load_translator,
    patient_metrics,
    patients,
    translate_patient,
)
from lightning_modules.networks.building import build_translator
from lightning_modules.networks.modulation import for_pair
from lightning_modules.training.hardware import Hardware
from partitions.manifest import read_manifest
from partitions.preparation import PreparedSite, prepare_site

VALUES: dict[str, Any] = {
    "sharing": "generator",
    "data": {
        "preparation": {"source": PAIR[0], "target": PAIR[1], "size": [48, 40], "spacing": 1.5},
        "pairs": [
            {"site": site, "source": one, "target": two} for site, (one, two) in TRAINED.items()
        ],
    },
    "model": {
        "name": "conditional",
        "contrasts": list(CONTRASTS),
        "generator": {"channels": [8, 16, 16], "upsampling": "nearest"},
    },
    "training": {
        "rounds": 4,
        "steps": 25,
        "batch_size": 4,
        "learning_rate_generator": 0.006,
        "beta1": 0.9,
        "optimizer_state": "keep",
    },
}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return write_three_contrasts(tmp_path_factory.mktemp("three"))


def experiment(**changes: Any) -> ExperimentConfig:
    return experiment_from(merged(VALUES, changes), "test")


def prepared(cohort: Path, site: str, described: ExperimentConfig) -> PreparedSite:
    folder = cohort / site
    config = described.data.preparation_at(site)
    return prepare_site(read_manifest(folder), config, folder / "prepared", progress=False)


def federation(cohort: Path, described: ExperimentConfig, folder: Path) -> InProcessFederation:
    sites = {site: prepared(cohort, site, described) for site in TRAINED}
    return InProcessFederation(described, sites, folder)


def psnrs(cohort: Path, described: ExperimentConfig, folder: Path) -> dict[tuple[str, str], float]:
    """Trains, and measures every pair at the site that takes no part in it."""
    sites = federation(cohort, described, folder)
    sites.run(described.training.rounds)
    generator = build_translator(described.model)
    load_translator(generator, sites.tensors())
    found = {}
    for pair in (*TRAINED.values(), PAIR):
        patient = unseen_patient(cohort, pair)
        network = for_pair(generator, *pair)
        translated = translate_patient(network, patient, Hardware("cpu", "32-true", 1))
        found[pair] = patient_metrics(translated, patient)["psnr"]
    return found


def unseen_patient(cohort: Path, pair: tuple[str, str]) -> Any:
    config = replace(experiment().data.preparation, source=pair[0], target=pair[1])
    folder = cohort / UNSEEN
    site = prepare_site(read_manifest(folder), config, folder / "prepared", progress=False)
    (patient,) = patients(site.split("test"))
    return patient


def best_constant(cohort: Path, pair: tuple[str, str]) -> float:
    """The PSNR of the patient's own median, which no constant of other patients can pass by far."""
    patient = unseen_patient(cohort, pair)
    median = patient.target[patient.mask].median()
    return patient_metrics(torch.full_like(patient.target, float(median)), patient)["psnr"]


@pytest.mark.nightly
def test_a_pair_that_no_site_holds_is_learnt_by_the_pseudo_source_term_and_not_by_codes_alone(
    cohort: Path, tmp_path: Path
) -> None:
    """Five hundred steps of two federations; the terms are tested in test_conditional_module."""
    rounds = {"rounds": 100, "steps": 5}
    learnt, codes_alone = (
        psnrs(
            cohort,
            experiment(model={"pseudo_source": weight}, training=rounds),
            tmp_path / str(weight),
        )
        for weight in (1.0, 0.0)
    )
    constants = {pair: best_constant(cohort, pair) for pair in learnt}
    for pair in TRAINED.values():
        assert min(learnt[pair], codes_alone[pair]) > constants[pair] + 2
    assert codes_alone[PAIR] < constants[PAIR]
    assert learnt[PAIR] > constants[PAIR] + 1
    assert learnt[PAIR] > codes_alone[PAIR] + 3


def test_with_fedbn_the_modulation_stays_at_the_site_and_everything_else_is_shared(
    cohort: Path, tmp_path: Path
) -> None:
    described = experiment(strategy={"name": "fedbn"}, training={"rounds": 2, "steps": 2})
    sites = federation(cohort, described, tmp_path)
    sites.run(2)
    whole = build_translator(described.model).state_dict()
    modulation = {key for key in whole if ".scale." in key or ".shift." in key}
    assert modulation
    expected = {f"generator.{key}" for key in {*whole} - modulation}
    assert {*sites.weights} == expected
    assert all({*result.state} == expected for result in sites.results.values())
    own = {site: sites.learner(site).complete(sites.tensors(), 2) for site in TRAINED}
    assert {*own["north"]} == {f"generator.{key}" for key in whole}
    for key in modulation:
        if not key.endswith("bias"):
            one, other = (own[site][f"generator.{key}"] for site in TRAINED)
            assert not torch.equal(one, other)
