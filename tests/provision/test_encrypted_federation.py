"""Encrypted averaging over TLS on provisioned kits, beside plain averaging of the same job.

Nightly. Faster tests of the same statements: ``test_encrypted_averaging.py`` in
``tests/app_custom/privacy`` with NVFlare's contexts and real keys, ``test_encryption_kits.py`` with
provisioned kits.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from poc_processes import free_port, processes_of
from run_results import check_learnt, model_in
from simulator_runs import export

from app_custom.nvflare_files import GLOBAL_MODEL
from fedi2i.cli.program import main as fedi2i
from provision.poc.federation import Federation, running_federation
from provision.poc.kits import PocConfig
from provision.poc.run import metric_values, submit_by_command_line

pytestmark = [pytest.mark.nightly, pytest.mark.slow, pytest.mark.timeout(900)]

SITES = ("east", "north", "south")
ROUNDS = 2
Model = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def federation(tiny_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    pytest.importorskip("tenseal", exc_type=ImportError)
    config = PocConfig(
        out=tmp_path_factory.mktemp("encrypted") / "poc",
        datasets={"tiny": tiny_cohort},
        sites=SITES,
        port=free_port(),
        torch_threads=1,
        encryption=True,
    )
    with running_federation(config) as running:
        yield running
    assert processes_of(config.out) == []


@pytest.fixture(scope="module")
def runs(federation: Federation, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The server's folder of the plain and of the encrypted run, as a lead downloads them."""
    folder = tmp_path_factory.mktemp("runs")
    options = ("--sites", ",".join(SITES), "--rounds", str(ROUNDS), "--steps", "40")
    return {
        name: submit_by_command_line(
            federation, export(folder / name, *options, strategy=name), folder / "results"
        )
        for name in ("fedavg", "fedavg_he")
    }


def largest_difference(one: Model, other: Model) -> float:
    assert one.keys() == other.keys()
    return max(float((one[key] - other[key]).abs().max()) for key in one)


def test_the_encrypted_run_learns_and_ends_with_the_plain_run_s_model(
    federation: Federation, runs: dict[str, Path]
) -> None:
    """Means agree to the last bit of float32; a round of training makes more of that bit."""
    check_learnt(runs["fedavg_he"], ROUNDS)
    plain = model_in(runs["fedavg"])
    job_id = runs["fedavg_he"].parent.name
    models = [
        torch.load(federation.kits / site / job_id / GLOBAL_MODEL, weights_only=True)["model"]
        for site in SITES
    ]
    for model in models:
        print(f"largest difference to plain averaging: {largest_difference(model, plain):.2e}")
        assert largest_difference(model, plain) < 1e-3
        assert largest_difference(model, models[0]) == 0.0
    # The first round's model has seen one mean and no training after it.
    values = {name: metric_values(run) for name, run in runs.items()}
    for site in SITES:
        one, other = (values[name][site, 1, "val/psnr"] for name in ("fedavg", "fedavg_he"))
        assert abs(one - other) < 1e-4, site


def test_nothing_that_the_lead_downloads_can_be_read_without_a_site_s_key(
    federation: Federation,
    runs: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bundle = runs["fedavg_he"]
    assert list(bundle.rglob("*.pt")) == []
    final = bundle / "app_server" / "FL_global_model.encrypted"
    plain = model_in(runs["fedavg"])
    content = final.read_bytes()
    assert all(
        value.numpy().tobytes() not in content for value in plain.values() if value.numel() > 8
    )
    lead = federation.kits / "lead@north.example.org"
    out = tmp_path / "model.pt"
    assert (
        fedi2i(["provision", "open-model", str(final), "--kit", str(lead), "--out", str(out)]) == 2
    )
    assert "no kit of a site with a key for encrypted averaging" in capsys.readouterr().err
    north = federation.kits / "north"
    for name in ("FL_global_model", "best_FL_global_model"):
        path = final.with_name(f"{name}.encrypted")
        command = ["provision", "open-model", str(path), "--kit", str(north), "--out", str(out)]
        assert fedi2i(command) == 0
    opened = torch.load(out, weights_only=True)["model"]
    assert largest_difference(opened, plain) < 1e-3  # the best model is the last one here


def test_what_travels_is_counted_as_it_is(runs: dict[str, Path]) -> None:
    plain, encrypted = (metric_values(runs[name]) for name in ("fedavg", "fedavg_he"))
    parameters = plain["east", 1, "traffic/bytes_received"] / 4
    assert encrypted["east", 1, "traffic/bytes_received"] > 32 * parameters
    print({key[2]: value for key, value in encrypted.items() if key[:2] == ("east", 1)})
