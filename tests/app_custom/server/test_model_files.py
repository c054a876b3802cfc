"""The persistor that leaves a job no choice of files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from full_disk import room_for
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import FLContextKey
from nvflare.apis.fl_context import FLContext
from nvflare.app_common.abstract.model import ModelLearnableKey
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.app_event_type import AppEventType
from nvflare.app_opt.pt.file_model_persistor import PTFileModelPersistor
from nvflare_fakes import Engine

from app_custom.server.model_files import ModelFiles


@pytest.mark.parametrize(
    "argument",
    [
        {"load_weights_only": False},
        {"source_ckpt_file_full_name": "/somewhere/model.pt"},
        {"global_model_file_name": "/somewhere/model.pt"},
        {"best_global_model_file_name": "x.pt"},
        {"exclude_vars": ".*"},
    ],
)
def test_it_takes_a_model_and_nothing_else(argument: dict[str, object]) -> None:
    with pytest.raises(TypeError, match=next(iter(argument))):
        ModelFiles(torch.nn.Linear(1, 1), **argument)  # type: ignore[arg-type]


def test_a_checkpoint_that_the_job_brings_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "environment.json").write_text(json.dumps({"APP_CKPT": "brought.pt"}))
    torch.save({"weight": torch.full((1, 1), 7.0), "bias": torch.zeros(1)}, tmp_path / "brought.pt")
    network = torch.nn.Linear(1, 1)
    persistor = ModelFiles(network)
    ctx = Engine().new_context()
    ctx.set_prop(FLContextKey.APP_ROOT, str(tmp_path), private=True, sticky=True)
    arguments = SimpleNamespace(env="environment.json")
    ctx.set_prop(FLContextKey.ARGS, arguments, private=True, sticky=True)
    persistor.handle_event(EventType.START_RUN, ctx)
    weights = persistor.load_model(ctx)[ModelLearnableKey.WEIGHTS]
    assert weights["weight"] == network.weight.detach().numpy()
    assert persistor.load_weights_only


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[tuple[ModelFiles, FLContext, Engine]]:
    """A persistor at the start of a job, whose app folder lies on a disk with little room."""
    engine = Engine()
    ctx = engine.new_context()
    ctx.set_prop(FLContextKey.APP_ROOT, str(tmp_path), private=True, sticky=True)
    persistor = ModelFiles(torch.nn.Linear(100, 100))
    persistor.handle_event(EventType.START_RUN, ctx)
    learnable = persistor.load_model(ctx)
    ctx.set_prop(AppConstants.GLOBAL_MODEL, learnable, private=True, sticky=True)
    with room_for(1000):
        yield persistor, ctx, engine


def test_a_full_disk_ends_the_job_with_the_folder_and_what_to_do(
    opened: tuple[ModelFiles, FLContext, Engine], tmp_path: Path
) -> None:
    persistor, ctx, engine = opened
    persistor.save(ctx.get_prop(AppConstants.GLOBAL_MODEL), ctx)
    persistor.handle_event(AppEventType.GLOBAL_BEST_MODEL_AVAILABLE, ctx)
    for said in engine.panics():
        assert said.startswith(f"server: {tmp_path}: no space left on device for 4")
        assert said.endswith("make room and start the job again, finished rounds are kept")
    assert len(engine.panics()) == 2
    assert list(tmp_path.iterdir()) == []  # nothing half-written


def test_a_saved_model_is_the_one_that_nvflare_would_have_saved(tmp_path: Path) -> None:
    engine = Engine()
    saved = []
    for kind in (ModelFiles, PTFileModelPersistor):
        folder = tmp_path / kind.__name__
        folder.mkdir()
        ctx = engine.new_context()
        ctx.set_prop(FLContextKey.APP_ROOT, str(folder), private=True, sticky=True)
        torch.manual_seed(1)
        persistor = kind(model=torch.nn.Linear(3, 2))
        persistor.handle_event(EventType.START_RUN, ctx)
        persistor.save(persistor.load_model(ctx), ctx)
        (path,) = folder.iterdir()
        saved.append((path.name, torch.load(path, weights_only=True)))
    (name, ours), (its_name, theirs) = saved
    assert name == its_name and ours.keys() == theirs.keys()
    assert all(ours["model"][key].equal(theirs["model"][key]) for key in theirs["model"])
