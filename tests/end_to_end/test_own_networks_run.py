"""Simulator runs with networks of a lab's own: server and sites are processes that build them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from simulator_runs import export, prepared_workspace, simulate

from fedi2i.errors import ConfigError
from lightning_modules.translation.model_file import build_network, read_model

pytestmark = [pytest.mark.slow, pytest.mark.nightly, pytest.mark.timeout(1200)]

LAB = Path(__file__).parents[1] / "lab_package"
MONAI = {"spatial_dims": 2, "in_channels": 1, "out_channels": 1}
NETWORKS: dict[str, tuple[dict[str, Any], int]] = {
    "MyGenerator": ({"path": "my_lab.nets.MyGenerator", "args": {"channels": 4}}, 32),
    "AttentionUnet": (
        {
            "path": "monai.networks.nets.AttentionUnet",
            "args": {**MONAI, "channels": [8, 16], "strides": [2]},
        },
        32,
    ),
    "SwinUNETR": (
        {
            "path": "monai.networks.nets.SwinUNETR",
            "args": {**MONAI, "feature_size": 12, "window_size": 4, "depths": [1, 1, 1, 1]},
        },
        64,
    ),
}


RUNS = [(name, "fedavg") for name in NETWORKS] + [
    ("MyGenerator", "swarm"),
    ("MyGenerator", "cyclic"),
]
"""Each network once; the two strategies without a server's rule run in no single process."""


@pytest.mark.parametrize(("name", "strategy"), RUNS)
def test_a_job_of_it_learns_and_leaves_a_model_that_is_read_where_it_is_allowed(
    allow_own: Callable[[str], None],
    tiny_cohort: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    strategy: str,
) -> None:
    """``tests/jobs/test_own_network_jobs.py`` builds such jobs in one process, and
    ``tests/strategies/test_own_networks.py`` trains them.
    """
    if name == "SwinUNETR":
        pytest.importorskip("einops", reason="SwinUNETR needs einops; pip install einops")
    generator, size = NETWORKS[name]
    allow_own(generator["path"])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(LAB), os.environ.get("PYTHONPATH", "")]))
    file = tmp_path / "own.yaml"
    experiment = {
        "data": {"dataset": "tiny", "preparation": {"size": [size, size], "spacing": 1.5}},
        "model": {"generator": generator, "discriminator": {"channels": 8, "layers": 2}},
        "training": {"rounds": 2, "steps": 20},
    }
    federation = {"sites": ["east", "south"]}
    file.write_text(yaml.safe_dump({"federation": federation, "experiment": experiment}))
    job = export(tmp_path / "own", strategy=strategy, experiment=file)
    run = simulate(job, prepared_workspace(tmp_path / "workspace", tiny_cohort), "-t", "2")
    assert run.exit_code == 0, run.output[-3000:]
    first = ("east", 0, "relay/psnr") if strategy == "cyclic" else ("all", 0, "val/psnr")
    assert run.metrics["all", 2, "val/psnr"] > run.metrics[first] + 1.0
    model = run.run_folder / "app_server" / "FL_global_model.safetensors"
    found = read_model(model)
    assert type(build_network(found.card, found.weights).network).__name__ == name
    monkeypatch.setenv("FEDI2I_OWN_CODE", str(tmp_path / "nothing.yaml"))
    with pytest.raises(ConfigError, match="is not on this machine's list"):
        read_model(model)


def test_a_job_of_a_whole_module_learns_and_leaves_a_model_of_the_network_that_translates(
    allow_own: Callable[[str], None],
    tiny_cohort: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """``tests/jobs/test_own_network_jobs.py`` builds such a job in one process, and
    ``tests/strategies/test_own_module.py`` trains it.
    """
    path = "my_lab.modules.MyTranslation"
    allow_own(path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(LAB), os.environ.get("PYTHONPATH", "")]))
    networks = ["generator", "discriminator"]
    experiment = {
        "data": {"dataset": "tiny", "preparation": {"size": [32, 32], "spacing": 1.5}},
        "model": {"name": "own", "module": {"path": path, "networks": networks}},
        "training": {"rounds": 2, "steps": 20},
    }
    file = tmp_path / "module.yaml"
    federation = {"sites": ["east", "south"]}
    file.write_text(yaml.safe_dump({"federation": federation, "experiment": experiment}))
    job = export(tmp_path / "module", strategy="scaffold", experiment=file)
    run = simulate(job, prepared_workspace(tmp_path / "workspace", tiny_cohort), "-t", "2")
    assert run.exit_code == 0, run.output[-3000:]
    assert run.metrics["all", 2, "val/psnr"] > run.metrics["all", 0, "val/psnr"] + 1.0
    found = read_model(run.run_folder / "app_server" / "FL_global_model.safetensors")
    assert found.card.network.generator.part == "generator"
    assert type(build_network(found.card, found.weights)).__name__ == "Bounded"
