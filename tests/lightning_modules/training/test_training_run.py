"""Training an arm without a federation, in one go or after an interruption."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

from fedi2i.errors import DataError
from lightning_modules.configuration import ExperimentConfig
from lightning_modules.data.slices import TrainingSlices
from lightning_modules.training.hardware import Hardware
from lightning_modules.training.learner import Learner, RoundResult
from lightning_modules.training.local_state import LocalStateStore
from lightning_modules.training.training_run import Arm, train_arm
from lightning_modules.translation.model_file import read_model
from partitions.preparation import PreparedSite

MakeExperiment = Callable[..., ExperimentConfig]
METRICS = {"val/psnr", "val/ssim", "val/mae", "val/nrmse", "val/mse"}
KEEP = {"rounds": 4, "steps": 4, "optimizer_state": "keep"}


class _PulledPlugError(Exception):
    """Stands for the end of the process."""


def _model(out: Path) -> dict[str, Tensor]:
    model: dict[str, Tensor] = torch.load(out / "model.pt", weights_only=True)["model"]
    return model


def _same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.fixture
def local(sites: dict[str, PreparedSite]) -> Arm:
    """The local-only arm of one site."""
    return Arm("north", [sites["north"]], steps=4)


@pytest.fixture
def rounds_begun(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of the rounds that any learner begins from now on."""
    begun: list[int] = []
    train = Learner.train

    def counted(
        learner: Learner, state: Mapping[str, Tensor], number: int, *_: object
    ) -> RoundResult:
        begun.append(number)
        return train(learner, state, number)

    monkeypatch.setattr(Learner, "train", counted)
    return begun


def _pull_plug_in_round(monkeypatch: pytest.MonkeyPatch, broken: int) -> None:
    train = Learner.train

    def dying(
        learner: Learner, state: Mapping[str, Tensor], number: int, *_: object
    ) -> RoundResult:
        result = train(learner, state, number)
        if number == broken:  # the round's local state is written, its progress is not
            raise _PulledPlugError
        return result

    monkeypatch.setattr(Learner, "train", dying)


def test_the_local_arm_is_the_learner_fed_with_its_own_result(
    make_experiment: MakeExperiment, local: Arm, hardware: Hardware, tmp_path: Path
) -> None:
    experiment = make_experiment(training=KEEP)
    assert train_arm(experiment, local, hardware, tmp_path / "arm") == tmp_path / "arm/model.pt"
    slices = TrainingSlices([site.split("train") for site in local.sites])
    learner = Learner(experiment, "north", slices, hardware, LocalStateStore(tmp_path / "state"))
    state = learner.initial_state()
    for number in range(4):
        state = learner.train(state, number).state
    assert _same(_model(tmp_path / "arm"), state)


def test_an_arm_that_begins_with_a_finished_model_goes_on_from_its_weights(
    make_experiment: MakeExperiment,
    local: Arm,
    sites: dict[str, PreparedSite],
    hardware: Hardware,
    tmp_path: Path,
) -> None:
    experiment = make_experiment(training={"rounds": 1, "steps": 4})
    finished = train_arm(experiment, Arm("east", [sites["east"]], 4), hardware, tmp_path / "a")
    tuned = replace(local, start=finished)
    train_arm(experiment, tuned, hardware, tmp_path / "tuned")
    slices = TrainingSlices([site.split("train") for site in local.sites])
    learner = Learner(experiment, "north", slices, hardware, LocalStateStore(tmp_path / "state"))
    assert _same(_model(tmp_path / "tuned"), learner.train(_model(tmp_path / "a"), 0).state)
    # Another start is another training, also in the same folder.
    train_arm(
        experiment, replace(local, start=tmp_path / "tuned/model.pt"), hardware, tmp_path / "tuned"
    )
    again = learner.train(learner.train(_model(tmp_path / "a"), 0).state, 0).state
    assert _same(_model(tmp_path / "tuned"), again)


def test_a_start_that_is_no_model_of_the_experiment_is_one_sentence(
    make_experiment: MakeExperiment, local: Arm, hardware: Hardware, tmp_path: Path
) -> None:
    foreign = tmp_path / "foreign.pt"
    torch.save({"model": {"generator.w": torch.zeros(1)}}, foreign)
    with pytest.raises(DataError, match=r"foreign\.pt: 'generator\.w' is no model of this exper"):
        train_arm(make_experiment(), replace(local, start=foreign), hardware, tmp_path / "arm")
    assert not (tmp_path / "arm" / "model.pt").exists()


def test_the_centralised_arm_follows_every_site_and_their_mean(
    make_experiment: MakeExperiment,
    sites: dict[str, PreparedSite],
    hardware: Hardware,
    tmp_path: Path,
) -> None:
    arm = Arm("centralised", list(sites.values()), steps=16)
    train_arm(make_experiment(), arm, hardware, tmp_path)
    table = pd.read_csv(tmp_path / "metrics.csv")
    assert list(table.columns) == ["site", "round", "metric", "value"]
    assert not table.duplicated(["site", "round", "metric"]).any()
    validation = table[table.metric.str.startswith("val/")]
    assert set(validation.metric) == METRICS
    # Before each of two rounds and after the last.
    assert set(validation["round"]) == {0, 1, 2}
    wide = validation.pivot(index=["round", "metric"], columns="site", values="value")
    pd.testing.assert_series_equal(
        wide["all"], wide[["north", "east"]].mean(axis=1), check_names=False
    )
    psnr = wide["all"].xs("val/psnr", level="metric")
    assert psnr.loc[2] > psnr.loc[0]
    training = table[(table.site == "all") & ~table.metric.str.startswith("val/")]
    assert set(training["round"]) == {0, 1}
    assert {"train/l1", "time/train_seconds"} <= set(training.metric)


