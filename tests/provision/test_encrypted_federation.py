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
SAMPLES = 36
"""Training slices of the three sites."""
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
    """The server's folder of each run, as a lead downloads it."""
    folder = tmp_path_factory.mktemp("runs")
    found = {}
    for name, strategy, rounds in (
        ("plain", "fedavg", 1),
        ("encrypted", "fedavg_he", 1),
        ("two_rounds", "fedavg_he", ROUNDS),
    ):
        options = ["--sites", ",".join(SITES), "--rounds", str(rounds), "--steps", "40"]
        options += ["--set", "sharing=generator"]  # as every committed job with a mechanism
        job = export(folder / name, *options, strategy=strategy)
        found[name] = submit_by_command_line(federation, job, folder / "results")
    return found


def check_equal_to_the_last_bit(one: Model, other: Model) -> None:
    """Every weight is the same float32, or the next one to it, but for the noise of encryption."""
    assert one.keys() == other.keys()
    for key, value in one.items():
        torch.testing.assert_close(value, other[key], rtol=1.2e-7, atol=5e-7 / SAMPLES)


def test_the_model_that_sites_decrypt_is_the_plain_mean(
    federation: Federation, runs: dict[str, Path]
) -> None:
    """After one round: training makes anything of a last bit, by way of Adam."""
    plain = model_in(runs["plain"])
    job_id = runs["encrypted"].parent.name
    for site in SITES:
        path = federation.kits / site / job_id / GLOBAL_MODEL
        check_equal_to_the_last_bit(torch.load(path, weights_only=True)["model"], plain)
    values = {name: metric_values(run) for name, run in runs.items()}
    for site in SITES:
        one, *others = (values[name][site, 1, "val/psnr"] for name in values)
        assert all(abs(other - one) < 1e-3 for other in others), site


def test_an_encrypted_run_goes_on_from_what_the_server_cannot_read_and_learns(
    runs: dict[str, Path],
) -> None:
    check_learnt(runs["two_rounds"], ROUNDS)


def test_nothing_that_the_lead_downloads_can_be_read_without_a_site_s_key(
    federation: Federation,
    runs: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bundle = runs["encrypted"]
    assert list(bundle.rglob("*.pt")) == []
    final = bundle / "app_server" / "FL_global_model.encrypted"
    plain = model_in(runs["plain"])
    content = final.read_bytes()
    large = [value.numpy().tobytes() for value in plain.values() if value.numel() > 8]
    assert large and not any(value in content for value in large)
    lead = federation.kits / "lead@north.example.org"
    out = tmp_path / "model.pt"
    command = ["provision", "open-model", str(final), "--out", str(out), "--kit"]
    assert fedi2i([*command, str(lead)]) == 2
    assert "no kit of a site with a key for encrypted averaging" in capsys.readouterr().err
    assert fedi2i([*command, str(federation.kits / "north")]) == 0
    check_equal_to_the_last_bit(torch.load(out, weights_only=True)["model"], plain)
    best = runs["two_rounds"] / "app_server" / "best_FL_global_model.encrypted"
    assert best.is_file()


def test_what_travels_is_counted_as_it_is(runs: dict[str, Path]) -> None:
    plain, encrypted = (metric_values(runs[name]) for name in ("plain", "encrypted"))
    parameters = plain["east", 0, "traffic/bytes_received"] / 4
    assert encrypted["east", 0, "traffic/bytes_received"] > 32 * parameters
