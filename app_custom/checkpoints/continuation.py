"""Continue an interrupted run after its last finished round.

NVFlare 2.9 keeps no snapshots of jobs, and its simulator empties the workspace when it starts.
This widget saves every finished round in the server's own state folder. When the same job is
started again by the same person and the run was not completed, ScatterAndGather or CyclicController
goes on with the next round.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from filelock import FileLock
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import FLContextKey
from nvflare.apis.fl_context import FLContext
from nvflare.app_common.abstract.model import make_model_learnable
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.app_event_type import AppEventType
from nvflare.widgets.widget import Widget

from app_custom.checkpoints.checkpoint import FinishedRounds, RoundFiles, Weights, lock_run
from app_custom.checkpoints.run_key import run_key
from app_custom.ended_jobs import add_reason
from app_custom.nvflare_context import app_folder, local_folder, site_name, workspace_folder
from app_custom.participant.site_configuration import (
    checked_run_name,
    read_site_config,
    state_folder,
)
from fedi2i.errors import UserError


class Continuation(Widget):
    """Saves finished rounds and restores them.

    Args:
        run_name: names the experiment and its sites; a job with another name is another run, and so
            is one of another submitter, for other sites or with another configuration.
        num_rounds: rounds of the whole run.
        final_workflow_id: the run is complete when this workflow has ended.
        persistor_id, metrics_id: components whose state is saved.
        selector_id, aggregator_id: the same, for workflows that have them.
    """

    def __init__(
        self,
        run_name: str,
        num_rounds: int,
        final_workflow_id: str,
        persistor_id: str,
        selector_id: str | None = None,
        metrics_id: str = "global_metrics",
        aggregator_id: str | None = None,
    ) -> None:
        super().__init__()
        self._run_name = checked_run_name(run_name)
        self._num_rounds = num_rounds
        self._final_workflow_id = final_workflow_id
        self._ids = {
            "persistor": persistor_id,
            "selector": selector_id,
            "metrics": metrics_id,
            "aggregator": aggregator_id,
        }
        self._lock: FileLock | None = None
        self._files: RoundFiles | None = None
        self._best_weights: Weights | None = None
        self._finished = 0
        self._complete = False

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Restore when the model has been loaded, save after each round, clear at the end."""
        if event_type == EventType.START_RUN:
            self._open(fl_ctx)
        elif event_type == AppEventType.INITIAL_MODEL_LOADED:
            self._restore(fl_ctx)
        elif event_type == AppEventType.GLOBAL_BEST_MODEL_AVAILABLE:
            self._best_weights = _weights(fl_ctx)
        elif event_type == AppEventType.ROUND_DONE:
            self._save(fl_ctx)
        elif event_type == EventType.END_WORKFLOW:
            self._note_completion(fl_ctx)
        elif event_type == EventType.ABOUT_TO_END_RUN:
            self._close(fl_ctx)

    def _open(self, fl_ctx: FLContext) -> None:
        try:
            config = read_site_config(local_folder(fl_ctx))
        except UserError as error:
            self.system_panic(f"server: {error}", fl_ctx)
            return
        site = site_name(fl_ctx)
        folder = state_folder(config, site, workspace_folder(fl_ctx)) / site
        key = run_key(self._run_name, fl_ctx)
        try:
            self._lock = lock_run(folder / f"{key}.lock")
        except UserError as error:
            self.system_panic(f"server: {error}", fl_ctx)
            return
        self._files = RoundFiles(folder / key)

    def _restore(self, fl_ctx: FLContext) -> None:
        if self._files is None:
            return
        try:
            finished = self._files.load()
        except UserError as error:
            self.system_panic(f"server: {error}", fl_ctx)
            return
        if finished is None:
            return
        self.log_warning(
            fl_ctx,
            f"continuing an interrupted run after {finished.rounds} of {self._num_rounds} finished "
            f"rounds; delete {self._files.folder} to start it anew",
        )
        self._finished = finished.rounds
        self._restore_models(finished, fl_ctx)
        self._component("metrics", fl_ctx).restore(finished.rows, fl_ctx)
        selector = self._component("selector", fl_ctx)
        if selector is not None:
            selector.best_round = finished.best_round
        aggregator = self._component("aggregator", fl_ctx)
        if aggregator is not None:
            aggregator.memory = dict(finished.memory)
        self._restore_controller(finished, fl_ctx)

    def _restore_controller(self, finished: FinishedRounds, fl_ctx: FLContext) -> None:
        """Tell the workflow where it stands, by the names of ScatterAndGather and CyclicController.

        Each takes from the mapping what it knows.
        """
        model = fl_ctx.get_prop(AppConstants.GLOBAL_MODEL)
        runner = fl_ctx.get_prop(FLContextKey.RUNNER)
        workflow = runner.config.workflows[runner.current_wf_index]
        workflow.controller.restore(
            {
                "current_round": finished.rounds,
                "start_round": 0,
                "num_rounds": self._num_rounds,
                "global_weights": model,
                "end_round": self._num_rounds,
                "last_learnable": model,
            },
            fl_ctx,
        )
        fl_ctx.set_prop(AppConstants.CURRENT_ROUND, finished.rounds - 1, private=True, sticky=True)

    def _restore_models(self, finished: FinishedRounds, fl_ctx: FLContext) -> None:
        """Write both model files again: the simulator has emptied the workspace."""
        persistor = self._component("persistor", fl_ctx)
        if finished.best_weights is not None:
            self._set_global_model(finished.best_weights, fl_ctx)
            persistor.handle_event(AppEventType.GLOBAL_BEST_MODEL_AVAILABLE, fl_ctx)
            self._best_weights = finished.best_weights
        learnable = self._set_global_model(finished.weights, fl_ctx)
        persistor.save(learnable, fl_ctx)

    def _set_global_model(self, weights: Weights, fl_ctx: FLContext) -> Any:
        learnable = make_model_learnable(weights, {})
        fl_ctx.set_prop(AppConstants.GLOBAL_MODEL, learnable, private=True, sticky=True)
        return learnable

    def _save(self, fl_ctx: FLContext) -> None:
        self._finished = int(fl_ctx.get_prop(AppConstants.CURRENT_ROUND)) + 1
        if self._files is None:
            return
        selector = self._component("selector", fl_ctx)
        aggregator = self._component("aggregator", fl_ctx)
        finished = FinishedRounds(
            rounds=self._finished,
            weights=_weights(fl_ctx),
            best_weights=self._best_weights,
            best_round=0 if selector is None else selector.best_round,
            rows=self._component("metrics", fl_ctx).rows,
            memory={} if aggregator is None else aggregator.memory,
        )
        try:
            self._files.save(finished)
        except UserError as error:
            # Going on would be a run that a crash takes back to its start.
            self._finished -= 1
            self.system_panic(f"server: {error}", fl_ctx)

    def _note_completion(self, fl_ctx: FLContext) -> None:
        aborted = fl_ctx.get_prop(FLContextKey.RUNNER).abort_signal.triggered
        if fl_ctx.get_prop(FLContextKey.WORKFLOW) == self._final_workflow_id and not aborted:
            self._complete = self._finished == self._num_rounds

    def _close(self, fl_ctx: FLContext) -> None:
        if self._files is None or self._lock is None:
            return
        if self._complete:
            self._files.clear()
            self.log_info(fl_ctx, f"run complete; models are in {app_folder(fl_ctx)}")
        else:
            sentence = (
                f"the run ended after {self._finished} of {self._num_rounds} rounds; start the "
                "same job again to continue with the next round"
            )
            self.log_error(fl_ctx, sentence)
            add_reason(sentence, fl_ctx)
        self._lock.release()

    def _component(self, role: str, fl_ctx: FLContext) -> Any:
        """Return the job's component with this role, or None if it has none."""
        component_id = self._ids[role]
        return component_id and fl_ctx.get_engine().get_component(component_id)


def _weights(fl_ctx: FLContext) -> Weights:
    model = fl_ctx.get_prop(AppConstants.GLOBAL_MODEL)
    return {key: np.array(value) for key, value in model["weights"].items()}
