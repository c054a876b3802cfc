"""``uncertainty.csv`` and ``calibration.csv``: the disagreement of models against their error."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from fedi2i.errors import ConfigError, DataError
from lightning_modules.__main__ import main
from lightning_modules.configuration import ExperimentConfig, experiment_values
from lightning_modules.evaluation.disagreement import (
    COLUMNS,
    UncertainArm,
    uncertain_arms,
    write_uncertainty,
)
from lightning_modules.evaluation.results import read_generator
from lightning_modules.evaluation.validation import Patient, patients
from lightning_modules.training.hardware import Hardware
from lightning_modules.training.training_run import Arm, train_arm
from lightning_modules.translation.model_file import read_model, write_model
from partitions.preparation import PreparedSite
from partitions.preparation.intensities import Scale


class _Darker(nn.Module):
    """Takes a constant from the source."""

    def __init__(self, step: float) -> None:
        super().__init__()
        self.step = step

    def forward(self, source: Tensor) -> Tensor:
        return (source - self.step).clamp(-1, 1)


@pytest.fixture
def experiment(make_experiment: Callable[..., ExperimentConfig]) -> ExperimentConfig:
    """Three rounds of a few steps."""
    return make_experiment(training={"rounds": 3, "steps": 4, "precision": "fp32"})


@pytest.fixture
def trained(
    experiment: ExperimentConfig, sites: dict[str, PreparedSite], hardware: Hardware, tmp_path: Path
) -> Path:
    """A model trained at one site, with its model file beside it."""
    arm = Arm("north", [sites["north"]], experiment.training.steps)
    return train_arm(experiment, arm, hardware, tmp_path / "north")


def test_the_command_writes_a_row_per_arm_and_patient_that_agrees_with_results_csv(
    experiment: ExperimentConfig, trained: Path, tiny_cohort: Path, tmp_path: Path
) -> None:
    file, out = tmp_path / "experiment.yaml", tmp_path / "out"
    OmegaConf.save(OmegaConf.create(experiment_values(experiment)), file)
    arguments = ["evaluate", "--experiment", str(file), "--model", f"local={trained}"]
    arguments += ["--data", str(tiny_cohort / "north"), "--data", str(tiny_cohort / "island")]
    arguments += ["--unseen", "island"]
    assert main([*arguments, "--out", str(tmp_path / "plain")]) == 0
    assert main([*arguments, "--out", str(out), "--uncertainty"]) == 0
    table = pd.read_csv(out / "uncertainty.csv").set_index(["site", "subject"])
    results = pd.read_csv(out / "results.csv")
    mine = results[(results.arm == "local") & (results.metric == "mae")]
    mine = mine.set_index(["site", "subject"]).value
    assert set(table.index) == set(mine.index)
    assert set(table.arm) == {"local"}
    assert set(table.models) == {3}
    np.testing.assert_allclose(table.mae, mine.loc[table.index], rtol=1e-5)
    bins = pd.read_csv(out / "calibration.csv")
    assert (bins.groupby(["site", "subject"]).size() == 10).all()
    total = bins.groupby(["site", "subject"]).voxels.sum()
    assert (total.loc[table.index] == table.voxels).all()
    # Not asked for, it is not written, and the other files are the same either way.
    plain = tmp_path / "plain"
    assert {path.name for path in out.iterdir()} - {path.name for path in plain.iterdir()} == {
        "uncertainty.csv",
        "calibration.csv",
    }
    assert (plain / "results.csv").read_bytes() == (out / "results.csv").read_bytes()


def test_the_uncertainty_is_the_spread_of_the_kept_rounds_and_the_error_that_of_the_model(
    experiment: ExperimentConfig,
    trained: Path,
    sites: dict[str, PreparedSite],
    hardware: Hardware,
) -> None:
    arms = _arms(experiment, {"local": trained}, hardware)
    (patient, *_) = patients(sites["east"].split("test"))
    translation, uncertainty = arms["local"].translate(patient)
    kept = read_model(trained.with_suffix(".safetensors")).earlier
    assert sorted(kept) == [1, 2, 3]
    generator = read_generator(experiment.model, trained).eval()
    outputs = []
    for weights in kept.values():
        generator.load_state_dict(weights)
        with torch.no_grad():
            found = generator(patient.source[:, None] * 2 - 1)[:, 0]
        outputs.append(((found + 1) / 2).clamp(0, 1).numpy())
    np.testing.assert_allclose(uncertainty, np.std(outputs, axis=0), atol=1e-5)
    np.testing.assert_allclose(translation, outputs[-1], atol=1e-5)
    assert float(uncertainty.max()) > 1e-4


def test_an_ensemble_s_uncertainty_is_the_spread_of_its_members(
    sites: dict[str, PreparedSite], hardware: Hardware, tmp_path: Path
) -> None:
    generators = {"a": _Darker(0.0), "b": _Darker(0.2), "c": _Darker(0.6)}
    arms = uncertain_arms({}, generators, {"all": ("a", "b", "c")}, hardware)
    (patient, *_) = patients(sites["north"].split("test"))
    _, uncertainty = arms["all"].translate(patient)
    source = patient.source.numpy()
    expected = np.std([(source - less).clip(0, 1) for less in (0.0, 0.1, 0.3)], axis=0)
    np.testing.assert_allclose(uncertainty, expected, atol=1e-6)


def test_a_planted_uncertainty_is_told_from_an_inverted_one_in_the_target_s_unit(
    sites: dict[str, PreparedSite], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scale = Scale(-1000.0, 1000.0, "HU")
    given = [
        replace(patient, scales={**patient.scales, "target": scale})
        for patient in patients(sites["north"].split("test"))
    ]
    monkeypatch.setattr(
        "lightning_modules.evaluation.disagreement.measured_patients", lambda *_: given
    )

    def knows(patient: Patient) -> tuple[Tensor, Tensor]:
        return patient.source, (patient.source.double() - patient.target.double()).abs()

    def inverted(patient: Patient) -> tuple[Tensor, Tensor]:
        return patient.source, 1 - knows(patient)[1]

    arms = {"knows": UncertainArm(2, knows), "inverted": UncertainArm(2, inverted)}
    path = write_uncertainty(arms, [sites["north"]], tmp_path)
    table = pd.read_csv(path).set_index("arm")
    assert [*table.reset_index().columns] == [*COLUMNS]
    assert set(table.unit) == {"HU"}
    best, worst = table.loc[["knows"]], table.loc[["inverted"]]
    np.testing.assert_allclose(best.ause, 0.0, atol=1e-9)
    np.testing.assert_allclose(best.correlation, 1.0)
    np.testing.assert_allclose(best.calibration_error, 0.0, atol=1e-9)
    np.testing.assert_allclose(worst.correlation, -1.0)
    assert (worst.ause.to_numpy() > best.ause_at_random.to_numpy()).all()
    for patient, mae in zip(given, best.mae, strict=True):
        inside = (patient.source - patient.target)[patient.mask].double().abs().mean()
        assert mae == pytest.approx(float(inside) * scale.span, rel=1e-6)


def test_arms_without_two_models_are_named_and_left_out(
    experiment: ExperimentConfig,
    trained: Path,
    hardware: Hardware,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    alone = tmp_path / "alone.pt"
    alone.write_bytes(trained.read_bytes())
    once = tmp_path / "once.pt"
    once.write_bytes(trained.read_bytes())
    model = read_model(trained.with_suffix(".safetensors"))
    write_model(once.with_suffix(".safetensors"), replace(model, earlier={3: model.earlier[3]}))
    caplog.set_level(logging.INFO)
    files = {"local": trained, "alone": alone, "once": once}
    assert list(_arms(experiment, files, hardware)) == ["local"]
    assert "no uncertainty of alone, once: no two models to disagree" in caplog.text
    with pytest.raises(ConfigError, match="--uncertainty: no arm has two models to disagree"):
        _arms(experiment, {"alone": alone, "once": once}, hardware)


def test_a_model_file_of_another_model_is_refused(
    experiment: ExperimentConfig, trained: Path, hardware: Hardware
) -> None:
    model = read_model(trained.with_suffix(".safetensors"))
    write_model(trained.with_suffix(".safetensors"), replace(model, weights=model.earlier[1]))
    with pytest.raises(DataError, match=r"holds another model than model\.pt beside it"):
        _arms(experiment, {"local": trained}, hardware)


def _arms(
    experiment: ExperimentConfig, files: dict[str, Path], hardware: Hardware
) -> dict[str, UncertainArm]:
    generators = {name: read_generator(experiment.model, path) for name, path in files.items()}
    return uncertain_arms(files, generators, {}, hardware, experiment.model.view)
