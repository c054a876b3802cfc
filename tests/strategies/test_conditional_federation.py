"""Sites with different pairs train one conditional generator, which translates a pair of none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from in_process_federation import InProcessFederation
from three_contrasts import CONTRASTS, PAIR, TRAINED, UNSEEN, write_three_contrasts
from torch import Tensor, nn

from fedi2i.typed_config import merged
from lightning_modules.configuration import ExperimentConfig, experiment_from
from lightning_modules.evaluation.baselines import baselines_of
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

HARDWARE = Hardware("cpu", "32-true", 1)
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


def of_pair(state: dict[str, Tensor], described: ExperimentConfig, pair: Any) -> nn.Module:
    generator = build_translator(described.model)
    load_translator(generator, state)
    return for_pair(generator, *pair)


def psnr(cohort: Path, translate: Callable[[PreparedSite], Any], pair: tuple[str, str]) -> float:
    """Of a pair at the site that takes part in no training."""
    config = replace(experiment().data.preparation, source=pair[0], target=pair[1])
    folder = cohort / UNSEEN
    site = prepare_site(read_manifest(folder), config, folder / "prepared", progress=False)
    (patient,) = patients(site.split("test"))
    return patient_metrics(translate(site)(patient), patient)["psnr"]


def test_a_pair_that_no_site_holds_is_learnt_by_the_pseudo_source_term_and_not_by_codes_alone(
    cohort: Path, tmp_path: Path
) -> None:
    found = {}
    for weight in (0.0, 1.0):
        described = experiment(model={"pseudo_source": weight})
        sites = federation(cohort, described, tmp_path / str(weight))
        sites.run(described.training.rounds)
        for pair in (*TRAINED.values(), PAIR):
            network = of_pair(sites.tensors(), described, pair)
            found[weight, pair] = psnr(cohort, lambda _, n=network: by(n), pair)
    constants = {
        pair: psnr(
            cohort,
            lambda site: (
                lambda patient: torch.full_like(
                    patient.target, baselines_of([site])[UNSEEN].constant or 0.0
                )
            ),
            pair,
        )
        for pair in (*TRAINED.values(), PAIR)
    }
    for pair in TRAINED.values():
        assert found[1.0, pair] > constants[pair] + 3
    assert found[1.0, PAIR] > constants[PAIR] + 2
    assert found[1.0, PAIR] > found[0.0, PAIR] + 2


def by(network: nn.Module) -> Callable[[Any], Tensor]:
    return lambda patient: translate_patient(network, patient, HARDWARE)


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