def test_all_arms_start_from_the_same_networks(
    make_experiment: MakeExperiment,
    sites: dict[str, PreparedSite],
    hardware: Hardware,
    tmp_path: Path,
) -> None:
    first = []
    for name, members in {"north": ["north"], "centralised": ["north", "east"]}.items():
        arm = Arm(name, [sites[member] for member in members], steps=2)
        train_arm(make_experiment(), arm, hardware, tmp_path / name)
        table = pd.read_csv(tmp_path / name / "metrics.csv")
        table = table[(table.site == "north") & (table["round"] == 0)]
        first.append(table[table.metric == "val/psnr"].value.item())
    assert first[0] == first[1]


@pytest.mark.parametrize("broken", [0, 2])
def test_an_interrupted_run_continues_to_the_same_model_bit_for_bit(
    make_experiment: MakeExperiment,
    local: Arm,
    hardware: Hardware,
    tmp_path: Path,
    rounds_begun: list[int],
    broken: int,
) -> None:
    experiment = make_experiment(training=KEEP, sharing="generator")
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    train_arm(experiment, local, hardware, whole)
    with pytest.MonkeyPatch.context() as patch:
        _pull_plug_in_round(patch, broken)
        with pytest.raises(_PulledPlugError):
            train_arm(experiment, local, hardware, stopped)
    assert not (stopped / "model.pt").exists()
    rounds_begun.clear()
    train_arm(experiment, local, hardware, stopped)
    assert rounds_begun == list(range(broken, 4))
    assert _same(_model(stopped), _model(whole))
    tables = [pd.read_csv(folder / "metrics.csv") for folder in (whole, stopped)]
    tables = [table[table.metric != "time/train_seconds"] for table in tables]
    pd.testing.assert_frame_equal(*tables)


@pytest.mark.parametrize(
    "changes",
    [{"seed": 1}, {"training": {"learning_rate_generator": 1e-3}}, {"sharing": "generator"}],
)
def test_other_settings_start_from_the_beginning_and_ignore_what_lies_there(
    make_experiment: MakeExperiment,
    local: Arm,
    hardware: Hardware,
    tmp_path: Path,
    rounds_begun: list[int],
    changes: dict[str, Any],
) -> None:
    train_arm(make_experiment(training=KEEP), local, hardware, tmp_path / "used")
    training = {**KEEP, "optimizer_state": "reset", **changes.pop("training", {})}
    other = make_experiment(training=training, **changes)
    rounds_begun.clear()
    train_arm(other, local, hardware, tmp_path / "used")
    assert rounds_begun == [0, 1, 2, 3]
    train_arm(other, local, hardware, tmp_path / "fresh")
    assert _same(_model(tmp_path / "used"), _model(tmp_path / "fresh"))


def test_a_finished_run_is_not_trained_again(
    make_experiment: MakeExperiment,
    local: Arm,
    hardware: Hardware,
    tmp_path: Path,
    rounds_begun: list[int],
) -> None:
    train_arm(make_experiment(), local, hardware, tmp_path)
    before = _model(tmp_path)
    rounds_begun.clear()
    train_arm(make_experiment(), local, hardware, tmp_path)
    assert rounds_begun == []
    assert _same(before, _model(tmp_path))


def test_damaged_progress_is_named_in_one_sentence(
    make_experiment: MakeExperiment, local: Arm, hardware: Hardware, tmp_path: Path
) -> None:
    path = tmp_path / "progress.pt"
    path.write_bytes(b"half")
    with pytest.raises(DataError) as caught:
        train_arm(make_experiment(), local, hardware, tmp_path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "model.pt").exists()


def test_the_file_for_translate_holds_the_model_its_last_rounds_and_what_it_was_trained_on(
    make_experiment: MakeExperiment,
    local: Arm,
    hardware: Hardware,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    experiment = make_experiment(training=KEEP)
    with monkeypatch.context() as patched:
        _pull_plug_in_round(patched, 2)
        with pytest.raises(_PulledPlugError):
            train_arm(experiment, local, hardware, tmp_path)
    train_arm(experiment, local, hardware, tmp_path)
    found = read_model(tmp_path / "model.safetensors")
    model = _model(tmp_path)
    assert all(
        torch.equal(value, model[f"generator.{key}"]) for key, value in found.weights.items()
    )
    assert list(found.earlier) == [2, 3, 4]
    assert _same(dict(found.earlier[4]), dict(found.weights))
    record = found.card.training
    assert record.data == {"north": local.sites[0].content_hash}
    assert record.samples == {"north": len(local.sites[0].split("train").source)}
    assert record.results.keys() == METRICS and record.experiment["seed"] == experiment.seed
    assert found.card.intensities is not None
