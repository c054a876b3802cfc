"""The persistor of our jobs: NVFlare's, without the arguments that a job must not choose."""

from __future__ import annotations

from typing import Any

from nvflare.apis.fl_context import FLContext
from nvflare.app_opt.pt.file_model_persistor import PTFileModelPersistor


class ModelFiles(PTFileModelPersistor):
    """Saves the global and the best model under NVFlare's names in the folder of the job's app.

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
