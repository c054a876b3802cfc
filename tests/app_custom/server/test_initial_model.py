"""A federation that starts from a model file, and files that it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from nvflare.apis.fl_context import FLContext
from nvflare.app_common.abstract.model import make_model_learnable
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.app_event_type import AppEventType
from nvflare_fakes import Engine, weights_of

from app_custom.participant.site_configuration import FILE_NAME
from app_custom.server.model_files import InitialModel


class Server:
    """A server whose configuration maps the model ``mr`` to a file."""

    def __init__(self, root: Path, name: str = "mr") -> None:
        self.engine = Engine(root)
        self.file = root / "model.pt"
        (root / "local" / FILE_NAME).write_text(f"models: {{mr: {self.file}}}\n")
        self.widget = InitialModel(name)
        self.model = make_model_learnable(weights_of(0), {})

    def load(self) -> FLContext:
        ctx = self.engine.new_context()
        ctx.set_prop(AppConstants.GLOBAL_MODEL, self.model, private=True, sticky=True)
        self.widget.handle_event(AppEventType.INITIAL_MODEL_LOADED, ctx)
        return ctx


def save(path: Path, weights: dict[str, np.ndarray]) -> None:
    state = {key: torch.as_tensor(np.array(value)) for key, value in weights.items()}
    torch.save({"model": state}, path)


def test_the_workflow_s_own_model_takes_the_file_s_weights(tmp_path: Path) -> None:
    server = Server(tmp_path)
    save(server.file, {**weights_of(5), "discriminator.w": np.zeros(3, np.float32)})
    held_by_the_workflow = server.model
    server.load()
    assert server.engine.panics() == []
    for key, value in weights_of(5).items():
        np.testing.assert_array_equal(held_by_the_workflow["weights"][key], value)
        assert held_by_the_workflow["weights"][key].dtype == value.dtype
    assert set(held_by_the_workflow["weights"]) == set(weights_of(5))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"generator.w": np.zeros((3, 2), np.float32)}, "'generator.w' has shape [3, 2] there"),
        ({"generator.b": None}, "holds another model, without 'generator.b'"),
    ],
)
def test_a_file_of_another_model_ends_the_job_before_the_first_round(
    tmp_path: Path, change: dict[str, np.ndarray | None], reason: str
) -> None:
    server = Server(tmp_path)
    weights = {**weights_of(5), **change}
    save(server.file, {key: value for key, value in weights.items() if value is not None})
    server.load()
    (panic,) = server.engine.panics()
    assert reason in panic
    assert str(server.file) in panic
    assert "\n" not in panic
    np.testing.assert_array_equal(
        server.model["weights"]["generator.b"], weights_of(0)["generator.b"]
    )


@pytest.mark.parametrize("content", [None, b"", b"no model", "state"])
def test_a_missing_or_damaged_file_ends_the_job(
    tmp_path: Path, content: bytes | str | None
) -> None:
    server = Server(tmp_path)
    if isinstance(content, bytes):
        server.file.write_bytes(content)
    elif content == "state":
        torch.save({"generator.w": torch.zeros(1)}, server.file)
    server.load()
    (panic,) = server.engine.panics()
    assert str(server.file) in panic
    assert "\n" not in panic


def test_a_name_that_the_server_does_not_map_ends_the_job(tmp_path: Path) -> None:
    server = Server(tmp_path, name="mri")
    server.load()
    (panic,) = server.engine.panics()
    assert "no model 'mri' under 'models' in fedi2i.yaml; did you mean 'mr'?" in panic
