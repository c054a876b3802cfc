"""Hostile sites: what they send, that an arm with them trains, and that no job can have them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from in_process_federation import InProcessFederation, same

from app_custom.participant.allowed_classes import ALLOWED_CLASSES
from fedi2i.errors import ConfigError
from fedi2i.metric_files import read_metrics
from jobs.running.hostile.arm import hostile_process, main
from jobs.running.run_record import took_part
from jobs.writing.evaluation_job import evaluation_of
from jobs.writing.export import export_job
from jobs.writing.federation import (
    DEFAULT_FILE,
    FederatedExperiment,
    read_federated_experiment,
    with_strategy,
)
from jobs.writing.hostile_sites import HostileSite, HostileSites
from jobs.writing.job_folder import run_name
from lightning_modules.combining.updates import Weights
from lightning_modules.evaluation.results import read_generator
from lightning_modules.sharing.tensor_file import read_tensors
from partitions.manifest import read_manifest
from partitions.preparation import prepare_site

TWO_SITES = Path(__file__).parents[1] / "experiments" / "two_sites.yaml"
FLIPPED = {"east": {"does": "flip", "factor": 10.0}}


def job(path: Path = DEFAULT_FILE, **federation: Any) -> FederatedExperiment:
    changes = {"experiment": {"training": {"rounds": 2, "steps": 2}}, "federation": federation}
    return read_federated_experiment(path, changes)


def weights(*values: float, dtype: Any = np.float32) -> Weights:
    return {"generator.w": np.array(values, dtype=dtype), "generator.n": np.array(7)}


@pytest.mark.parametrize(
    ("does", "expected"),
    [("flip", [-5.0, 8.0]), ("scale", [7.0, -4.0]), ("zeros", [0.0, 0.0])],
)
def test_what_is_sent_follows_from_the_received_and_the_trained_weights(
    does: str, expected: list[float]
) -> None:
    hostile = HostileSites({"east": HostileSite(does, 3.0)}, seed=1)
    sent = hostile("east", weights(1.0, 2.0), weights(3.0, 0.0))
    assert sent["generator.w"].tolist() == expected
    assert sent["generator.w"].dtype == np.float32 and sent["generator.n"] == 7
    honest = weights(3.0, 0.0)
    assert hostile("north", weights(1.0, 2.0), honest) is honest


def test_noise_is_as_long_as_the_update_times_the_factor_and_the_same_for_one_seed() -> None:
    received, trained = weights(*range(50)), weights(*(2.0 * n for n in range(50)))
    makers = [HostileSites({"east": HostileSite("noise", 2.0)}, seed) for seed in (5, 5, 6)]
    sent = [make("east", received, trained)["generator.w"] for make in makers]
    own = np.linalg.norm(trained["generator.w"] - received["generator.w"])
    assert np.linalg.norm(sent[0] - received["generator.w"]) == pytest.approx(2 * own, rel=1e-5)
    assert np.array_equal(sent[0], sent[1]) and not np.array_equal(sent[0], sent[2])


def test_an_arm_ends_with_the_bits_of_the_federation_whose_site_sends_the_same(
    tiny_cohort: Path, tmp_path: Path
) -> None:
    hostile = job(TWO_SITES, hostile=FLIPPED)
    process = hostile_process("fedavg", hostile, tiny_cohort, "tiny", tmp_path / "out")
    assert main(process.command[3:]) == 0
    model = read_tensors(process.produces, "damaged", lambda content: content["model"])
    sites = {
        site: prepare_site(
            read_manifest(tiny_cohort / site),
            hostile.experiment.data.preparation,
            tiny_cohort / site / "prepared",
            progress=False,
        )
        for site in hostile.federation.sites
    }
    expected = InProcessFederation(hostile.experiment, sites, tmp_path / "with").run(
        rounds=2,
        tamper={"east": lambda w, v: {k: w[k] - np.float32(10) * (v[k] - w[k]) for k in v}},
    )
    assert same(model, expected)
    assert read_generator(hostile.experiment.model, process.produces)
    rows = read_metrics(process.produces.with_name("metrics.csv"))
    assert took_part(rows) == [["east", "south"]] * 2
    measured = {row[:2] for row in rows if row[2] == "val/psnr"}
    assert measured == {(site, n) for site in ("south", "all") for n in range(3)}


def test_no_job_with_a_hostile_site_can_be_written(tmp_path: Path) -> None:
    hostile = job(hostile=FLIPPED)
    with pytest.raises(ConfigError, match=r"federation\.hostile names east: no job has hostile"):
        export_job("fedavg", hostile, tmp_path / "job")
    assert not list(tmp_path.iterdir())
    assert export_job("evaluate", evaluation_of(hostile), tmp_path / "job")
    assert not any(name.startswith("jobs.") for name in ALLOWED_CLASSES)


def test_a_hostile_site_makes_another_run() -> None:
    runs = [job(), job(hostile=FLIPPED), job(hostile={"east": {"does": "zeros"}})]
    assert len({run_name("fedavg", one) for one in runs}) == 3


@pytest.mark.parametrize(
    ("federation", "sentence"),
    [
        ({"hostile": {"eats": {}}}, "names 'eats'.*did you mean 'east'"),
        ({"hostile": {"east": {"does": "flop"}}}, "did you mean 'flip'"),
        ({"hostile": {"east": {"factor": 0.0}}}, r"east\.factor is 0\.0"),
        ({"hostile": {"east": {"dose": "flip"}}}, "hostile"),
        (
            {"hostile": {key: {} for key in ("north", "east", "south", "west")}},
            "names every site that trains; leave one of them honest",
        ),
        ({"hostile": FLIPPED, "compression": "fp16"}, "which has no federation.compression"),
    ],
)
def test_a_hostile_site_that_cannot_be_is_one_sentence(
    federation: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        job(**federation)


@pytest.mark.parametrize("strategy", ["cyclic", "swarm", "fedma", "ditto", "fedavg_dp"])
def test_what_needs_more_than_one_process_is_refused_beside_a_hostile_site(strategy: str) -> None:
    with pytest.raises(ConfigError, match="hostile sites exist in one process alone, which has no"):
        with_strategy(job(hostile=FLIPPED), strategy)
