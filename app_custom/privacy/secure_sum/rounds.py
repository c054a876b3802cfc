"""ScatterAndGather for secure aggregation: keys before the first round, one opened sum per round.

Where a site does not answer, the round is repeated with the rest: their masks belong to the smaller
set. A site that has dropped out stays out until the job ends, as sites agree to sets that shrink
and to no others.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

from nvflare.apis.controller_spec import ClientTask, Task
from nvflare.apis.dxo import DXO, DataKind, from_shareable
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import ReservedHeaderKey, Shareable
from nvflare.apis.signal import Signal
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.workflows.scatter_and_gather import ScatterAndGather

from app_custom.privacy.secure_sum.aggregator import SecureAggregator
from app_custom.privacy.secure_sum.key_exchange import (
    ANNOUNCEMENT,
    ANNOUNCEMENTS,
    ATTEMPT,
    KEPT,
    KEYS,
    OPEN,
    OPENING,
    ROSTER,
    ROUND_REPEATED,
    SUM_SITES,
    attempt,
    exchange_fault,
)
from fedi2i.errors import ConfigError, UserError
from lightning_modules.privacy.pairwise_masks import LEAST_SITES, MaskRound, keys_digest

Answers = dict[str, Any]


class SecureRounds(ScatterAndGather):
    """Exchanges keys, then has every round's sum opened, and repeated where a site is missing.

    Args:
        key_timeout: seconds for each step of the exchange and for the opening of a sum. They need
            no training; in a simulator with few threads every site starts a process for each.
        arguments: those of ``ScatterAndGather``; the aggregator is a ``SecureAggregator``.

    Raises:
        ConfigError: rounds of fewer than three sites.
    """

    def __init__(self, key_timeout: int = 600, **arguments: Any) -> None:
        super().__init__(**arguments)
        if self._min_clients < LEAST_SITES:
            raise ConfigError(
                f"min_clients is {self._min_clients}; a sum over fewer than {LEAST_SITES} sites "
                "hides nobody"
            )
        self._key_timeout = key_timeout
        self._sites: tuple[str, ...] = ()

    def control_flow(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
        """Exchange the keys; then the rounds as ScatterAndGather has them."""
        if not isinstance(self.aggregator, SecureAggregator):
            self.system_panic(f"{self.aggregator_id} is no SecureAggregator", fl_ctx)
            return
        sites = tuple(sorted(client.name for client in self._engine.get_clients()))
        if self._exchange_keys(sites, abort_signal, fl_ctx):
            self._sites = sites
            super().control_flow(abort_signal, fl_ctx)

    def broadcast_and_wait(
        self,
        task: Task,
        fl_ctx: FLContext,
        targets: Any = None,
        min_responses: int = 1,
        wait_time_after_min_received: int = 0,
        abort_signal: Signal | None = None,
    ) -> None:
        """Wait until the sum of a round is opened; any other task is ScatterAndGather's own."""
        if task.name != self.train_task_name:
            super().broadcast_and_wait(
                task, fl_ctx, targets, min_responses, wait_time_after_min_received, abort_signal
            )
            return
        while True:
            self._collect(task, min_responses, wait_time_after_min_received, abort_signal, fl_ctx)
            if abort_signal is not None and abort_signal.triggered:
                return
            rest = self._there(fl_ctx)
            if rest == self._sites:
                self._open(abort_signal, fl_ctx)
                return
            if not self._may_repeat(rest, fl_ctx):
                return

    def _collect(
        self,
        task: Task,
        min_responses: int,
        wait: int,
        abort_signal: Signal | None,
        fl_ctx: FLContext,
    ) -> None:
        """One attempt at a round: all sites of the set train, and answer for this very set."""
        sites, number = list(self._sites), int(self._current_round)
        self.aggregator.begin(self._asked(fl_ctx))
        # The model is shared by all attempts, the headers are each attempt's own.
        data = Shareable()
        data.update(task.data)
        data[ReservedHeaderKey.HEADERS] = copy.deepcopy(task.data[ReservedHeaderKey.HEADERS])
        data.set_header(SUM_SITES, sites)
        data.add_cookie(ATTEMPT, attempt(number, sites))
        trained = Task(
            name=task.name,
            data=data,
            operator=task.operator,
            props={},
            timeout=task.timeout,
            before_task_sent_cb=self._prepare_train_task_data,
            result_received_cb=self._process_train_result,
        )
        super().broadcast_and_wait(trained, fl_ctx, sites, min_responses, wait, abort_signal)

    def _there(self, fl_ctx: FLContext) -> tuple[str, ...]:
        """The sites that have answered and were not lost since: a lost one opens nothing."""
        answered = self.aggregator.answered
        return tuple(site for site in answered if not self.get_client_disconnect_time(site))

    def _may_repeat(self, rest: tuple[str, ...], fl_ctx: FLContext) -> bool:
        missing = ", ".join(sorted(set(self._sites) - set(rest)))
        least = max(self._min_clients, LEAST_SITES)
        if len(rest) < least:
            self.system_panic(
                f"round {self._current_round}: {len(rest)} site(s) answered, at least {least} are "
                f"needed; missing: {missing}",
                fl_ctx,
            )
            return False
        self.log_warning(
            fl_ctx,
            f"round {self._current_round} is repeated over {', '.join(rest)}: no usable answer "
            f"from {missing}, whose sum with the others stays closed",
        )
        self._sites = rest
        self.fire_event(ROUND_REPEATED, fl_ctx)
        return True

    def _open(self, abort_signal: Signal | None, fl_ctx: FLContext) -> None:
        said = self._ask(OPEN, Shareable(), self._sites, OPENING, abort_signal, fl_ctx)
        if abort_signal is not None and abort_signal.triggered:
            return
        try:
            self.aggregator.open(said)
        except UserError as error:
            self.system_panic(
                f"round {self._current_round}: {error}; start the same job again to continue "
                "with this round",
                fl_ctx,
            )

    def _exchange_keys(
        self, sites: tuple[str, ...], abort_signal: Signal, fl_ctx: FLContext
    ) -> bool:
        """Collect every site's key, and hand all to all; False where the job has ended."""
        if len(sites) < LEAST_SITES:
            self.system_panic(f"{len(sites)} site(s) take part; a sum needs {LEAST_SITES}", fl_ctx)
            return False
        said = self._ask(KEYS, Shareable(), sites, ANNOUNCEMENT, abort_signal, fl_ctx)
        if not self._complete(said, sites, "announced no key", abort_signal, fl_ctx):
            return False
        everything = DXO(DataKind.APP_DEFINED, data={ANNOUNCEMENTS: said}).to_shareable()
        kept = self._ask(ROSTER, everything, sites, KEPT, abort_signal, fl_ctx)
        digest = keys_digest({site: found["public_key"] for site, found in said.items()})
        agreed = {site: value for site, value in kept.items() if value == digest}
        if not self._complete(agreed, sites, "did not take the keys", abort_signal, fl_ctx):
            return False
        self.log_info(fl_ctx, f"keys of masks are agreed between {', '.join(sites)}")
        return True

    def _complete(
        self,
        found: Answers,
        sites: Sequence[str],
        fault: str,
        abort_signal: Signal,
        fl_ctx: FLContext,
    ) -> bool:
        if abort_signal.triggered:
            return False
        missing = [site for site in sites if site not in found]
        if missing:
            self.system_panic(
                f"{', '.join(missing)} {fault}, and sums under masks need all sites of the job; "
                "the reason is in that site's log",
                fl_ctx,
            )
        return not missing

    def _ask(
        self,
        name: str,
        data: Shareable,
        sites: Sequence[str],
        wanted: str,
        abort_signal: Signal | None,
        fl_ctx: FLContext,
    ) -> Answers:
        """Send one task of the exchange; returns what the sites answered, by site."""
        found: Answers = {}
        data.set_header(SUM_SITES, list(sites))
        data.set_header(AppConstants.CURRENT_ROUND, self._current_round)
        task = Task(
            name=name,
            data=data,
            timeout=self._key_timeout,
            result_received_cb=_collecting(found, wanted),
        )
        super().broadcast_and_wait(task, fl_ctx, list(sites), 0, 0, abort_signal)
        return found

    def _asked(self, fl_ctx: FLContext) -> MaskRound:
        return MaskRound(str(fl_ctx.get_job_id()), int(self._current_round), self._sites)


def _collecting(found: Answers, wanted: str) -> Callable[[ClientTask, FLContext], None]:
    """Note each site's answer; one of another form, or a refusal, counts as none."""

    def note(client_task: ClientTask, fl_ctx: FLContext) -> None:
        result = client_task.result
        if result.get_return_code() == ReturnCode.OK:
            try:
                data = from_shareable(result).data
            except ValueError:
                data = None
            if not exchange_fault(data) and wanted in data:
                found[client_task.client.name] = data[wanted]
        client_task.result = None

    return note
