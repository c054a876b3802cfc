"""Evaluation of finished models on unseen patients."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from fedi2i.errors import ConfigError, DataError
from fedi2i.typed_config import as_dict
from lightning_modules.configuration import ExperimentConfig
from lightning_modules.evaluation.panels import middle_slice
from lightning_modules.evaluation.results import COLUMNS, evaluate, read_generator
from lightning_modules.evaluation.validation import patient_metrics, patients, translate
from lightning_modules.metrics.catalogue import METRICS
from lightning_modules.sharing.shared_networks import SharedNetworks
from lightning_modules.training.hardware import Hardware
from partitions.preparation import PreparedSite

MEASURED = {name for name, metric in METRICS.items() if metric.region == "mask"}


class _Negative(nn.Module):
    """Inverts contrast, which is what the tiny cohort's target does."""

    def forward(self, source: Tensor) -> Tensor:
        return -source


@pytest.fixture
def written(sites: dict[str, PreparedSite], hardware: Hardware, tmp_path: Path) -> Path:
    """The folder of an evaluation of two arms on two sites."""
    arms = {"negative": _Negative(), "copy": nn.Identity()}
    assert (
        evaluate(arms, sites.values(), hardware, tmp_path / "out") == tmp_path / "out/results.csv"
    )
    return tmp_path / "out"


def test_there_is_one_row_per_arm_patient_and_metric(
    written: Path, sites: dict[str, PreparedSite]
) -> None:
    table = pd.read_csv(written / "results.csv")
    assert list(table.columns) == [*COLUMNS]
    assert set(table.preset) == {"mr"}
    expected = {
        (arm, name, "test", subject.subject, metric)
        for arm in ("source", "mapped-source", "constant", "mean-target", "negative", "copy")
        for name, site in sites.items()
        for subject in site.split("test").subjects
        for metric in MEASURED
    }
    rows = list(table.drop(columns=["preset", "value"]).itertuples(index=False, name=None))
    assert len(rows) == len(expected)
    assert set(rows) == expected


def test_an_ensemble_is_measured_by_the_mean_of_its_models_outputs(
    sites: dict[str, PreparedSite], hardware: Hardware, tmp_path: Path
) -> None:
    arms = {"negative": _Negative(), "copy": nn.Identity()}
    members = {"both": ("negative", "copy")}
    evaluate(arms, [sites["north"]], hardware, tmp_path, ensembles=members)
    (patient, *_) = patients(sites["north"].split("test"))
    outputs = [translate(model, patient.source, hardware) for model in arms.values()]
    expected = ((outputs[0].numpy() - patient.target.numpy()) / 2) + (
        (outputs[1].numpy() - patient.target.numpy()) / 2
    )
    inside = patient.mask.numpy() > 0
    table = pd.read_csv(tmp_path / "results.csv")
    mine = table[(table.arm == "both") & (table.subject == patient.subject)]
    (found,) = mine[mine.metric == "mae"].value
    assert found == pytest.approx(np.abs(expected[inside]).mean(), rel=1e-5)
    with np.load(tmp_path / "slices.npz") as pictures:
        assert f"north/{patient.subject}/both" in pictures


def test_the_source_arm_is_the_source_taken_as_prediction(
    written: Path, sites: dict[str, PreparedSite]
) -> None:
    table = pd.read_csv(written / "results.csv").set_index(["arm", "subject", "metric"]).value
    for site in sites.values():
        for patient in patients(site.split("test")):
            expected = patient_metrics(patient.source, patient)
            for metric, value in expected.items():
                assert table["source", patient.subject, metric] == pytest.approx(
                    value, rel=1e-12, nan_ok=True
                )
                # A network that copies its input does as well as the source, up to rounding.
                assert table["copy", patient.subject, metric] == pytest.approx(
                    value, rel=1e-4, nan_ok=True
                )


def test_the_right_answer_beats_the_source_at_every_patient(written: Path) -> None:
    table = pd.read_csv(written / "results.csv")
    table = table.set_index(["metric", "arm", "subject"]).sort_index().value
    for metric, better in {"psnr": 1, "ssim": 1, "mae": -1, "nrmse": -1}.items():
        difference = better * (table[metric, "negative"] - table[metric, "source"])
        assert (difference > 0).all(), metric


def test_psnr_agrees_with_the_mean_squared_error_in_every_row(written: Path) -> None:
    table = pd.read_csv(written / "results.csv")
    wide = table.pivot(index=["arm", "subject"], columns="metric", values="value")
    for row in wide.itertuples():
        assert row.psnr == pytest.approx(-10 * math.log10(row.mse), abs=1e-9)


