"""What a site answers that has no data, or another site's, where its own should be."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from nvflare.apis.dxo import DXO, DataKind
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.signal import Signal
from nvflare.app_common.app_constant import AppConstants
from nvflare_fakes import Engine
from tiny_cohort import write_tiny_cohort

from app_custom.executor.translation_executor import TranslationExecutor
from fedi2i import __version__
from jobs.writing.workspace import prepare_workspace

SETTINGS = {"data": {"dataset": "tiny"}}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two sites' folders."""
    return write_tiny_cohort(tmp_path / "data", ("north", "west"))


def answer_to_train(data: Path, site: str, folder: Path) -> str | None:
    """The return code of a site that is asked to train."""
    workspace = prepare_workspace(folder, {"tiny": data})
    weights = {"generator.w": np.zeros(3, dtype=np.float32)}
    task = DXO(DataKind.WEIGHTS, data=weights).to_shareable()
    task.set_header(AppConstants.CURRENT_ROUND, 0)
    executor = TranslationExecutor(SETTINGS, "fedavg-0123456789ab", __version__)
    ctx = Engine(workspace, name=site).new_context()
    code: str | None = executor.execute("train", task, ctx, Signal()).get_return_code()
    return code


def test_a_site_without_data_cannot_train_and_its_log_names_the_folder(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(data / "west")
    assert answer_to_train(data, "west", tmp_path / "ws") == ReturnCode.EXECUTION_EXCEPTION
    assert f"{data / 'west'}: no such data folder" in caplog.text


def test_another_site_s_data_in_a_site_s_folder_is_refused(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(data / "west")
    shutil.copytree(data / "north", data / "west")
    assert answer_to_train(data, "west", tmp_path / "ws") == ReturnCode.EXECUTION_EXCEPTION
    assert "holds the data of site 'north', but this is site 'west'" in caplog.text
