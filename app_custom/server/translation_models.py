"""The server writes what ``fedi2i translate`` takes: models with all that is needed to run them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import FLContextKey
from nvflare.apis.fl_context import FLContext
from nvflare.app_common.abstract.model import ModelLearnableKey
from nvflare.app_common.app_constant import AppConstants, DefaultCheckpointFileName
from nvflare.app_common.app_event_type import AppEventType
from nvflare.widgets.widget import Widget

from app_custom.checkpoints.run_key import run_key
from app_custom.nvflare_context import app_folder, local_folder, site_name, workspace_folder
from app_custom.participant.site_configuration import (
    checked_run_name,
    read_site_config,
    state_folder,
)
from app_custom.server.global_metrics import GlobalMetrics
from fedi2i.errors import UserError
from lightning_modules.configuration import experiment_from
from lightning_modules.privacy.encrypted_model import is_encrypted
from lightning_modules.sharing.tensor_file import read_tensors, write_tensors
from lightning_modules.translation.model_card import card_of, training_record
from lightning_modules.translation.model_file import (
    KEPT_ROUNDS,
    SUFFIX,
    ModelFile,
    Weights,
    translator_weights,
    write_model,
)
from lightning_modules.translation.unlike_training import intensities_of_sites

FINAL, BEST = "final", "best"
FILES = {
    FINAL: DefaultCheckpointFileName.GLOBAL_MODEL,
    BEST: DefaultCheckpointFileName.BEST_GLOBAL_MODEL,
}
_ROUND_FILE = "translator-{}.pt"
_DAMAGED = "damaged; delete the folder to start the run anew"


class TranslationModels(Widget):
    """Writes the final and the best model as model files, beside NVFlare's, when a run ends.

    A file's card says what the job and the metrics say: of the source scans, the mean of the sites
    that describe theirs (see ``app_custom.executor.site_session``). A file holds the last global
    models as well, for ``translate --uncertainty``: their translators are kept with the finished
    rounds until the run ends, and no site's own model ever is. Nothing is written where the sites
    keep parts of the translator to themselves, or where the model is encrypted. List it after
    ``Continuation``.

    Args:
        settings: the experiment's values.
        run_name: names the run, as for ``Continuation``.
        privacy: the privacy mechanism: its settings, and what it promises.
        selector_id: component that knows the best model's round, where there is one.
        keep_rounds: how many of the last global models are kept; 0 where the server sees no model
            before the end.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        run_name: str,
        privacy: Mapping[str, Any] | None = None,
        selector_id: str | None = None,
        metrics_id: str = "global_metrics",
        keep_rounds: int = KEPT_ROUNDS,
    ) -> None:
        super().__init__()
        self._experiment = experiment_from(settings, "job argument 'settings'")
        self._run_name = checked_run_name(run_name)
        self._privacy = dict(privacy or {})
        self._selector_id = selector_id
        self._metrics_id = metrics_id
        self._keep_rounds = keep_rounds

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Keep the last rounds' translators; write model files when the run has ended well."""
        try:
            if event_type == AppEventType.ROUND_DONE and self._keep_rounds:
                self._keep(fl_ctx)
            elif event_type == EventType.ABOUT_TO_END_RUN and not _aborted(fl_ctx):
                self._write(fl_ctx)
        except UserError as error:
            self.system_panic(f"server: {error}", fl_ctx)

    def _keep(self, fl_ctx: FLContext) -> None:
        rounds = int(fl_ctx.get_prop(AppConstants.CURRENT_ROUND)) + 1
        if rounds <= self._experiment.training.rounds - self._keep_rounds:
            return
        model = fl_ctx.get_prop(AppConstants.GLOBAL_MODEL)[ModelLearnableKey.WEIGHTS]
        weights = None if is_encrypted(model) else self._translator(_tensors(model))
        if weights is not None:
            path = self._folder(fl_ctx) / _ROUND_FILE.format(rounds)
            write_tensors(path, {"model": weights})

    def _write(self, fl_ctx: FLContext) -> None:
        rounds = self._experiment.training.rounds
        selector = self._selector_id and fl_ctx.get_engine().get_component(self._selector_id)
        chosen = {FINAL: rounds, BEST: getattr(selector, "best_round", None)}
        earlier = self._earlier(fl_ctx) if self._keep_rounds else {}
        for name, number in chosen.items():
            path = app_folder(fl_ctx) / FILES[name]
            if path.is_file():
                self._write_one(path, name, number, earlier, fl_ctx)

    def _write_one(
        self,
        path: Path,
        chosen: str,
        rounds: int | None,
        earlier: Mapping[int, Weights],
        fl_ctx: FLContext,
    ) -> None:
        state = read_tensors(path, "damaged", lambda content: dict(content["model"]))
        weights = self._translator(state)
        if weights is None:
            self.log_info(fl_ctx, f"no {path.stem}{SUFFIX}: the sites keep parts of the translator")
            return
        metrics: GlobalMetrics = fl_ctx.get_engine().get_component(self._metrics_id)
        record = training_record(
            self._experiment, self._run_name, metrics.rows, chosen, rounds, self._privacy
        )
        card = card_of(self._experiment, record, intensities_of_sites(metrics.rows))
        written = write_model(path.with_suffix(SUFFIX), ModelFile(card, weights, earlier))
        self.log_info(fl_ctx, f"'fedi2i translate --model' takes {written}")

    def _earlier(self, fl_ctx: FLContext) -> dict[int, Weights]:
        """The translators of the last rounds; their files go with the run's."""
        folder = self._folder(fl_ctx)
        found = {}
        for number in _kept(folder):
            path = folder / _ROUND_FILE.format(number)
            found[number] = read_tensors(path, _DAMAGED, lambda content: dict(content["model"]))
            path.unlink()
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        return found

    def _translator(self, state: Mapping[str, torch.Tensor]) -> Weights | None:
        translator = self._experiment.model.described.translator
        preparation = self._experiment.data.preparation
        return translator_weights(state, translator, self._experiment.model, preparation)

    def _folder(self, fl_ctx: FLContext) -> Path:
        site = site_name(fl_ctx)
        config = read_site_config(local_folder(fl_ctx))
        folder = state_folder(config, site, workspace_folder(fl_ctx)) / site
        return folder / run_key(self._run_name, fl_ctx)


def _kept(folder: Path) -> list[int]:
    """The rounds of which a folder holds the translator, in order."""
    before, after = _ROUND_FILE.split("{}")
    found = folder.glob(_ROUND_FILE.format("*"))
    return sorted(int(path.name.removeprefix(before).removesuffix(after)) for path in found)


def _aborted(fl_ctx: FLContext) -> bool:
    signal = fl_ctx.get_prop(FLContextKey.RUNNER).abort_signal
    return bool(signal.triggered) or bool(fl_ctx.get_prop(FLContextKey.FATAL_SYSTEM_ERROR, False))


def _tensors(weights: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    return {key: torch.as_tensor(np.array(value)) for key, value in weights.items()}
