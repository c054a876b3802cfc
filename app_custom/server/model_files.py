"""The server starts a run from a model file or seeded weights, and saves the global model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nvflare.apis.fl_context import FLContext
from nvflare.app_common.abstract.model import ModelLearnable, ModelLearnableKey
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.app_event_type import AppEventType
from nvflare.app_opt.pt.file_model_persistor import PTFileModelPersistor
from nvflare.widgets.widget import Widget

from app_custom.nvflare_context import local_folder, site_name
from app_custom.participant.site_configuration import FILE_NAME, path_for_site, read_site_config
from fedi2i.errors import ConfigError, DataError, UserError
from fedi2i.typed_config import nearest
from lightning_modules.privacy.encrypted_model import is_encrypted
from lightning_modules.sharing.tensor_file import (
    ENCRYPTED_SUFFIX,
    read_model_state,
    write_encrypted_model,
    write_tensors,
)


class ModelFiles(PTFileModelPersistor):
    """NVFlare's persistor without the arguments that a job must not choose.

    It saves the global and the best model under NVFlare's names in the folder of the job's app.
    NVFlare's own takes names of files anywhere, a checkpoint to start from, and leave to unpickle
    what the file holds: with it a job of configuration alone could read and overwrite files of a
    participant and run code there. A run starts from a model that the server's owner has mapped
    (``InitialModel``) or from seeded weights.

    Args:
        model: the networks, as ``{"path": ..., "args": ...}``.
    """

    def __init__(self, model: Any) -> None:
        super().__init__(model=model, load_weights_only=True)

    def _initialize(self, fl_ctx: FLContext) -> None:
        super()._initialize(fl_ctx)
        self.ckpt_preload_path = None  # an environment file beside the job may name one

    def handle_event(self, event: str, fl_ctx: FLContext) -> None:
        """Save the best model when there is one."""
        with self._failure_named(fl_ctx):
            super().handle_event(event, fl_ctx)

    def save_model(self, ml: ModelLearnable, fl_ctx: FLContext) -> None:
        """Save the global model."""
        with self._failure_named(fl_ctx):
            super().save_model(ml, fl_ctx)

    def save_model_file(self, save_path: str) -> None:
        """Write a model file as a whole or not at all.

        Raises:
            DataError: it cannot be written; the sentence names the folder and the reason.
        """
        write_tensors(Path(save_path), self.persistence_manager.to_persistence_dict())

    @contextmanager
    def _failure_named(self, fl_ctx: FLContext) -> Iterator[None]:
        """End the job with our sentence instead of a trace when a model cannot be written."""
        try:
            yield
        except DataError as error:
            self.system_panic(f"server: {error}", fl_ctx)


class EncryptedModelFiles(ModelFiles):
    """Saves global and best model as the sites encrypted them, beside where plain ones would be.

    Nobody reads them without the sites' key: ``fedi2i provision open-model`` does, at a site.

    Args:
        model: as for ``ModelFiles``.
    """

    def handle_event(self, event: str, fl_ctx: FLContext) -> None:
        """Save the best model when there is one."""
        if event != AppEventType.GLOBAL_BEST_MODEL_AVAILABLE:
            super().handle_event(event, fl_ctx)
            return
        with self._failure_named(fl_ctx):
            self._save(self._best_ckpt_save_path, fl_ctx.get_prop(AppConstants.GLOBAL_MODEL))

    def save_model(self, ml: ModelLearnable, fl_ctx: FLContext) -> None:
        """Save the global model."""
        with self._failure_named(fl_ctx):
            self._save(self._ckpt_save_path, ml)

    def _save(self, plain_path: str, model: ModelLearnable) -> None:
        weights = model[ModelLearnableKey.WEIGHTS]
        if is_encrypted(weights):  # the first round's is not, and no result
            path = Path(plain_path).with_suffix(ENCRYPTED_SUFFIX)
            write_encrypted_model(path, weights)


class InitialModel(Widget):
    """Replaces the initial global model's seeded weights by a file's before the first round.

    The job names a model; the server's own ``fedi2i.yaml`` maps the name to a file. A run that is
    being continued starts from its finished rounds all the same: list this widget before
    ``Continuation``.

    Args:
        name: the model's name.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Load once NVFlare has its own initial model."""
        if event_type != AppEventType.INITIAL_MODEL_LOADED:
            return
        weights = fl_ctx.get_prop(AppConstants.GLOBAL_MODEL)[ModelLearnableKey.WEIGHTS]
        shapes = {key: tuple(value.shape) for key, value in weights.items()}
        try:
            path = mapped_model(self._name, fl_ctx)
            state = read_model_state(path, shapes)
        except UserError as error:
            self.system_panic(f"server: {error}", fl_ctx)
            return
        # In place: the running workflow holds this very object.
        for key in list(weights):
            weights[key] = state[key].numpy().astype(weights[key].dtype)
        self.log_info(fl_ctx, f"starting from model '{self._name}' ({path.name})")


def mapped_model(name: str, fl_ctx: FLContext) -> Path:
    """Return the file that the server's own ``fedi2i.yaml`` maps a model's name to.

    Raises:
        ConfigError: it maps no such name.
    """
    models = read_site_config(local_folder(fl_ctx)).models
    if name not in models:
        raise ConfigError(
            f"no model '{name}' under 'models' in {FILE_NAME}; "
            f"{nearest(name, models) if models else 'none is listed'}"
        )
    return path_for_site(models[name], site_name(fl_ctx))
