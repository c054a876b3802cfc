"""Every job in one comparison, as ``make strategies`` runs it, on the tiny federation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch
from jobs.writing.strategy_jobs import STRATEGY_JOBS
from simulator_runs import EXPERIMENT

from app_custom.nvflare_files import final_model_path
from jobs.__main__ import main as jobs_command
from report.__main__ import main as report_command

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]

SITES = ("north", "east", "south", "west")
GLOBAL = set(STRATEGY_JOBS) - {"fedbn", "fedper"}
PERSONAL = {f"{name}@{site}" for name in ("fedbn", "fedper", "ditto") for site in SITES}
ARMS = {"source", "centralised", *GLOBAL, *PERSONAL, *(f"local-{site}" for site in SITES)}


def compare(data: Path, out: Path) -> int:
    """Run all arms with every strategy."""
    places = ["--experiment", str(EXPERIMENT), "--data", str(data), "--out", str(out)]
    settings = ["--set", "training.rounds=3", "--set", "training.steps=40"]
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


def weights(run: Path, strategy: str) -> dict[str, torch.Tensor]:
    path = final_model_path(run / "workspaces" / strategy)
    state: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["model"]
    return state


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_all_models_of_all_arms_are_evaluated_and_the_federation_has_learnt(run: Path) -> None:
    results = pd.read_csv(run / "results.csv")
    assert list(results.columns) == ["arm", "site", "split", "subject", "metric", "value"]
    assert set(results["arm"]) == ARMS
    assert set(results["site"]) == {*SITES, "island"}
    unseen = results[(results.site == "island") & (results.metric == "psnr")]
    psnr = unseen.groupby("arm")["value"].mean()
    assert psnr["fedavg"] > psnr["source"] + 5.0, psnr
    local = psnr[[arm for arm in psnr.index if arm.startswith("local-")]].mean()
    assert psnr["fedavg"] > local, psnr


LEARN_IN_SO_FEW_STEPS = tuple(name for name in STRATEGY_JOBS if name != "fedma_layerwise")
"""Layer by layer, sites train fewer and fewer layers: test_fedma_layerwise.py takes more steps."""


@pytest.mark.parametrize("name", LEARN_IN_SO_FEW_STEPS)
def test_every_strategy_learns_and_says_what_it_cost(
    run: Path, strategies: pd.DataFrame, name: str
) -> None:
    line = strategies.loc[name]
    curves = pd.read_csv(run / "curves.csv")
    start = curves[(curves.metric == "val/psnr") & (curves.site == "all") & (curves["round"] == 0)]
    assert line.psnr > start[start.arm == "fedavg"]["value"].item() + 1.0
    assert line.megabytes > 0
    assert line.seconds > 0


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
    assert said.count("unchanged since it finished") == len(STRATEGY_JOBS) + 6
    assert "$ " not in said


def test_the_report_shows_the_run(run: Path) -> None:
    assert report_command([str(run)]) == 0
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "computed" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "Did the strategies act?" in page
    assert "FedBN (personal)" in page
