"""The persistor that leaves a job no choice of files."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import FLContextKey
from nvflare.app_common.abstract.model import ModelLearnableKey
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
