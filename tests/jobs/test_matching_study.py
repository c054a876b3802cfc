"""The matching study on the tiny cohort: what it trains, measures, keeps and refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from tiny_cohort import without
from torch import Tensor
from wrong_study import refusal

from fedi2i.cli.program import main
from fedi2i.errors import ConfigError, DataError
from jobs.running.matching import rounds as rounds_module
from jobs.running.matching import run as running
from jobs.running.matching.kept import Row, keep_model, kept_model
from jobs.running.matching.merging import bench_of, control_rows
from jobs.running.matching.plan import (
    Cell,
    MatchingStudy,
    Start,
    is_matching_study,
    read_matching_study,
)
from jobs.running.matching.rounds import round_rows
from jobs.running.matching.run import RECORD_FILE, RESULTS_FILE, run_matching_study
from jobs.running.matching.scale import VAL
from jobs.running.matching.training import Data, Training, trainings_of
from lightning_modules.evaluation.validation import load_translator, patient_metrics, patients
from lightning_modules.evaluation.validation import translate as translate_patient
from lightning_modules.networks.generators.catalogue import build_generator
from lightning_modules.training.hardware import Hardware

TINY = Path(__file__).parents[1] / "experiments" / "tiny.yaml"
SITES = ("north", "east")
FILE = """
kind: matching
title: Tiny matching study
experiment: experiment.yaml
seeds: [5]
steps: 8
starts: [independent, common-25]
models: [2]
merges: [plain, forward, converged, joint, coordinate, activations]
path_points: 1
activation_slices: 6
rounds: {count: 1, steps: 2, models: 2, merges: [chosen, best-single]}
"""


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study's file, and the experiment beside it."""
    folder = tmp_path_factory.mktemp("matching-file")
    text = TINY.read_text(encoding="utf-8")
    text = text.replace("[north, east, south, west]", "[north, east]")
    (folder / "experiment.yaml").write_text(text, encoding="utf-8")
    (folder / "study.yaml").write_text(FILE, encoding="utf-8")
    return folder / "study.yaml"


