"""``python -m lightning_modules``: results in files, mistakes in one line and exit code 2."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from omegaconf import OmegaConf

from lightning_modules.__main__ import main
from lightning_modules.configuration import ExperimentConfig, experiment_values


@pytest.fixture
def experiment_file(make_experiment: Callable[..., ExperimentConfig], tmp_path: Path) -> Path:
    """A tiny experiment of one round."""
    path = tmp_path / "experiment.yaml"
    experiment = make_experiment(training={"rounds": 1, "steps": 4, "precision": "fp32"})
    OmegaConf.save(OmegaConf.create(experiment_values(experiment)), path)
    return path


def test_models_are_trained_and_then_evaluated(
    experiment_file: Path, tiny_cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    north, east, island = (str(tiny_cohort / name) for name in ("north", "east", "island"))
    experiment = ("--experiment", str(experiment_file))
    local, pooled = tmp_path / "local", tmp_path / "pooled"
    assert main(["train", *experiment, "--data", north, "--out", str(local)]) == 0
    assert main(["train", *experiment, "--data", north, "--data", east, "--out", str(pooled)]) == 0
    # The pooled arm takes the steps of all its sites together and is named by itself.
    assert set(pd.read_csv(local / "metrics.csv").site) == {"north", "all"}
    assert set(pd.read_csv(pooled / "metrics.csv").site) == {"north", "east", "all"}
    models = [f"local={local / 'model.pt'}", f"pooled={pooled / 'model.pt'}"]
    arguments = [part for model in models for part in ("--model", model)]
    out = tmp_path / "results"
    code = main(["evaluate", *experiment, *arguments, "--data", island, "--out", str(out)])
    assert code == 0
    table = pd.read_csv(out / "results.csv")
    assert set(table.arm) == {
        "source",
        "mapped-source",
        "constant",
        "mean-target",
        "local",
        "pooled",
    }
    assert set(table.site) == {"island"}
    assert f"wrote {out / 'results.csv'}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"--experiment": "nowhere.yaml"}, "nowhere.yaml: no such"),
        ({"--data": "nowhere"}, "nowhere: no such data folder"),
        ({"--model": "model.pt"}, "write name=file"),
        ({"--model": "a=nowhere.pt"}, "nowhere.pt: no such model file"),
        ({"--model": "source=nowhere.pt"}, "'source' is taken"),
        ({"--model": "mean-target=nowhere.pt"}, "'mean-target' is taken"),
        ({"--model": "lesion=nowhere.pt"}, "'lesion' is taken"),
        ({"--ensemble": "both"}, "--ensemble both: write name=model,model"),
        ({"--ensemble": "both=a,b"}, "--ensemble both: unknown value 'a'"),
        ({"--split": "tset"}, "did you mean 'test'"),
        ({"--unseen": "nroth"}, "--unseen: unknown value 'nroth'; did you mean 'north'?"),
        ({"--out": "{experiment}"}, "is a file"),
    ],
)
def test_a_mistake_ends_evaluation_with_code_two_and_one_line(
    experiment_file: Path,
    tiny_cohort: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: dict[str, str],
    expected: str,
) -> None:
    options = {
        "--experiment": str(experiment_file),
        "--data": str(tiny_cohort / "north"),
        "--out": str(tmp_path / "out"),
        **{key: value.format(experiment=experiment_file) for key, value in change.items()},
    }
    assert main(["evaluate", *(part for pair in options.items() for part in pair)]) == 2
    output = capsys.readouterr()
    lines = [line for line in output.err.splitlines() if not line.startswith("preparing")]
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert expected in lines[0]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", ["--uncertainty", "--distributions"])
def test_what_is_measured_of_one_pair_alone_is_refused_for_a_model_of_several(
    option: str, tiny_cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "conditional.yaml"
    path.write_text(
        "sharing: generator\ndata: {preparation: {source: t1, target: t2}}\n"
        "model: {name: conditional, contrasts: [t1, t2, flair]}\n"
    )
    arguments = ["--experiment", str(path), "--data", str(tiny_cohort / "north"), option]
    assert main(["evaluate", *arguments, "--out", str(tmp_path / "out")]) == 2
    assert f"{option}: model 'conditional' translates between" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_two_models_of_one_name_are_refused(
    experiment_file: Path, tiny_cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--experiment", str(experiment_file), "--data", str(tiny_cohort / "north")]
    arguments += ["--out", str(tmp_path / "out"), "--model", "a=one.pt", "--model", "a=two.pt"]
    assert main(["evaluate", *arguments]) == 2
    assert "'a' is taken" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("trainin: {}\n", "unknown key 'trainin'; did you mean 'training'?"),
        ("training: {rounds: 0}\n", "training.rounds is 0"),
        ("training: [\n", "not valid YAML"),
        ("- 1\n", "expected 'key: value' lines"),
    ],
)
def test_a_wrong_experiment_file_stops_the_program_before_anything_is_written(
    tmp_path: Path, tiny_cohort: Path, text: str, expected: str
) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(text, encoding="utf-8")
    arguments = ["--experiment", str(path), "--data", str(tiny_cohort / "north")]
    done = subprocess.run(
        [sys.executable, "-m", "lightning_modules", "evaluate", *arguments, "--out", "out"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {path}: ")
    assert expected in line
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", [b"", b"not a model"])
def test_a_damaged_model_ends_evaluation_with_one_line(
    experiment_file: Path,
    tiny_cohort: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: bytes,
) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    arguments = ["--experiment", str(experiment_file), "--data", str(tiny_cohort / "north")]
    arguments += ["--out", str(tmp_path / "out"), "--model", f"a={path}"]
    assert main(["evaluate", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {path}: ")
    assert not (tmp_path / "out").exists()