def test_the_slices_of_every_patient_are_kept_for_figures(
    written: Path, sites: dict[str, PreparedSite], hardware: Hardware
) -> None:
    with np.load(written / "slices.npz") as file:
        arrays = dict(file)
    layers = ("target", "mask", "source", "negative", "copy")
    assert set(arrays) == {
        f"{name}/{subject.subject}/{layer}"
        for name, site in sites.items()
        for subject in site.split("test").subjects
        for layer in layers
    }
    (patient,) = patients(sites["east"].split("test"))
    index = middle_slice(patient.mask)
    translated = translate(_Negative(), patient.source, hardware)[index]
    expected = {
        "source": patient.source[index],
        "target": patient.target[index],
        "mask": patient.mask[index].float(),
        "negative": translated.clamp(0, 1),
    }
    for layer, image in expected.items():
        kept = arrays[f"east/{patient.subject}/{layer}"]
        assert kept.dtype == np.float16
        np.testing.assert_allclose(kept, image.numpy(), atol=1e-3, err_msg=layer)


def test_another_split_is_measured_when_asked_for(
    sites: dict[str, PreparedSite], hardware: Hardware, tmp_path: Path
) -> None:
    table = pd.read_csv(evaluate({}, [sites["north"]], hardware, tmp_path, split="val"))
    assert set(table.subject) == {"north-002"}
    assert set(table.split) == {"val"}


def test_all_patients_of_an_unseen_site_are_test_patients_whatever_their_split(
    sites: dict[str, PreparedSite], hardware: Hardware, tmp_path: Path
) -> None:
    both = [sites["north"], sites["east"]]
    table = pd.read_csv(evaluate({}, both, hardware, tmp_path, unseen=["east"]))
    assert set(table.split) == {"test"}
    subjects = table.groupby("site").subject.unique()
    assert sorted(subjects["east"]) == ["east-000", "east-001", "east-002", "east-003"]
    assert sorted(subjects["north"]) == ["north-003"]
    arrays = np.load(tmp_path / "slices.npz")
    assert "east/east-000/target" in arrays


def test_an_unseen_site_has_no_part_in_the_measurement_of_another_split(
    sites: dict[str, PreparedSite], hardware: Hardware, tmp_path: Path
) -> None:
    table = pd.read_csv(
        evaluate({}, [sites["east"]], hardware, tmp_path, split="val", unseen=["east"])
    )
    assert set(table.subject) == {"east-002"}


def test_an_unknown_split_is_refused_and_nothing_is_written(
    sites: dict[str, PreparedSite], hardware: Hardware, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="did you mean 'test'"):
        evaluate({}, [sites["north"]], hardware, tmp_path, split="tset")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("scope", ["generator", "generator+discriminator"])
def test_a_model_file_gives_back_the_generator_that_was_saved(
    make_experiment: Callable[..., ExperimentConfig], tmp_path: Path, scope: str
) -> None:
    model = make_experiment().model
    networks = SharedNetworks(as_dict(model), scope, seed=4)
    torch.save({"model": networks.state_dict()}, tmp_path / "model.pt")
    source = torch.rand(1, 1, 32, 32)
    read = read_generator(model, tmp_path / "model.pt")
    assert torch.equal(read(source), networks["generator"](source))


@pytest.mark.parametrize(
    "content", ["nothing", "text", "cut", "list", "no model", "other channels", "more levels"]
)
def test_a_damaged_or_foreign_model_is_refused_in_one_sentence(
    make_experiment: Callable[..., ExperimentConfig], tmp_path: Path, content: str
) -> None:
    path = tmp_path / "model.pt"
    state = SharedNetworks(as_dict(make_experiment().model), "generator", seed=4).state_dict()
    if content == "nothing":
        path.write_bytes(b"")
    elif content == "text":
        path.write_text("weights", encoding="utf-8")
    elif content == "cut":
        torch.save({"model": state}, path)
        path.write_bytes(path.read_bytes()[:-500])
    elif content == "list":
        torch.save([1], path)
    elif content == "no model":
        torch.save(state, path)
    else:
        channels = [8, 24] if content == "other channels" else [8, 16, 16]
        other = make_experiment(model={"generator": {"channels": channels}}).model
        networks = SharedNetworks(as_dict(other), "generator", seed=4)
        torch.save({"model": networks.state_dict()}, path)
    with pytest.raises(DataError) as caught:
        read_generator(make_experiment().model, path)
    sentence = str(caught.value)
    assert str(path) in sentence
    assert "\n" not in sentence
    assert "weights_only" not in sentence


def test_a_model_file_that_is_missing_is_named(
    make_experiment: Callable[..., ExperimentConfig], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"nowhere\.pt: no such model file"):
        read_generator(make_experiment().model, tmp_path / "nowhere.pt")
