from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jobs.__main__ import main
from jobs.commands.comparison import _strategies
from jobs.commands.job_folders import JOBS_FOLDER, write_committed
from jobs.running import comparison
from jobs.running.launching import parts
from lightning_modules.strategies.catalogue import STRATEGIES, STRATEGY_JOBS, with_companions

REPOSITORY = JOBS_FOLDER.parent


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of one command."""
    code = main(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


EXPORT_ERRORS = {
    "a misspelt strategy": (["fedproxx"], "unknown strategy 'fedproxx'; did you mean 'fedprox'?"),
    "a setting without value": (["fedavg", "--set", "training.rounds"], "write key=value"),
    "a setting with an empty value": (["fedavg", "--set", "training.rounds="], "write key=value"),
    "a setting that is no YAML": (["fedavg", "--set", "seed=["], "--set seed=["),
    "a setting that refers to nothing": (["fedavg", "--set", "seed=${x}"], "--set seed=${x}"),
    "an unknown key": (["fedavg", "--set", "training.round=3"], "did you mean 'rounds'?"),
    "an unknown section": (["fedavg", "--set", "trainin.rounds=3"], "did you mean 'training'?"),
    "a word for a number": (["fedavg", "--set", "seed=many"], "seed"),
    "a section for a number": (["fedavg", "--set", "seed.x=1"], "seed"),
    "no rounds": (["fedavg", "--rounds", "0"], "training.rounds is 0"),
    "too many needed sites": (["fedavg", "--min-sites", "5"], "min_sites is 5; it must be from 1"),
    "no time": (["fedavg", "--round-timeout", "0"], "round_timeout is 0; it must be from 1"),
    "gpus of a stranger": (["fedavg", "--gpus", "nort=1"], "names 'nort', which does not train"),
    "fewer than no gpus": (["fedavg", "--gpus", "north=-1"], "federation.gpus of 'north' is -1"),
    "gpus that are no number": (["fedavg", "--gpus", "north=x"], "--gpus north=x: write a number"),
    "unknown compression": (["fedavg", "--compression", "fp61"], "did you mean 'fp16'"),
    "compressed swarm": (["swarm", "--compression", "fp16"], "in a swarm sites send their models"),
    "no needed sites": (["fedavg", "--min-sites", "0"], "min_sites is 0; it must be from 1"),
    "a site twice": (["fedavg", "--sites", "CS,DU,CS"], "'CS' is named twice"),
    "an empty site name": (["fedavg", "--sites", "CS,,DU"], "site '' cannot be used as a name"),
    "a site name with a space": (["fedavg", "--sites", "CS, DU"], "' DU' cannot be"),
    "a site name with a path": (["fedavg", "--sites", "../CS"], "'../CS' cannot be"),
    "a site name with a dot": (["fedavg", "--sites", "a.b"], "'a.b' cannot be"),
    "a site called all": (["fedavg", "--sites", "all,CS"], "a site cannot be called 'all'"),
    "a site called server": (
        ["fedavg", "--sites", "server,CS"],
        "a site cannot be called 'server'",
    ),
    "a missing experiment": (
        ["fedavg", "--experiment", "nowhere.yaml"],
        "nowhere.yaml: no such configuration file",
    ),
    "a strategy's value for another strategy": (
        ["fedavg", "--set", "strategy.mu_generator=1"],
        "belongs to fedprox",
    ),
}


@pytest.mark.parametrize("what", EXPORT_ERRORS)
def test_a_mistake_ends_with_code_2_and_one_line_and_nothing_is_written(
    what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, sentence = EXPORT_ERRORS[what]
    out = tmp_path / "out" / "job"
    code, printed, error = run(capsys, "export", *arguments, "--out", str(out))
    assert code == 2
    assert printed == ""
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert sentence in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("federation: {sites: [a, b]}\nexperimen: {}\n", "did you mean 'experiment'?"),
        ("federation: {sites: [a], unseen: [a]}\n", "'a' is named twice"),
        ("federation: {unseen: [a]}\n", "federation.sites is empty"),
        ("federation: {site: [a]}\n", "did you mean 'sites'?"),
        ("federation: 3\n", "federation is '3'"),
        ("federation: {sites: [a]}\nexperiment: [1]\n", "experiment is '[1]'"),
        ("federation: {sites: north}\n", "key 'sites'"),
        ("- a list\n", "expected 'key: value' lines"),
        ("a: [\n", "not valid YAML"),
    ],
)
def test_a_mistake_in_an_experiment_file_is_named_with_the_file(
    text: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    out = tmp_path / "job"
    code, _, error = run(capsys, "export", "fedavg", "--experiment", str(path), "--out", str(out))
    assert code == 2
    assert error.startswith(f"error: {path}")
    assert error.count("\n") == 1
    assert sentence in error
    assert not out.exists()


def test_a_folder_that_is_no_job_is_never_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work", encoding="utf-8")
    code, _, error = run(capsys, "export", "fedavg", "--out", str(tmp_path / "thesis"))
    assert code == 2
    assert "exists and is no job folder" in error
    assert (tmp_path / "thesis" / "chapter.txt").is_file()


def test_the_working_folder_is_never_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "meta.json").write_text("{}", encoding="utf-8")
    code, _, _ = run(capsys, "export", "fedavg", "--out", ".")
    assert code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["meta.json"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--set", "strategy.name=fedprox"), "the command names the strategy; leave this out"),
        (("--sites", ""), "--sites: empty; give a value or leave it out"),
        (("--initial-model", ""), "--initial-model: empty"),
        (("--gpu-memory", "5"), "--gpu-memory: of how many GPUs? give --gpus as well"),
    ],
)
def test_options_that_contradict_or_say_nothing_are_refused(
    options: tuple[str, str],
    sentence: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "job"
    code, _, error = run(capsys, "export", "fedavg", "--out", str(out), *options)
    assert code == 2
    assert sentence in error
    assert not out.exists()


def test_export_asks_for_a_folder_and_never_replaces_a_committed_job_by_default(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as stopped:
        run(capsys, "export", "fedavg", "--rounds", "3")
    assert stopped.value.code == 2
    assert "--out" in capsys.readouterr().err


def test_export_writes_a_job_for_the_given_sites_data_and_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "glioma"
    options = ["--sites", "CS,DU,HT", "--dataset", "lgg", "--rounds", "9", "--steps", "11"]
    options += ["--min-sites", "2", "--set", "model.lambda_l1=50", "--set", "seed=7"]
    code, printed, error = run(capsys, "export", "fedprox", "--out", str(out), *options)
    assert (code, error) == (0, "")
    wrote, refusal = printed.splitlines()
    assert wrote == f"wrote {out}: CS, DU, HT"
    assert refusal.startswith("real sites refuse rounds of 2 site(s): each of two computes the")
    site = json.loads(
        (out / "app_site" / "config" / "config_fed_client.json").read_text(encoding="utf-8")
    )
    settings = site["executors"][0]["executor"]["args"]["settings"]
    assert settings["data"]["dataset"] == "lgg"
    assert (settings["training"]["rounds"], settings["training"]["steps"]) == (9, 11)
    assert (settings["model"]["lambda_l1"], settings["seed"]) == (50.0, 7)
    meta = json.loads((out / "meta.json").read_text(encoding="utf-8"))
    assert (meta["name"], meta["min_clients"]) == ("glioma", 2)


def test_a_setting_on_the_command_line_wins_over_the_strategy_s(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "job"
    run(capsys, "export", "fedprox", "--out", str(out), "--set", "strategy.mu_generator=0.25")
    text = (out / "app_site" / "config" / "config_fed_client.json").read_text(encoding="utf-8")
    strategy = json.loads(text)["executors"][0]["executor"]["args"]["settings"]["strategy"]
    default = STRATEGIES["fedprox"].settings()
    assert strategy["mu_generator"] == 0.25 != default.mu_generator
    assert strategy["mu_discriminator"] == default.mu_discriminator


def test_committed_jobs_can_be_written_again_without_a_difference(tmp_path: Path) -> None:
    write_committed(tmp_path)
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        committed = JOBS_FOLDER / path.relative_to(tmp_path)
        assert path.read_bytes() == committed.read_bytes()


def test_a_workspace_without_its_data_is_refused_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = tmp_path / "nowhere"
    code, _, error = run(
        capsys, "workspace", str(tmp_path / "work"), "--dataset", f"demo={nowhere}"
    )
    assert code == 2
    assert error.startswith(
        f"error: {nowhere}: no such folder for data set 'demo'; correct the path"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["demo", "demo=", "=data/demo"])
def test_a_data_set_needs_a_name_and_a_folder(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, error = run(capsys, "workspace", str(tmp_path / "work"), "--dataset", text)
    assert code == 2
    assert "write name=folder" in error
    assert list(tmp_path.iterdir()) == []


def test_compare_refuses_a_misspelt_strategy_before_it_reads_data_or_trains(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, error = run(
        capsys,
        "compare",
        *("--data", str(tmp_path / "data"), "--out", str(tmp_path / "run")),
        *("--strategies", "fedavg,fedprx"),
    )
    assert code == 2
    assert "unknown strategy 'fedprx'; did you mean 'fedprox'?" in error
    assert list(tmp_path.iterdir()) == []


def test_compare_refuses_missing_data_with_its_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    code, _, error = run(capsys, "compare", "--data", str(data), "--out", str(tmp_path / "run"))
    assert code == 2
    assert str(data / "north") in error
    assert list(tmp_path.iterdir()) == []


def test_compare_hands_its_arms_to_a_launcher_with_whole_paths_and_records_them_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    order: list[tuple[str, Any]] = []
    monkeypatch.setattr(parts, "launch_comparisons", lambda *given: order.append(("jobs", given)))
    monkeypatch.setattr(comparison, "run_comparison", lambda one: order.append(("here", one)))
    monkeypatch.chdir(tmp_path)
    asked = ("compare", "--data", "data", "--out", "run", "--at-once", "3")
    resources = ("--launcher", "slurm", "--resource", "cores=2", "--resource", "hours=0.5")
    assert run(capsys, *asked, *resources)[0] == 0
    (first, (comparisons, launcher, out, asked_for, at_once)), (second, recorded) = order
    assert (first, second) == ("jobs", "here")
    assert comparisons == [recorded]
    assert (recorded.data, recorded.out) == (tmp_path / "data", tmp_path / "run")
    assert (launcher, out, at_once) == ("slurm", tmp_path / "run", 3)
    assert (asked_for.cores, asked_for.minutes, asked_for.memory) == (2, 30, 16)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--resource", "cores=2"), "nothing asks for it without --launcher"),
        (("--launcher", "local", "--resource", "core=2"), "did you mean 'cores'"),
        (("--launcher", "local", "--resource", "cores"), "write key=value, e.g. cores=8"),
        (("--launcher", "local", "--resource", "cores=0"), "cores is 0"),
        (("--launcher", "slurm", "--resource", "account=a b"), "resources.account is 'a b'"),
    ],
)
def test_compare_refuses_resources_that_no_job_can_have(
    options: tuple[str, ...],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, error = run(capsys, "compare", *options)
    assert code == 2
    assert sentence in error
    assert list(tmp_path.iterdir()) == []


def test_the_program_returns_its_exit_code_to_the_shell(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "jobs", "export", "fedavgg", "--out", str(tmp_path / "job")],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == "error: unknown strategy 'fedavgg'; did you mean 'fedavg'?\n"
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("asked", "compared"),
    [
        (("fedavg", "fedprox"), ("fedavg", "fedprox")),
        (("fedma",), ("fedma", "fedavg", "fedavg_independent", "fedma_independent")),
        (
            ("fedavg", "fedma_independent"),
            ("fedavg", "fedma_independent", "fedavg_independent", "fedma"),
        ),
        (tuple(STRATEGY_JOBS), tuple(STRATEGY_JOBS)),
    ],
)
def test_fedma_is_compared_from_both_starts_and_beside_fedavg_from_each(
    asked: tuple[str, ...], compared: tuple[str, ...]
) -> None:
    assert with_companions(asked) == compared


def test_a_private_job_s_companions_are_those_of_its_strategy() -> None:
    assert _strategies("fedma_dp,fedavg_dp") == (
        "fedma_dp",
        "fedavg_dp",
        "fedavg_independent",
        "fedma_independent",
    )
