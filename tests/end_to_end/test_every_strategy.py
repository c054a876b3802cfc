"""Every job in one comparison, as ``make strategies`` runs it, on the tiny federation.

Faster: test_comparison_run.py compares three strategies, and tests/strategies has all of them in
one process: test_learning.py (they learn), test_reductions.py (FedAvg bit for bit),
test_fedma.py (channels move).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch
from in_process_federation import InProcessFederation
from simulator_runs import EXPERIMENT, assert_same
from test_comparison_run import weights

from jobs.__main__ import main as jobs_command
from jobs.writing.federation import read_federated_experiment
from lightning_modules.strategies.catalogue import STRATEGY_JOBS, strategy_job
from lightning_modules.training.hardware import threads_for
from partitions.manifest import read_manifest
from partitions.preparation import prepare_site
from report.__main__ import main as report_command

pytestmark = [pytest.mark.slow, pytest.mark.nightly, pytest.mark.timeout(3000)]

SITES = ("north", "east", "south", "west")
GLOBAL = set(STRATEGY_JOBS) - {"fedbn", "fedper", "lg_fedavg"}
PERSONAL = {
    f"{name}@{site}" for name in ("fedbn", "fedper", "lg_fedavg", "ditto") for site in SITES
}
BASELINES = ("source", "mapped-source", "constant", "mean-target", "centralised", "regression")
ARMS = {*BASELINES, *GLOBAL, *PERSONAL, *(f"local-{site}" for site in SITES)}

TRAINING = {"rounds": 3, "steps": 40, "precision": "fp32"}
SETTINGS = [f"training.{name}={value}" for name, value in TRAINING.items()]


def compare(data: Path, out: Path) -> int:
    """Run all arms with every strategy."""
    places = ["--experiment", str(EXPERIMENT), "--data", str(data), "--out", str(out)]
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    return jobs_command(["compare", *places, "--strategies", "all", *settings])


@pytest.fixture(scope="module")
def run(tiny_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A finished comparison of all strategies."""
    out = tmp_path_factory.mktemp("comparison") / "tiny"
    assert compare(tiny_cohort, out) == 0
    yield out


@pytest.fixture(scope="module")
def strategies(run: Path) -> pd.DataFrame:
    """One line per strategy."""
    return pd.read_csv(run / "strategies.csv").set_index("strategy")


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_all_models_of_all_arms_are_evaluated_and_the_federation_has_learnt(run: Path) -> None:
    results = pd.read_csv(run / "results.csv")
    keys = ["arm", "site", "split", "subject", "preset", "metric"]
    assert list(results.columns) == [*keys, "value"]
    assert set(results["preset"]) == {"mr"}
    assert set(results["arm"]) == ARMS
    assert set(results["site"]) == {*SITES, "island"}
    psnr = results[results.metric == "psnr"].groupby(["site", "arm"])["value"].mean()
    for site in SITES:
        best = max(psnr[site, "constant"], psnr[site, "mean-target"])
        assert psnr[site, "fedavg"] > best, psnr
    psnr = psnr["island"]
    assert psnr["fedavg"] > psnr["constant"], psnr
    local = psnr[[arm for arm in psnr.index if arm.startswith("local-")]].mean()
    assert psnr["fedavg"] > local, psnr


LEARN_IN_SO_FEW_STEPS = tuple(set(STRATEGY_JOBS) - {"fedma_layerwise", "fedadam"})
"""Layer by layer, sites train fewer and fewer layers: test_fedma_layerwise.py takes more steps.
FedAdam's server moves every weight by about its rate of 0.1, however little was learnt, and three
such moves leave it where they happen to end: 0.1 dB above the start here, more than 1 dB with the
first weights of strategies/test_learning.py."""


@pytest.mark.parametrize("name", sorted(LEARN_IN_SO_FEW_STEPS))
def test_every_strategy_learns_and_says_what_it_cost(
    run: Path, strategies: pd.DataFrame, name: str
) -> None:
    line = strategies.loc[name]
    curves = pd.read_csv(run / "curves.csv")
    start = curves[(curves.metric == "val/psnr") & (curves.site == "all") & (curves["round"] == 0)]
    assert line.psnr > start[start.arm == "fedavg"]["value"].item() + 1.0
    assert line.megabytes > 0
    assert line.seconds > 0


@pytest.mark.parametrize("name", [name for name in STRATEGY_JOBS if name != "cyclic"])
def test_the_weights_are_those_of_the_same_federation_in_one_process(
    run: Path, name: str, tiny_cohort: Path, tmp_path: Path
) -> None:
    """Swarm's are FedAvg's; test_cyclic.py has a loop of its own."""
    if threads_for(len(SITES)) > 1:
        pytest.skip("a site of the simulator has several threads here, whose sums differ")
    strategy = strategy_job("fedavg" if name == "swarm" else name).values
    changes = {"experiment": {"strategy": strategy, "training": TRAINING}}
    experiment = read_federated_experiment(EXPERIMENT, changes, fit_rounds=True).experiment
    sites = {
        site: prepare_site(
            read_manifest(tiny_cohort / site),
            experiment.data.preparation,
            tmp_path / "prepared" / site,
            progress=False,
        )
        for site in SITES
    }
    federation = InProcessFederation(experiment, sites, tmp_path / "state", len(SITES))
    expected = federation.run(rounds=experiment.training.rounds)
    assert_same(weights(run, name), {k: torch.as_tensor(v) for k, v in expected.items()})


def test_fedma_from_a_common_start_is_fedavg_bit_for_bit(
    run: Path, strategies: pd.DataFrame
) -> None:
    assert equal(weights(run, "fedma"), weights(run, "fedavg"))
    assert strategies.loc["fedma"].moved == 0.0


def test_fedma_after_independent_starts_moves_channels_and_differs_from_fedavg(
    run: Path, strategies: pd.DataFrame
) -> None:
    assert not equal(weights(run, "fedma_independent"), weights(run, "fedavg_independent"))
    assert strategies.loc["fedma_independent"].moved > 0.3
    assert strategies.loc["fedma_layerwise"].moved > 0.1


def test_strategies_that_share_the_mean_and_do_nothing_else_have_its_weights(run: Path) -> None:
    plain = weights(run, "fedavg")
    for name in ("fedbn", "ditto", "swarm"):  # instance normalisation here holds nothing
        assert equal(weights(run, name), plain), name


def test_scaffold_takes_twice_the_traffic(strategies: pd.DataFrame) -> None:
    # nothing to send along in the first round, and the final model goes out alone
    ratio = strategies.loc["scaffold"].megabytes / strategies.loc["fedavg"].megabytes
    assert 1.6 < ratio < 2.0
    assert strategies.loc["fedprox"].megabytes == strategies.loc["fedavg"].megabytes


def test_a_second_call_repeats_nothing(
    run: Path, tiny_cohort: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(tiny_cohort, run) == 0
    said = capsys.readouterr().out
    others = ("regression", "centralised", *(f"local-{site}" for site in SITES), "evaluation")
    assert said.count("unchanged since it finished") == len(STRATEGY_JOBS) + len(others)
    assert "$ " not in said


def test_the_report_shows_the_run(run: Path) -> None:
    assert report_command([str(run)]) == 0
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "computed" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "Did the strategies act?" in page
    assert "FedBN (personal)" in page
