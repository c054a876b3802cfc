"""Swarm learning in NVFlare's simulator: the sites combine their updates among themselves."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from simulator_runs import (
    SITES,
    TWO_SITES,
    SimulatorRun,
    assert_same,
    export,
    prepared_workspace,
    simulate,
)
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_faults import simulate_and_kill

pytestmark = pytest.mark.slow

SITE_CONFIG = Path("app_site") / "config" / "config_fed_client.json"


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The settings of ``tiny_job``, whose strategy is FedAvg."""
    folder = tmp_path_factory.mktemp("jobs") / "swarm"
    return export(folder, strategy="swarm", experiment=TWO_SITES)


@pytest.fixture(scope="module")
def workspace(new_workspace: Callable[[str], Path]) -> Path:
    """One workspace for a run that is refused and one that is not."""
    return new_workspace("swarm")


@pytest.fixture(scope="module")
def refused(job: Path, workspace: Path) -> SimulatorRun:
    """What a person gets who forgets ``-t``."""
    return simulate(job, workspace)


@pytest.fixture(scope="module")
def finished(refused: SimulatorRun, job: Path, workspace: Path) -> SimulatorRun:
    """One undisturbed run, after a refused one in the same workspace."""
    run = simulate(job, workspace, "-t", "2")
    assert run.exit_code == 0, run.output[-3000:]
    return run


def aggregators(run: SimulatorRun) -> list[str]:
    """Who has aggregated, round after round."""
    return re.findall(r"Round \d finished, aggregated at site '(\w+)'", run.output)


def test_with_fewer_threads_than_sites_the_job_is_refused_in_one_sentence(
    refused: SimulatorRun,
) -> None:
    assert refused.exit_code != 0
    assert (
        "swarm learning needs all 2 sites at the same time, and this simulator runs 1: add '-t 2'"
        in refused.output
    )
    assert "started training round" not in refused.output


def test_final_and_best_weights_are_fedavg_s_to_the_last_bit(
    finished: SimulatorRun, finished_run: SimulatorRun
) -> None:
    assert_same(finished.weights, finished_run.weights)
    best = "best_FL_global_model.pt"
    assert_same(finished.model(best), finished_run.model(best))


def test_the_swarm_has_learnt(finished: SimulatorRun) -> None:
    metrics = finished.metrics
    assert metrics["all", 3, "val/psnr"] > metrics["all", 0, "val/psnr"] + 1.0, metrics


def test_the_server_has_the_sites_numbers_of_every_round_as_with_fedavg(
    finished: SimulatorRun, finished_run: SimulatorRun
) -> None:
    def numbers(run: SimulatorRun) -> dict[tuple[str, int, str], float]:
        kinds = ("val/", "train/")
        return {key: value for key, value in run.metrics.items() if key[2].startswith(kinds)}

    assert numbers(finished) == numbers(finished_run)
    assert len(numbers(finished)) > 50


def test_bytes_are_counted_where_they_travel_between_sites(finished: SimulatorRun) -> None:
    drawn = aggregators(finished)
    assert len(drawn) == 3
    for number, aggregator in enumerate(drawn):
        still = {
            site
            for site in SITES
            if finished.metrics[site, number, "traffic/bytes_received"] == 0.0
        }
        assert still == {aggregator}


def test_tensorboard_shows_every_site_and_the_server(finished: SimulatorRun) -> None:
    events = finished.run_folder / "tb_events"
    shown = {folder.name: EventAccumulator(str(folder)).Reload() for folder in events.iterdir()}
    assert set(shown) == {*SITES, "simulator_server"}
    assert "global/val/psnr" in shown["simulator_server"].Tags()["scalars"]
    assert "train/l1" in shown["east"].Tags()["scalars"]


@pytest.mark.nightly
def test_a_second_run_gives_the_same_weights_whoever_aggregates(
    finished: SimulatorRun, job: Path, new_workspace: Callable[[str], Path]
) -> None:
    """Faster: the final weights above are FedAvg's, whichever sites were drawn to aggregate."""
    again = simulate(job, new_workspace("swarm_again"), "-t", "2")
    assert again.exit_code == 0, again.output[-3000:]
    assert len(aggregators(again)) == 3
    assert_same(again.weights, finished.weights)


@pytest.mark.nightly
def test_an_update_with_something_unlisted_reaches_no_peer_and_ends_the_job(
    tiny_cohort: Path, tmp_path: Path
) -> None:
    """The generator is taken off the list: to the gate, its parameters are what must not leave.

    Faster: test_swarm_messages.py plants a secret in front of NVFlare's own controller, and
    test_decentralised_jobs.py finds the gate on every way out.
    """
    job = export(tmp_path / "swarm", strategy="swarm", experiment=TWO_SITES)
    config = json.loads((job / SITE_CONFIG).read_text(encoding="utf-8"))
    (chain,) = config["task_data_filters"]
    chain["tasks"] = ["swarm_report_learn_result"]
    chain["filters"][0]["args"]["networks"] = ["discriminator"]
    (job / SITE_CONFIG).write_text(json.dumps(config), encoding="utf-8")
    run = simulate(job, prepared_workspace(tmp_path / "ws", tiny_cohort), "-t", "2")
    assert run.exit_code != 0
    assert re.search(r"parameter 'generator\.\S+' is outside the sharing scope", run.output)
    (aggregator,) = set(re.findall(r"aggregation happens on (\w+)", run.output))
    (other,) = {"south", "east"} - {aggregator}
    assert f"got training result from {other}" not in run.output
    assert f"received failure report from client {other}" in run.output


@pytest.mark.nightly
def test_a_killed_site_ends_the_job_and_is_named(tiny_cohort: Path, tmp_path: Path) -> None:
    """Faster: test_site_watch.py (a site of a swarm that loses its connection is reported)."""
    job = export(tmp_path / "swarm", strategy="swarm", experiment=TWO_SITES)
    workspace = prepared_workspace(tmp_path / "ws", tiny_cohort)
    run = simulate_and_kill(job, workspace, "east", 1, "-t", "2")
    assert run.exit_code != 0
    assert "site 'east' is lost" in run.output
    assert not (run.run_folder / "app_server" / "FL_global_model.pt").exists()
