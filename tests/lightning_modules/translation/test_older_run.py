"""``export model``: the file for ``translate`` of a model that a run left without one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from fedi2i.cli.program import main
from fedi2i.metric_files import write_metrics
from lightning_modules.configuration import ExperimentConfig, experiment_values
from lightning_modules.networks.building import build_networks
from lightning_modules.translation.model_file import read_model

MakeExperiment = Callable[..., ExperimentConfig]


@pytest.fixture
def arguments(make_experiment: MakeExperiment, tmp_path: Path) -> list[str]:
    experiment = make_experiment()
    OmegaConf.save(OmegaConf.create(experiment_values(experiment)), tmp_path / "tiny.yaml")
    state = build_networks(experiment.model, 3).state_dict()
    torch.save({"model": state}, tmp_path / "FL_global_model.pt")
    torch.save({"model": {"generator.x": torch.zeros(1)}}, tmp_path / "part.pt")
    write_metrics(
        tmp_path / "metrics.csv",
        [
            ("all", 1, "val/psnr", 19.0),
            ("all", 2, "val/psnr", 20.0),
            ("east", 0, "data/samples", 9),
        ],
    )
    return ["--experiment", str(tmp_path / "tiny.yaml"), "--out", str(tmp_path / "m.safetensors")]


@pytest.mark.usefixtures("sites")
def test_weights_settings_results_and_data_come_together(
    arguments: list[str], tmp_path: Path, tiny_cohort: Path, make_experiment: MakeExperiment
) -> None:
    model = ["--model", str(tmp_path / "FL_global_model.pt")]
    known = ["--metrics", str(tmp_path / "metrics.csv"), "--data", str(tiny_cohort / "north")]
    assert main(["export", "model", *model, *known, *arguments]) == 0
    found = read_model(tmp_path / "m.safetensors")
    state = build_networks(make_experiment().model, 3)["generator"].state_dict()
    assert all(torch.equal(found.weights[key], value) for key, value in state.items())
    record = found.card.training
    assert record.results == {"val/psnr": 20.0} and record.samples == {"east": 9}
    assert record.data.keys() == {"north"} and found.card.intensities is not None
    assert not found.earlier


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (["--model", "part.pt"], "holds a part of the translator alone"),
        (["--model", "tiny.yaml"], "damaged, or no model of a run"),
        (["--model", "none.pt"], "no such model file"),
        (["--model", "FL_global_model.pt", "--out", "m.pt"], "ends in .safetensors"),
    ],
)
def test_what_is_no_whole_model_is_one_sentence(
    arguments: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: list[str],
    expected: str,
) -> None:
    paths = [text if text.startswith("--") else str(tmp_path / text) for text in changes]
    assert main(["export", "model", *arguments, *paths]) == 2
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "m.safetensors").exists()
