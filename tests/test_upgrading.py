"""What release 0.1.0 wrote is read, or refused in a sentence that says what to do.

The files in ``tests/data/release_0_1_0`` were written by that release: a site of the tests' cohort
with its cache, a model of one step, a run folder, a server's finished rounds, the job ``fedavg``,
and what the kits of a server and a site keep in ``local``. docs/upgrading.md says it in words.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from nvflare.apis.fl_constant import SystemConfigs
from nvflare.fuel.utils.config_service import ConfigService

from app_custom.checkpoints.checkpoint import RoundFiles
from app_custom.participant.allowed_classes import ALLOWED_CLASSES
from app_custom.participant.class_check import ClassCheck
from fedi2i.cli.program import main
from provision.provisioning import PROJECT_FILE, provision

OLD = Path(__file__).parent / "data" / "release_0_1_0"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A copy of what 0.1.0 wrote."""
    return Path(shutil.copytree(OLD, tmp_path / "old"))


def test_a_manifest_is_read_and_its_slices_are_prepared_again_by_the_rules_of_now(
    old: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "check", str(old / "north")]) == 0
    assert "north  2      1    1     4" in capsys.readouterr().out
    settings = ("--set", "size=[16,16]", "--set", "spacing=3.0")
    assert main(["data", "prepare", "--data", str(old / "north"), *settings]) == 0
    assert "north: prepared: train 2 (12 slices)" in capsys.readouterr().out
    (before, after) = sorted((old / "north/prepared").glob("*/"), key=lambda p: p.stat().st_mtime)
    for split in ("train", "val", "test"):
        for name in ("source.npy", "target.npy", "mask.npy"):
            assert (before / split / name).read_bytes() == (after / split / name).read_bytes()


def test_a_model_is_read(old: Path, tmp_path: Path) -> None:
    experiment = ("--experiment", str(old / "experiment.yaml"))
    data = ("--data", str(old / "north"), "--out", str(tmp_path / "results"))
    assert main(["evaluate", *experiment, "--model", f"old={old / 'model.pt'}", *data]) == 0
    table = pd.read_csv(tmp_path / "results" / "results.csv")
    assert set(table.arm) == {"source", "mapped-source", "constant", "mean-target", "old"}


def test_a_run_folder_is_reported(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(old / "run")]) == 0
    assert (old / "run" / "report.html").is_file()
    printed = capsys.readouterr().out
    psnr = pd.read_csv(old / "run" / "results.csv").query("arm == 'fedavg' and metric == 'psnr'")
    assert f"{psnr.value.mean():.2f}" in printed


def test_a_server_s_finished_rounds_are_read(old: Path) -> None:
    finished = RoundFiles(old).load()
    assert finished is not None
    assert (finished.rounds, finished.best_round) == (1, 1)
    expected = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert np.array_equal(finished.weights["generator.a"], expected)
    assert finished.best_weights is not None
    assert np.array_equal(finished.best_weights["generator.a"], expected + 1)
    assert finished.rows == [("north", 1, "val/psnr", 20.5)]
    assert finished.memory["accepted/north"].tolist() == [0]


@pytest.mark.parametrize(
    ("app", "stranger"),
    [
        ("app_server", "app_custom.model_files.ModelFiles"),
        ("app_site", "app_custom.translation_executor.TranslationExecutor"),
    ],
)
def test_an_exported_job_is_refused_and_the_submitter_told_to_export_it_again(
    old: Path, app: str, stranger: str
) -> None:
    ConfigService.reset()
    section = {"class_allow_list": list(ALLOWED_CLASSES)}
    ConfigService.add_section(SystemConfigs.RESOURCES_CONF, section)
    try:
        reason, _ = ClassCheck().validate(str(old / "jobs" / "fedavg" / app))
    finally:
        ConfigService.reset()
    assert reason.startswith("not on this participant's class_allow_list: app_custom.")
    assert stranger in reason
    assert reason.endswith("export it again with this one")


def test_exporting_a_job_again_replaces_the_old_folder(
    old: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = old / "jobs" / "fedavg"
    assert main(["jobs", "export", "fedavg", "--out", str(folder)]) == 0
    config = json.loads((folder / "app_server/config/config_fed_server.json").read_text())
    paths = [component["path"] for component in config["components"]]
    assert all(path in ALLOWED_CLASSES for path in paths if path.startswith("app_custom."))


@pytest.fixture(scope="module")
def kits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's kits, as this version makes them."""
    return provision(PROJECT_FILE, tmp_path_factory.mktemp("provisioned"))


@pytest.mark.parametrize("participant", ["server", "north"])
def test_a_kit_is_refused_before_it_starts_and_starts_with_files_of_a_renewed_one(
    participant: str, kits: Path, old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kit = Path(shutil.copytree(kits / participant, tmp_path / "kit"))
    check = ["provision", "check", str(kit), "--before-start"]
    assert main(check) == 0
    shutil.copytree(old / "kits" / participant, kit / "local", dirs_exist_ok=True)
    capsys.readouterr()
    assert main(check) == 2
    error = capsys.readouterr().err
    assert error.startswith(
        f"error: {kit}: made by another version of FedI2I (it names app_custom."
    )
    assert error.count("\n") == 1
    assert "'local/resources.json' and 'local/privacy.json'" in error
    for name in ("resources.json", "privacy.json"):
        if (kits / participant / "local" / name).is_file():
            shutil.copy(kits / participant / "local" / name, kit / "local" / name)
    assert main(check) == 0
