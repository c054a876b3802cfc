"""Cyclic training: the model goes from site to site, and every site trains in its turn."""

from __future__ import annotations

from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import FLContextKey, ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.app_common.abstract.model import (
    ModelLearnable,
    ModelLearnableKey,
    make_model_learnable,
)
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.app_event_type import AppEventType
from nvflare.app_common.shareablegenerators.full_model_shareable_generator import (
    FullModelShareableGenerator,
)
from nvflare.widgets.widget import Widget

from app_custom.aggregation.received_update import UPDATE_REFUSED, model_of, update_from
from app_custom.audit_trail import audit, one_line
from app_custom.nvflare_context import contradicted_name, peer_name
from lightning_modules.combining.updates import UpdateRefusedError, check_update


class RelayRounds(Widget):
    """Tells what happens in a relay as ScatterAndGather would, and ends the job at a failure.

    NVFlare's ``CyclicController`` passes the model from site to site and tells nobody: it fires no
    events for tasks, updates and rounds, and ends neither job nor round with an error where a site
    fails. This widget translates the runner's generic events into those that our other widgets
    know, and insists on every site's turn.

    Events fired: ``BEFORE_TRAIN_TASK``, ``ROUND_DONE`` and, between rounds, ``ROUND_STARTED``. That
    an update was accepted is told by ``RelayedModelGenerator``, before NVFlare can end the round.

    Args:
        workflow_id: the relay's workflow; its training tasks are those named ``train``.
        num_rounds: rounds of the whole run.
    """

    def __init__(self, workflow_id: str, num_rounds: int) -> None:
        super().__init__()
        self._workflow_id = workflow_id
        self._num_rounds = num_rounds
        self._trained: list[str] = []

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Follow a task from its start to its answer, and a round to its end."""
        if fl_ctx.get_prop(FLContextKey.WORKFLOW) != self._workflow_id:
            return
        if event_type == AppEventType.AFTER_CONTRIBUTION_ACCEPT:
            self._trained.append(peer_name(fl_ctx))
            self.log_info(fl_ctx, f"round {_round(fl_ctx)}: trained at {', '.join(self._trained)}")
        elif event_type == AppEventType.AFTER_LEARNABLE_PERSIST:
            self._end_round(fl_ctx)
        elif fl_ctx.get_prop(FLContextKey.TASK_NAME) != AppConstants.TASK_TRAIN:
            return
        elif event_type == EventType.AFTER_TASK_DATA_FILTER:
            self.fire_event_with_data(
                AppEventType.BEFORE_TRAIN_TASK,
                fl_ctx,
                AppConstants.TRAIN_SHAREABLE,
                fl_ctx.get_prop(FLContextKey.TASK_DATA),
            )
        elif event_type == EventType.BEFORE_PROCESS_SUBMISSION:
            self._end_at_failure(fl_ctx)

    def _end_at_failure(self, fl_ctx: FLContext) -> None:
        code = fl_ctx.get_prop(FLContextKey.TASK_RESULT).get_return_code()
        if code != ReturnCode.OK:
            self.system_panic(
                f"round {_round(fl_ctx)}: site '{peer_name(fl_ctx)}' could not train ({code}); "
                "cyclic training needs every site in its turn",
                fl_ctx,
            )

    def _end_round(self, fl_ctx: FLContext) -> None:
        """NVFlare saves the model after every round, also after one that was broken off."""
        sites = {client.name for client in fl_ctx.get_engine().get_clients()}
        missing, self._trained = sorted(sites - set(self._trained)), []
        if missing:
            if not fl_ctx.get_prop(FLContextKey.RUNNER).abort_signal.triggered:
                self.system_panic(
                    f"round {_round(fl_ctx)}: no model from {', '.join(missing)}; "
                    "cyclic training needs every site in its turn",
                    fl_ctx,
                )
            return
        self.fire_event(AppEventType.ROUND_DONE, fl_ctx)
        self.log_info(fl_ctx, f"Round {_round(fl_ctx)} finished.")
        if _round(fl_ctx) + 1 < self._num_rounds:
            self.log_info(fl_ctx, f"Round {_round(fl_ctx) + 1} started.")
            self.fire_event(AppEventType.ROUND_STARTED, fl_ctx)


class RelayedModelGenerator(FullModelShareableGenerator):
    """Makes a site's checked update the model that its successor receives.

    NVFlare's own generator takes any weights as they come, and passes a site's meta data (metrics,
    number of samples) on to the next site. This one holds an update to the aggregators' rules, ends
    the job where it breaks them, since every later site would build on it, and passes on weights
    alone.

    Args:
        partial_networks: whether a site may leave out whole networks that it could not train; its
            successor then receives them as this site did.
    """

    def __init__(self, partial_networks: bool = False) -> None:
        super().__init__()
        self._partial = partial_networks

    def shareable_to_learnable(self, shareable: Shareable, fl_ctx: FLContext) -> ModelLearnable:
        """Make the update the global model; fires ``AFTER_CONTRIBUTION_ACCEPT``.

        Raises:
            UpdateRefusedError: it must not become the global model; the job has been ended.
        """
        site = peer_name(fl_ctx)
        received = dict(fl_ctx.get_prop(AppConstants.GLOBAL_MODEL)[ModelLearnableKey.WEIGHTS])
        try:
            named = contradicted_name(fl_ctx)
            if named:
                raise UpdateRefusedError(f"the site calls itself '{named}'")
            update = update_from(model_of(shareable, fl_ctx), site)
            check_update(update, received, partial=self._partial)
        except UpdateRefusedError as refused:
            audit(site, UPDATE_REFUSED, refused)
            self.system_panic(
                f"round {fl_ctx.get_prop(AppConstants.CURRENT_ROUND)}: the model from site "
                f"'{site}' is refused: {one_line(refused)}; all later sites would build on it",
                fl_ctx,
            )
            raise
        relayed = make_model_learnable({**received, **update.weights}, {})
        fl_ctx.set_prop(AppConstants.GLOBAL_MODEL, relayed, private=True, sticky=True)
        fl_ctx.set_prop(AppConstants.AGGREGATION_ACCEPTED, True, private=True, sticky=False)
        self.fire_event_with_data(
            AppEventType.AFTER_CONTRIBUTION_ACCEPT, fl_ctx, AppConstants.TRAINING_RESULT, shareable
        )
        return relayed


def _round(fl_ctx: FLContext) -> int:
    return int(fl_ctx.get_prop(AppConstants.CURRENT_ROUND))
