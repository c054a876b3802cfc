"""Secure aggregation in NVFlare's simulator: the same model as plain averaging, and a lost site."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch
from simulator_runs import EXPERIMENT, SimulatorRun, export, simulate, simulator

from fedi2i.typed_config import read_yaml
from fedi2i.typed_config import merged as merge_values

pytestmark = [pytest.mark.slow, pytest.mark.nightly, pytest.mark.timeout(1800)]
"""Faster: ``tests/strategies/test_secure_sum.py`` (the same model, real training, no NVFlare) and
``tests/app_custom/privacy/test_masked_rounds.py`` (a lost site, processes that end)."""

EXACT = {
    "mechanism": "secure_sum",
    "bits": 64,
    "fraction_bits": 32,
    "bound": 16.0,
    "slices_per_weight": 1,
}


def written(folder: Path, **sections: object) -> Path:
    """The tiny experiment with further sections, in a file."""
    from omegaconf import OmegaConf

    path = folder / "experiment.yaml"
    OmegaConf.save(OmegaConf.create(merge_values(read_yaml(EXPERIMENT), sections)), path)
    return path


@pytest.mark.parametrize("threads", ["4", "1"])
def test_one_round_equals_plain_averaging_to_the_stated_precision(
    new_workspace: Callable[[str], Path], tmp_path: Path, threads: str
) -> None:
    precise = {"training": {"precision": "fp32", "rounds": 1}}
    models: list[dict[str, torch.Tensor]] = []
    for name, privacy in (("plain", {"mechanism": "none"}), ("masked", EXACT)):
        (tmp_path / name).mkdir()
        experiment = written(tmp_path / name, experiment=precise, privacy=privacy)
        job = export(tmp_path / name / "job", experiment=experiment)
        run = simulate(job, new_workspace(f"{name}-{threads}"), "-t", threads)
        assert run.exit_code == 0, run.output[-3000:]
        models.append(run.weights)
    assert "keys of masks are not signed" in run.output
    check_close(models[1], models[0])
    assert not list(run.workspace.rglob("masks-*.json"))


def check_close(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """To half of the 32nd binary digit, and the last bit of a float32."""
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        most = 2.0**-33 + torch.finfo(torch.float32).eps * value.abs()
        assert bool(((found[key] - value).abs() <= most).all()), key


def test_a_round_is_repeated_without_a_site_that_is_killed(
    new_workspace: Callable[[str], Path], tmp_path: Path
) -> None:
    experiment = written(
        tmp_path,
        federation={"min_sites": 3},
        experiment={"training": {"rounds": 2, "steps": 80}},
        privacy={**EXACT, "bits": 32, "fraction_bits": 20, "bound": 1.0},
    )
    job = export(tmp_path / "job", experiment=experiment)
    workspace = new_workspace("killed")
    with simulator(job, workspace, "-t", "4") as process:
        try:
            kill_when_training(process.pid, "west", workspace)
            output, _ = process.communicate(timeout=800)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    run = SimulatorRun(workspace, process.returncode, output)
    assert "round 0 is repeated over east, north, south" in output
    assert ("all", 2, "val/psnr") in run.metrics
    assert ("west", 0, "data/samples") not in run.metrics


def kill_when_training(simulator_pid: int, site: str, workspace: Path) -> None:
    """Kill a site's process once the keys are agreed on and the site is at work."""
    log = workspace / "server" / "simulate_job" / "log.txt"
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
        if "Round 0 started" in text:
            break
        time.sleep(0.2)
    for process in psutil.Process(simulator_pid).children(recursive=True):
        words = process.cmdline()
        if any(word == site or word.endswith(f"/{site}") for word in words):
            process.kill()
            return
    pytest.fail(f"no process of {site} was found")
