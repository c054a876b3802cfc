"""Secure aggregation in NVFlare's simulator: the same model as plain averaging, and a lost site."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from simulator_runs import EXPERIMENT, export, simulate
from test_faults import simulate_and_kill

from fedi2i.typed_config import merged, read_yaml

pytestmark = [pytest.mark.slow, pytest.mark.nightly, pytest.mark.timeout(1800)]
"""Faster: ``tests/strategies/test_secure_sum.py`` (the same model, real training, no NVFlare) and
``tests/app_custom/privacy/secure_sum/test_dropped_sites.py`` (a lost site, processes that end)."""

EXACT = {
    "mechanism": "secure_sum",
    "bits": 64,
    "fraction_bits": 32,
    "bound": 16.0,
    "slices_per_weight": 1,
}


def written(folder: Path, **sections: object) -> Path:
    """The tiny experiment with further sections, in a file."""
    path = folder / "experiment.yaml"
    OmegaConf.save(OmegaConf.create(merged(read_yaml(EXPERIMENT), sections)), path)
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
    run = simulate_and_kill(job, new_workspace("killed"), "west", 0, "-t", "4")
    assert run.exit_code == 0, run.output[-3000:]
    assert "round 0 is repeated over east, north, south" in run.output
    assert ("all", 2, "val/psnr") in run.metrics
    rows = [row for row in run.metrics if row[0] == "west" and row[2] == "data/samples"]
    assert rows == []
