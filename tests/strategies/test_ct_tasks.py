"""MR to CT, cone-beam CT to CT and low dose to full dose in one process, on computed heads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
import torch
from in_process_federation import InProcessFederation
from test_participation import AGGREGATED

from fedi2i.typed_config import merged
from jobs.writing.federation import read_federated_experiment
from lightning_modules.configuration import experiment_from, experiment_values
from lightning_modules.evaluation.validation import load_translator, validate
from lightning_modules.metrics.presets.catalogue import PRESETS
from lightning_modules.networks.generators.catalogue import build_generator
from lightning_modules.strategies.catalogue import STRATEGY_JOBS
from lightning_modules.training.hardware import Hardware
from partitions.computed.cohort import write_cohort
from partitions.computed.ct.head import load_head
from partitions.computed.ct.head_subject import compute_scans
from partitions.computed.ct.tasks import TASKS
from partitions.manifest import read_manifest
from partitions.preparation import PreparedSite, prepare_site

EXPERIMENTS = Path(__file__).parents[2] / "jobs" / "experiments"
NAMES = ("mr_ct_smoke", "cbct_ct_smoke", "ldct_computed_smoke")
SOURCES = ("t1", "cbct", "ct_low")
SITES = ("north", "south")
HARDWARE = Hardware("cpu", "32-true", 1)

Sites = dict[str, PreparedSite]


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two heads at each of two sites, with every scan of the three tasks."""
    with pytest.MonkeyPatch.context() as patch:
        counts = {site: (0, 0, 0) for site in TASKS["mr-ct"].sizes["smoke"]}
        counts |= dict.fromkeys(SITES, (1, 1, 0))

        def compute(profile: Any, seed: np.random.SeedSequence) -> Any:
            return compute_scans(load_head(), profile, seed, SOURCES)

        every = replace(
            TASKS["mr-ct"],
            sequences=(*SOURCES, "ct"),
            sizes={"smoke": counts},
            compute=compute,
        )
        patch.setitem(TASKS, "mr-ct", every)
        out = tmp_path_factory.mktemp("heads") / "cohort"
        write_cohort(out, seed=1, size="smoke", workers=1, task="mr-ct")
    return out


@pytest.fixture(scope="module")
def federation(
    heads: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., tuple[InProcessFederation, Sites]]:
    """Makes a federation of a committed smoke experiment on the computed heads."""

    def make(name: str, **changes: Any) -> tuple[InProcessFederation, Sites]:
        committed = read_federated_experiment(EXPERIMENTS / f"{name}.yaml").experiment
        experiment = experiment_from(merged(experiment_values(committed), changes), "test")
        prepare = partial(prepare_site, config=experiment.data.preparation, progress=False)
        sites = {
            site: prepare(read_manifest(heads / site), cache=heads / site / "prepared")
            for site in SITES
        }
        folder = tmp_path_factory.mktemp("federation")
        return InProcessFederation(experiment, sites, folder), sites

    return make


def psnr(federation: InProcessFederation, sites: Sites, preset: str = "mr") -> float:
    generator = build_generator(federation.experiment.model.generator)
    values = []
    for site, prepared in sites.items():
        state = federation.learner(site).complete(federation.tensors(), federation.round_number)
        load_translator(generator, state)
        values.append(
            validate(generator, prepared.split("val"), HARDWARE, PRESETS[preset])["val/psnr"]
        )
    return fmean(values)


@pytest.mark.parametrize("name", NAMES)
def test_a_federation_learns_each_ct_task(federation: Any, name: str) -> None:
    torch.manual_seed(0)
    trained, sites = federation(name, training={"steps": 25})
    before = psnr(trained, sites)
    trained.run(rounds=2)
    assert psnr(trained, sites) > before + 2.0
    assert np.isfinite(psnr(trained, sites, trained.experiment.preset))


def test_prepared_ct_keeps_the_hounsfield_units_of_its_window(federation: Any, heads: Path) -> None:
    _, sites = federation("mr_ct_smoke")
    target = sites["north"].split("train").target / 65535 * 4095 - 1024
    assert target.min() == pytest.approx(-1000, abs=25)
    brain = np.median(target[len(target) // 2, 20:40, 20:36])
    assert brain == pytest.approx(30, abs=15)


@pytest.mark.parametrize("job", AGGREGATED)
def test_every_strategy_trains_on_mr_to_ct(federation: Any, job: str) -> None:
    strategy = STRATEGY_JOBS[job].values
    trained, sites = federation("mr_ct_smoke", strategy=strategy, training={"steps": 2})
    before = trained.tensors()
    trained.run(rounds=1)
    after = trained.tensors()
    assert not trained.refused
    assert any(not torch.equal(before[key], after[key]) for key in before)
    assert np.isfinite(psnr(trained, sites))
