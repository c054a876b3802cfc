"""CycleGAN's sites that have one of the two domains train and send their generators alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from in_process_federation import InProcessFederation
from simulator_runs import EXPERIMENT
from tiny_cohort import keep_one_domain, write_tiny_cohort

from jobs.writing.federation import read_federated_experiment
from partitions.manifest import read_manifest
from partitions.preparation import prepare_site

SITES = ("north", "south", "west")
GENERATORS = {"generator_ab", "generator_ba"}
DISCRIMINATORS = {"discriminator_a", "discriminator_b"}


@pytest.fixture
def federation(tmp_path: Path) -> InProcessFederation:
    """North has both domains, south the source alone and west the target alone."""
    data = write_tiny_cohort(tmp_path / "data", SITES)
    keep_one_domain(data / "south", "t1")
    keep_one_domain(data / "west", "t2")
    changes = {
        "model": {"name": "cyclegan", "lambda_identity": 0.0},
        "data": {"preparation": {"pairing": "unpaired"}},
        "training": {"steps": 4},
    }
    experiment = read_federated_experiment(EXPERIMENT, {"experiment": changes}).experiment
    sites = {
        site: prepare_site(
            read_manifest(data / site),
            experiment.data.preparation,
            tmp_path / "prepared" / site,
            progress=False,
        )
        for site in SITES
    }
    return InProcessFederation(experiment, sites, tmp_path / "state", min_sites=len(SITES))


def networks(state: Mapping[str, object]) -> set[str]:
    return {key.split(".")[0] for key in state}


def test_they_send_their_generators_and_the_round_is_made_of_all_sites(
    federation: InProcessFederation,
) -> None:
    before = dict(federation.weights)
    federation.run(rounds=2)
    assert federation.refused == []
    sent = {site: networks(result.state) for site, result in federation.results.items()}
    assert sent == {
        "north": GENERATORS | DISCRIMINATORS,
        "south": GENERATORS,
        "west": GENERATORS,
    }
    for site in ("south", "west"):
        metrics = federation.results[site].metrics
        assert "train/cycle" in metrics
        assert "train/loss_discriminator" not in metrics
    assert "train/loss_discriminator" in federation.results["north"].metrics
    moved = {k for k, v in federation.weights.items() if not np.array_equal(v, before[k])}
    assert networks({key: None for key in moved}) == GENERATORS | DISCRIMINATORS


def test_a_network_that_one_site_alone_trains_is_that_site_s_own(
    federation: InProcessFederation,
) -> None:
    federation.run()
    north = federation.results["north"].state
    for key, value in federation.weights.items():
        alone = np.array_equal(value, north[key].numpy())
        assert alone == (key.split(".")[0] in DISCRIMINATORS), key
