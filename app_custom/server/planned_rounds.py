"""ScatterAndGather for rounds that some sites miss by plan.

A site that misses a round is asked for nothing: no model goes to it and no answer is expected, as
if it had been away. What the job's meta data promise of the fewest sites of a round, and what the
aggregator checks, stays as it is.
"""

from __future__ import annotations

from typing import Any

from nvflare.apis.controller_spec import Task
from nvflare.apis.fl_context import FLContext
from nvflare.apis.signal import Signal
from nvflare.app_common.workflows.scatter_and_gather import ScatterAndGather

from app_custom.server.site_watch import MISSES_ROUND
from lightning_modules.training.participation import participation_from


class PlannedRounds(ScatterAndGather):
    """Sends every round to the sites that do not miss it, and waits for all of these.

    Waiting for fewer would make the result depend on who is faster. A site that is lost ends the
    wait, and the aggregator says whether enough have answered.

    Args:
        missing: probability that a site misses a round.
        seed: the experiment's, which decides who does.
        arguments: those of ``ScatterAndGather``.

    Raises:
        ConfigError: a probability that is none.
    """

    def __init__(self, missing: float, seed: int, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._participation = participation_from({"missing": missing}, "job argument")
        self._seed = seed

    def broadcast_and_wait(
        self,
        task: Task,
        fl_ctx: FLContext,
        targets: Any = None,
        min_responses: int = 1,
        wait_time_after_min_received: int = 0,
        abort_signal: Signal | None = None,
    ) -> None:
        """Send a round to those who take part; any other task is ScatterAndGather's own."""
        if task.name == self.train_task_name:
            targets = self._present(fl_ctx)
            min_responses = len(targets)
        super().broadcast_and_wait(
            task, fl_ctx, targets, min_responses, wait_time_after_min_received, abort_signal
        )

    def _present(self, fl_ctx: FLContext) -> list[str]:
        """The sites of the current round; says who misses it."""
        sites = [client.name for client in self._engine.get_clients()]
        number = int(self._current_round)
        there = self._participation.present(sites, self._min_clients, self._seed, number)
        missing = sorted(set(sites) - set(there))
        if missing:
            self.log_info(fl_ctx, f"round {number} is missed by plan by {', '.join(missing)}")
        self.fire_event_with_data(MISSES_ROUND, fl_ctx, MISSES_ROUND, missing)
        return list(there)