@pytest.fixture(scope="module")
def data(tiny_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sites of the tiny cohort and the unseen one."""
    folder = tmp_path_factory.mktemp("matching-data") / "data"
    for site in (*SITES, "island"):
        shutil.copytree(tiny_cohort / site, folder / site)
    return folder


@pytest.fixture(scope="module")
def study(file: Path) -> MatchingStudy:
    return read_matching_study(file)


@pytest.fixture(scope="module")
def finished(study: MatchingStudy, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished study."""
    out = tmp_path_factory.mktemp("matching-run") / "out"
    run_matching_study(study, data, out, at_once=1)
    return out


@pytest.fixture(scope="module")
def rows(finished: Path) -> list[Row]:
    lines = (finished / RESULTS_FILE).read_text(encoding="utf-8").splitlines()
    cells = [line.split(",") for line in lines[1:]]
    assert lines[0] == "seed,start,width,sites,merge,quantity,value,split"
    return [
        Row(int(c[0]), c[1], float(c[2]), int(c[3]), c[4], c[5], float(c[6]), c[7]) for c in cells
    ]


def _value(rows: list[Row], **where: Any) -> float:
    found = [r for r in rows if all(getattr(r, key) == value for key, value in where.items())]
    assert len(found) == 1, where
    return found[0].value


def _data(finished: Path, data: Path) -> Data:
    design = json.loads((finished / RECORD_FILE).read_text(encoding="utf-8"))["design"]
    return Data(data.resolve(), tuple(design["manifests"].items()))


def test_the_same_command_again_trains_and_measures_nothing(
    study: MatchingStudy,
    data: Path,
    finished: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = (finished / RESULTS_FILE).read_bytes()

    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("done again")

    monkeypatch.setattr(running, "train", fail)
    monkeypatch.setattr(running, "bench_of", fail)
    run_matching_study(study, data, finished, at_once=1)
    assert (finished / RESULTS_FILE).read_bytes() == before
    assert "4 of 4 are trained already" in capsys.readouterr().out


def test_a_lost_or_damaged_model_is_trained_again_to_the_same_bits(
    study: MatchingStudy, data: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = _data(finished, data)
    cell = Cell(5, Start("common-25"), 1.0, 2)
    lost = trainings_of(study, cell)["east"]
    before = {key: value.clone() for key, value in lost.trained(opened, finished).items()}
    lost.path(finished).write_bytes(b"damaged")
    assert lost.kept(opened, finished) is None
    done: list[str] = []
    train = running.train

    def told(one: Training, *rest: Any) -> None:
        done.append(one.name)
        train(one, *rest)

    monkeypatch.setattr(running, "train", told)
    run_matching_study(study, data, finished, at_once=1)
    assert done == [lost.name]
    after = lost.trained(opened, finished)
    assert all(torch.equal(after[key], value) for key, value in before.items())


def test_starts_are_what_their_names_say(study: MatchingStudy) -> None:
    def of(start: str) -> list[Training]:
        return list(trainings_of(study, Cell(5, Start(start), 1.0, 2)).values())

    independent, shared = of("independent"), of("shared")
    assert independent[0].first != independent[1].first
    assert shared[0].first == shared[1].first
    assert [one.steps for one in shared] == [8, 8]
    assert not any(one.after for one in (*independent, *shared))
    common, alone = of("common-25"), of("one-site-25")
    assert common[0].after == common[1].after
    after, at_one_site = common[0].after, alone[0].after
    assert after is not None and at_one_site is not None
    assert (after.sites, after.steps, common[0].steps) == (SITES, 2, 6)
    assert at_one_site.sites == SITES[:1]
    assert after.first == shared[0].first
    more = trainings_of(study, Cell(5, Start("independent"), 1.0, 3))
    assert list(more) == ["north", "east", "north 2"]
    assert more["north 2"].sites == ("north",)
    assert more["north 2"].first != more["north"].first


def test_models_with_common_steps_begin_with_the_model_of_these_steps(
    study: MatchingStudy, data: Path, finished: Path
) -> None:
    """After 2 common and 6 own steps two models are nearer to each other than independent ones."""
    opened = _data(finished, data)

    def distance(start: str) -> float:
        trainings = trainings_of(study, Cell(5, Start(start), 1.0, 2))
        one, other = (t.trained(opened, finished) for t in trainings.values())
        return fmean(float((one[key] - other[key]).abs().mean()) for key in one)

    assert distance("common-25") < 0.5 * distance("independent")


def test_errors_are_those_of_the_project_s_own_validation(
    study: MatchingStudy, data: Path, finished: Path, rows: list[Row]
) -> None:
    opened, cell = _data(finished, data), Cell(5, Start("independent"), 1.0, 2)
    experiment, hardware = study.experiment(5, 1.0), Hardware("cpu", "32-true", 1)
    found = []
    for training in trainings_of(study, cell).values():
        generator = build_generator(experiment.model.generator)
        load_translator(generator, training.trained(opened, finished))
        measured = [
            patient_metrics(translate_patient(generator, patient.source, hardware), patient)
            for site in SITES
            for patient in patients(opened.site(site, experiment).split(VAL))
        ]
        found.append({name: fmean(m[name] for m in measured) for name in ("mae", "psnr")})
    place = {"start": "independent", "quantity": "l1", "split": VAL}
    expected = [one["mae"] for one in found]
    assert _value(rows, merge="best-single", **place) == pytest.approx(min(expected), abs=1e-9)
    assert _value(rows, merge="mean-single", **place) == pytest.approx(fmean(expected), abs=1e-9)
    best = min(found, key=lambda one: one["mae"])
    psnr = _value(rows, merge="best-single", start="independent", quantity="psnr", split=VAL)
    assert psnr == pytest.approx(best["psnr"], abs=1e-6)


def test_excesses_and_barriers_follow_from_the_errors_beside_them(rows: list[Row]) -> None:
    for start in ("independent", "common-25"):
        place = {"start": start, "merge": "converged", "split": "test"}
        half = _value(rows, quantity="path_l1@0.5", **place)
        ends = [_value(rows, quantity=f"path_l1@{end}", **place) for end in ("0", "1")]
        barrier = _value(rows, quantity="barrier", **place)
        assert barrier == pytest.approx(max(0.0, half - fmean(ends)), abs=1e-12)
        excess = _value(rows, quantity="excess", **place)
        assert excess == pytest.approx(half - fmean(ends), abs=1e-7)
        assert _value(rows, quantity="l1", **place) == pytest.approx(half, abs=1e-7)


def test_the_merge_is_chosen_on_validation_and_its_test_error_is_reported(rows: list[Row]) -> None:
    place = {"start": "independent", "sites": 2}
    merges = ("plain", "forward", "converged", "joint", "coordinate", "activations")
    val = {m: _value(rows, merge=m, quantity="l1", split="val", **place) for m in merges}
    best = min(val, key=lambda name: val[name])
    assert _value(rows, merge="chosen", quantity=f"is_{best}", **place) == 1.0
    for split in ("val", "test", "unseen"):
        chosen = _value(rows, merge="chosen", quantity="l1", split=split, **place)
        assert chosen == _value(rows, merge=best, quantity="l1", split=split, **place)


def test_the_controls_hold_in_every_way_of_merging(rows: list[Row]) -> None:
    for merge in ("forward", "converged", "joint", "coordinate", "activations"):
        assert _value(rows, merge=merge, quantity="identity_moved") == 0.0
        assert _value(rows, merge=merge, quantity="planted_recovered") == 1.0
        assert _value(rows, merge=merge, quantity="planted_l1_gap") == 0.0
    assert abs(_value(rows, merge="plain", quantity="shuffled_alone_l1_gap")) <= 1e-6
    assert _value(rows, merge="plain", quantity="shuffled_mean_l1_gap") > 0.01


def test_control_models_of_another_width_have_its_channels(
    study: MatchingStudy, data: Path, finished: Path
) -> None:
    assert study.experiment(5, 0.5).model.generator.channels == (4, 8)
    bench = bench_of(study, Cell(5, Start("independent"), 1.0, 2), _data(finished, data), finished)
    assert len(list(control_rows(bench, ["plain", "forward"]))) == 8


def test_in_the_rounds_all_sites_get_the_merge_and_keep_their_own_discriminators(
    study: MatchingStudy, data: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, cell = _data(finished, data), Cell(5, Start("independent"), 1.0, 2)
    received: list[dict[str, Tensor]] = []

    def steps(state: dict[str, Tensor], *_: Any) -> dict[str, Tensor]:
        received.append(state)
        return {key: value + len(received) for key, value in state.items()}

    monkeypatch.setattr(rounds_module, "steps_from", steps)
    two = replace(study.config, rounds=replace(study.config.rounds, count=2))
    study = replace(study, config=two)
    bench = bench_of(study, cell, opened, finished)
    rows = list(round_rows(study, bench, opened, finished, "best-single"))
    own = [t.trained(opened, finished) for t in trainings_of(study, cell).values()]
    best = bench.states[bench.best]
    for state, model in zip(received[:2], own, strict=True):
        for key, value in state.items():
            network, _, name = key.partition(".")
            expected = torch.from_numpy(best[name]) if network == "generator" else model[key]
            assert torch.equal(value, expected)
    key = next(key for key in own[0] if key.startswith("discriminator"))
    assert torch.equal(received[2][key], own[0][key] + 1)
    assert torch.equal(received[3][key], own[1][key] + 2)
    key = next(key for key in own[0] if key.startswith("generator"))
    assert torch.allclose(received[2][key], received[0][key] + 1.5)
    assert torch.equal(received[2][key], received[3][key])
    assert [r.quantity for r in rows if r.split == "test" and "l1" in r.quantity] == [
        f"round_l1@{n}" for n in range(3)
    ]


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_site_without_patients_to_train_or_to_choose_on_is_refused_before_anything_is_written(
    split: str, study: MatchingStudy, data: Path, tmp_path: Path
) -> None:
    changed = Path(shutil.copytree(data, tmp_path / "data"))
    without(changed / SITES[1], split)
    with pytest.raises(DataError, match=f"site '{SITES[1]}' has no patient in split '{split}'"):
        run_matching_study(study, changed, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_more_seeds_may_join_and_nothing_else_may_change(
    file: Path, data: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    shutil.copy(finished / RECORD_FILE, out / RECORD_FILE)
    asked: list[Any] = []
    monkeypatch.setattr(running, "_all", lambda _, left, __: asked.extend(left))
    monkeypatch.setattr(running, "_rows", lambda *_: [])
    run_matching_study(read_matching_study(file, [6]), data, out, at_once=1)
    assert json.loads((out / RECORD_FILE).read_text())["seeds"] == [5, 6]
    assert {one.experiment.seed for one in asked if isinstance(one, Training)} == {5, 6}
    other = tmp_path / "other.yaml"
    other.write_text(FILE.replace("steps: 8", "steps: 9"), encoding="utf-8")
    shutil.copy(file.parent / "experiment.yaml", tmp_path)
    with pytest.raises(ConfigError, match="another steps"):
        run_matching_study(read_matching_study(other), data, out, at_once=1)
    (out / RECORD_FILE).write_text("{}")
    with pytest.raises(DataError, match="damaged"):
        run_matching_study(read_matching_study(file), data, out, at_once=1)
    with pytest.raises(ConfigError, match="--at-once 0"):
        run_matching_study(read_matching_study(file), data, out, at_once=0)


def test_a_model_of_other_settings_counts_as_missing(tmp_path: Path) -> None:
    path, state = tmp_path / "model.safetensors", {"w": torch.arange(3.0)}
    keep_model(path, "these", state)
    kept = kept_model(path, "these")
    assert kept is not None and torch.equal(kept["w"], state["w"])
    assert kept_model(path, "others") is None
    assert kept_model(tmp_path / "none.safetensors", "these") is None


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("common-25", "common-0", "unknown start 'common-0'"),
        ("common-25", "common-5", "start 'common-5' of 8 steps leaves no step"),
        (
            "models: [2]",
            "other_models: [2]",
            "other_models names 2 twice, or",
        ),
        (
            "steps: 8",
            "other_widths: [1.0]",
            "other_widths names 1.0 twice, or",
        ),
        ("common-25", "indpendent", "did you mean 'independent'"),
        ("[2]", "[1]", "1 models; merge from 2"),
        ("plain, forward", "plain, foward", "did you mean 'forward'"),
        ("chosen, best-single", "two-sweeps", "rounds.merges: unknown value 'two-sweeps'"),
        ("seeds: [5]", "seeds: [5, 5]", "seeds names 5 twice"),
        ("seeds: [5]", "seeds: []", "seeds is empty"),
        ("steps: 8", "steps: 0", "steps is 0; it must be above 0"),
        ("steps: 8", "width: 0.3", "width 0.3 makes"),
        ("steps: 8", "other_widths: [.nan]", "width nan makes"),
        ("steps: 8", "other_widths: [.inf]", "width inf makes"),
        ("steps: 8", "stepz: 8", "did you mean 'steps'"),
        ("steps: 8", "settings: {seed: 3}", "settings name a seed or a strategy"),
        ("steps: 8", "settings: {model: {name: cyclegan}}", "trains without pairs"),
        (
            "steps: 8",
            "settings: {model: {patch: [6, 16, 16], discriminator: {layers: 1}}}",
            "the experiment has model.patch, and this study compares models of slices",
        ),
        (
            "steps: 8",
            # The tiny experiment's channels give way to the defaults, which say nothing.
            "settings: {model: {generator: {path: a_lab.Net, channels: [16, 32, 64, 128]}}}",
            "what makes 'a_lab.Net' wider nobody can say",
        ),
    ],
)
def test_a_study_that_cannot_be_used_is_one_sentence(
    file: Path, tmp_path: Path, old: str, new: str, sentence: str
) -> None:
    shutil.copy(file.parent / "experiment.yaml", tmp_path)
    assert sentence in refusal(read_matching_study, tmp_path / "wrong.yaml", FILE, old, new)


def test_the_command_tells_the_two_kinds_of_study_apart(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(file.parent / "experiment.yaml", tmp_path)
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(FILE.replace("common-25", "comon-25"), encoding="utf-8")
    out = tmp_path / "out"
    assert main(["study", str(wrong), "--out", str(out)]) == 2
    assert "unknown start 'comon-25'" in capsys.readouterr().err
    assert not out.exists()
    assert not is_matching_study(Path("jobs/studies/default.yaml"))


def test_the_committed_matching_studies_can_be_read() -> None:
    files = [f for f in sorted(Path("jobs/studies").glob("*.yaml")) if is_matching_study(f)]
    assert [file.stem for file in files] == ["matching", "matching_quick"]
    whole, quick = (read_matching_study(file) for file in files)
    assert len(whole.config.seeds) == 5
    assert {cell.width for cell in whole.cells} == {0.5, 1.0, 2.0}
    assert {cell.models for cell in whole.cells} == {2, 4, 8}
    assert len(quick.config.seeds) == 1
