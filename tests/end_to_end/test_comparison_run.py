"""``jobs compare`` and ``report`` from end to end, on two sites and with three strategies.

One strategy sends its model alone, one arrays beside it, and one keeps models at the sites.
test_every_strategy.py compares them all.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch
from in_process_federation import InProcessFederation
from simulator_runs import ROUNDS, SITES, TWO_SITES, assert_same

from app_custom.nvflare_files import final_model_path
from jobs.__main__ import main as jobs_command
from jobs.writing.federation import read_federated_experiment
from lightning_modules.strategies.catalogue import strategy_job
from partitions.manifest import read_manifest
from partitions.preparation import PreparedSite, prepare_site
from report.__main__ import main as report_command

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

STRATEGIES = ("fedavg", "scaffold", "ditto")
UNTRAINED = ("source", "mapped-source", "constant", "mean-target")
BASELINES = ("centralised", *(f"local-{site}" for site in SITES))
ARMS = {*UNTRAINED, *BASELINES, *STRATEGIES, *(f"ditto@{site}" for site in SITES)}


def compare(data: Path, out: Path) -> int:
    """Run all arms but regression, which tests/strategies/test_learning.py runs in one process."""
    places = ["--experiment", str(TWO_SITES), "--data", str(data), "--out", str(out)]
    chosen = ["--strategies", ",".join(STRATEGIES), "--no-regression"]
    return jobs_command(["compare", *places, *chosen])


@pytest.fixture(scope="module")
def run(tiny_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished comparison."""
    out = tmp_path_factory.mktemp("comparison") / "tiny"
    assert compare(tiny_cohort, out) == 0
    return out


@pytest.fixture(scope="module")
def prepared(
    tiny_cohort: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, PreparedSite]:
    """The two sites' slices."""
    config = read_federated_experiment(TWO_SITES, {}).experiment.data.preparation
    cache = tmp_path_factory.mktemp("prepared")
    return {
        site: prepare_site(read_manifest(tiny_cohort / site), config, cache / site, progress=False)
        for site in SITES
    }


def weights(run: Path, strategy: str) -> dict[str, torch.Tensor]:
    """The final global model of a strategy."""
    path = final_model_path(run / "workspaces" / strategy)
    state: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["model"]
    return state


def test_all_models_of_all_arms_are_evaluated_and_the_federation_has_learnt(run: Path) -> None:
    results = pd.read_csv(run / "results.csv")
    keys = ["arm", "site", "split", "subject", "preset", "metric"]
    assert list(results.columns) == [*keys, "value"]
    assert set(results["preset"]) == {"mr"}
    assert set(results["arm"]) == ARMS
    assert set(results["site"]) == {*SITES, "island"}
    unseen = results[(results.site == "island") & (results.metric == "psnr")]
    # All patients of an unseen site are test patients, whatever split its manifest gives them.
    assert set(unseen["split"]) == {"test"}
    assert unseen["subject"].nunique() == 4
    assert results[results.site == "east"]["subject"].nunique() == 1
    psnr = results[results.metric == "psnr"].groupby(["site", "arm"])["value"].mean()
    for site in SITES:
        best = max(psnr[site, "constant"], psnr[site, "mean-target"])
        assert psnr[site, "fedavg"] > best, psnr
    psnr = psnr["island"]
    assert psnr["fedavg"] > psnr["constant"], psnr
    local = psnr[[arm for arm in psnr.index if arm.startswith("local-")]].mean()
    assert psnr["fedavg"] > local, psnr


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_learns_and_says_what_it_cost(run: Path, name: str) -> None:
    line = pd.read_csv(run / "strategies.csv").set_index("strategy").loc[name]
    curves = pd.read_csv(run / "curves.csv")
    start = curves[(curves.metric == "val/psnr") & (curves.site == "all") & (curves["round"] == 0)]
    assert line.psnr > start[start.arm == "fedavg"]["value"].item() + 1.0
    assert line.megabytes > 0
    assert line.seconds > 0


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_weights_are_those_of_the_same_federation_in_one_process(
    run: Path, name: str, prepared: dict[str, PreparedSite], tmp_path: Path
) -> None:
    """So what tests/strategies proves of a federation in one process holds in the simulator."""
    changes = strategy_job(name).experiment
    experiment = read_federated_experiment(TWO_SITES, changes).experiment
    federation = InProcessFederation(experiment, prepared, tmp_path, len(SITES))
    expected = federation.run(rounds=ROUNDS)
    assert_same(weights(run, name), {k: torch.as_tensor(v) for k, v in expected.items()})


def test_a_strategy_that_shares_the_mean_and_keeps_its_own_models_has_fedavg_s_weights(
    run: Path,
) -> None:
    assert_same(weights(run, "ditto"), weights(run, "fedavg"))


def test_scaffold_takes_up_to_twice_the_traffic(run: Path) -> None:
    # nothing to send along in the first round, and the final model goes out alone
    megabytes = pd.read_csv(run / "strategies.csv").set_index("strategy")["megabytes"]
    assert 1.6 < megabytes["scaffold"] / megabytes["fedavg"] < 2.0
    assert megabytes["ditto"] == megabytes["fedavg"]


def test_a_second_call_repeats_nothing(
    run: Path, tiny_cohort: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(tiny_cohort, run) == 0
    said = capsys.readouterr().out
    arms = len(STRATEGIES) + len(BASELINES)
    assert said.count("unchanged since it finished") == arms + 1  # and the evaluation
    assert "$ " not in said


def test_the_report_shows_the_run(run: Path) -> None:
    assert report_command([str(run)]) == 0
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "computed" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "Did the strategies act?" in page
    assert "Ditto (personal)" in page
