"""The server records a run in metrics.csv and as global curves in TensorBoard."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, median
from typing import Any

from nvflare.apis.analytix import AnalyticsDataType
from nvflare.apis.dxo import MetaKey, from_shareable
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import FLContextKey, ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.app_event_type import AppEventType
from nvflare.app_common.widgets.streaming import AnalyticsSender
from nvflare.widgets.widget import Widget

from app_custom.aggregation.compression import travelling_bytes
from app_custom.audit_trail import audit
from app_custom.gates.shared_metrics import TRAIN_METRICS, impossible_metrics, shared_metrics
from app_custom.gates.study_numbers import is_study_number
from app_custom.nvflare_context import peer_name, run_folder
from app_custom.participant.release import announce
from app_custom.privacy.secure_sum.key_exchange import ROUND_REPEATED
from app_custom.server.simulator import nobody_left
from fedi2i.epsilon import EPSILON, EPSILON_TOTAL, epsilon_text, with_verdict
from fedi2i.files import not_written
from fedi2i.metric_files import (
    FILE_NAME,
    RECEIVED,
    SAMPLES,
    SENT,
    TRAFFIC,
    MetricRow,
    write_metrics,
)
from fedi2i.site_names import ALL_SITES

VALIDATION, RELAY = "val/", "relay/"
METRIC_REFUSED = "metric.refused"
"""The action in the audit trail of the job."""


class GlobalMetrics(Widget):
    """Writes one row per site, round and metric, and their unweighted mean over sites (``all``).

    Of ``privacy/...`` the row ``all`` is the largest: a federation keeps what its worst site keeps.

    A validation row of round r belongs to the global model after r rounds: round 0 is the initial
    model, the last one the final model. A training row of round r belongs to the round that
    follows that model. The mean over sites is unweighted, so that large sites do not decide which
    model is best. ``traffic/...`` rows count the bytes of arrays that went to and came from a site;
    rows of site ``server``, and further rows of sites, are what the aggregator has to say.
    ``data/samples`` is the number of samples that a site states. A value that a metric cannot have
    is left out, and the site is named in the log and in the audit trail.

    In a relay every site validates what its predecessor made, so inside a round there is no global
    model to speak of: these rows are called ``relay/...``, not ``val/...``, and have no mean.

    Args:
        aggregator_id: component whose diagnostics are recorded.
        relay: whether the model goes from site to site within a round.
        compression: how arrays travel; the bytes are counted accordingly.
    """

    def __init__(
        self,
        aggregator_id: str = "aggregator",
        relay: bool = False,
        compression: str = "none",
    ) -> None:
        super().__init__()
        self._compression = compression
        self._aggregator_id = aggregator_id
        self._relay = relay
        self.rows: list[MetricRow] = []
        self._round_rows: list[MetricRow] = []
        self._sender = AnalyticsSender()
        self._evaluating = False
        self._answered = False

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Collect answers as they are accepted; write when a round or the final check is over."""
        if event_type == EventType.START_RUN:
            self._sender.engine = fl_ctx.get_engine()
            announce(fl_ctx)
        elif event_type == AppEventType.BEFORE_TRAIN_TASK:
            self._note_traffic(fl_ctx, AppConstants.TRAIN_SHAREABLE, SENT, 0)
        elif event_type == AppEventType.SEND_MODEL_FOR_VALIDATION:
            self._evaluating = True
            self._note_traffic(fl_ctx, AppConstants.MODEL_TO_VALIDATE, SENT, 1)
        elif event_type == AppEventType.AFTER_AGGREGATION:
            self._note_diagnostics(fl_ctx)
        elif event_type == AppEventType.AFTER_CONTRIBUTION_ACCEPT:
            self._note_update(fl_ctx)
        elif event_type == ROUND_REPEATED:
            # Bytes have travelled; what sites said of the round they will say again.
            self._round_rows = [row for row in self._round_rows if row[2].startswith(TRAFFIC)]
        elif event_type == AppEventType.VALIDATION_RESULT_RECEIVED:
            self._note_final(fl_ctx)
        elif event_type == AppEventType.ROUND_DONE:
            self._close_round(fl_ctx)
        elif event_type == EventType.END_WORKFLOW:
            self._close_workflow(fl_ctx)
        elif event_type == EventType.ABOUT_TO_END_RUN:
            self._fail_where_aborted(fl_ctx)

    def mean(self, metric: str, round_number: int) -> float | None:
        """Return a metric's mean over sites after a number of rounds; None if it is unknown."""
        values = [row[3] for row in self.rows if row[:3] == (ALL_SITES, round_number, metric)]
        return values[-1] if values else None

    def median(self, metric: str, round_number: int) -> float | None:
        """Return a metric's median over sites after a number of rounds; None if it is unknown.

        Models are chosen by it: unlike the mean, one site cannot decide it by what it claims.
        """
        values = self.by_site(metric, round_number)
        return median(values.values()) if values else None

    def by_site(self, metric: str, round_number: int) -> dict[str, float]:
        """Return a metric's value of each site that has reported it after a number of rounds."""
        return {
            site: value
            for site, number, name, value in [*self.rows, *self._round_rows]
            if (number, name) == (round_number, metric) and site != ALL_SITES
        }

    def add_rows(self, rows: Iterable[MetricRow]) -> None:
        """Add rows to the current round that were collected elsewhere (in a swarm)."""
        self._round_rows += rows

    def restore(self, rows: Iterable[MetricRow], fl_ctx: FLContext) -> None:
        """Take over the rows of a run that is being continued."""
        self.rows = [(str(s), int(r), str(m), float(v)) for s, r, m, v in rows]
        self._write(fl_ctx)
        self._send(self.rows)

    def _note_update(self, fl_ctx: FLContext) -> None:
        if not fl_ctx.get_prop(AppConstants.AGGREGATION_ACCEPTED):
            return
        dxo = from_shareable(fl_ctx.get_prop(AppConstants.TRAINING_RESULT))
        round_number = int(fl_ctx.get_prop(AppConstants.CURRENT_ROUND))
        prefix = RELAY if self._relay else VALIDATION
        site = peer_name(fl_ctx)
        # What a site says twice counts once: its validation comes before its training.
        claimed = {
            **_claims(dxo.get_meta_prop(TRAIN_METRICS)),
            **_claims(dxo.get_meta_prop(MetaKey.INITIAL_METRICS)),
        }
        self._note(site, round_number, claimed, fl_ctx, prefix)
        samples = float(dxo.get_meta_prop(MetaKey.NUM_STEPS_CURRENT_ROUND))
        self._round_rows.append((site, round_number, SAMPLES, samples))
        self._note_traffic(fl_ctx, AppConstants.TRAINING_RESULT, RECEIVED, 0)

    def _note_final(self, fl_ctx: FLContext) -> None:
        result: Shareable = fl_ctx.get_prop(AppConstants.VALIDATION_RESULT)
        if result.get_return_code() != ReturnCode.OK:
            return
        self._answered = True
        # A job that only evaluates has no rounds: its rows are those of round 0.
        rounds = int(fl_ctx.get_prop(AppConstants.CURRENT_ROUND, -1)) + 1
        site = fl_ctx.get_prop(AppConstants.DATA_CLIENT)
        self._note(site, rounds, _claims(from_shareable(result).data), fl_ctx)

    def _note(
        self,
        site: str,
        round_number: int,
        metrics: Mapping[str, Any],
        fl_ctx: FLContext,
        prefix: str = VALIDATION,
    ) -> None:
        """Note what a site claims; what cannot be is left out, and the site is named."""
        for impossible in impossible_metrics(metrics):
            self.log_warning(fl_ctx, f"metric of site '{site}' refused: {impossible}")
            audit(str(site), METRIC_REFUSED, impossible)
        listed = shared_metrics(metrics)
        for name in sorted(listed):
            recorded = prefix + name[len(VALIDATION) :] if name.startswith(VALIDATION) else name
            self._round_rows.append((site, round_number, recorded, listed[name]))

    def _note_traffic(self, fl_ctx: FLContext, prop: str, metric: str, rounds_later: int) -> None:
        data = from_shareable(fl_ctx.get_prop(prop)).data
        size = travelling_bytes(data, self._compression)
        round_number = int(fl_ctx.get_prop(AppConstants.CURRENT_ROUND, -1)) + rounds_later
        self._round_rows.append((peer_name(fl_ctx), round_number, metric, size))

    def _note_diagnostics(self, fl_ctx: FLContext) -> None:
        aggregator = fl_ctx.get_engine().get_component(self._aggregator_id)
        round_number = int(fl_ctx.get_prop(AppConstants.CURRENT_ROUND))
        self._round_rows += [
            (site, round_number, metric, value) for site, metric, value in aggregator.diagnostics
        ]

    def _close_workflow(self, fl_ctx: FLContext) -> None:
        """Keep the final evaluation; forget the answers of a round that was broken off.

        Traffic between the last round and the final evaluation is kept with the latter. A final
        evaluation without any site's answer is none, and ends the job with an error. An answer may
        hold no metric: a site may have no validation patients, or keep its metrics to itself.
        """
        aborted = fl_ctx.get_prop(FLContextKey.RUNNER).abort_signal.triggered
        if aborted:
            self._round_rows = []
        if self._evaluating and not self._answered and not aborted:
            self.system_panic("no site has validated the final model", fl_ctx)
        self._evaluating = self._answered = False
        if any(not metric.startswith(TRAFFIC) for _, _, metric, _ in self._round_rows):
            self._close_round(fl_ctx)

    def _fail_where_aborted(self, fl_ctx: FLContext) -> None:
        """Make an aborted run a failed one.

        NVFlare calls a run completed whose signal was triggered in its last workflow without a
        panic, as a command past the server's console does. A person's ``abort_job`` keeps its own
        status. Where a simulator's sites are all gone, ``SiteWatch`` says so.
        """
        aborted = fl_ctx.get_prop(FLContextKey.RUNNER).abort_signal.triggered
        failed = fl_ctx.get_prop(FLContextKey.FATAL_SYSTEM_ERROR, False)
        if aborted and not failed and not nobody_left(fl_ctx):
            self.system_panic("the run was aborted before its end", fl_ctx)

    def _close_round(self, fl_ctx: FLContext) -> None:
        rows = sorted(_with_sums(self._round_rows))
        means = mean_rows(rows)
        self._round_rows = []
        self.rows += [*rows, *means]
        self._write(fl_ctx)
        self._send([*rows, *means])
        self._tell_epsilon(rows, fl_ctx)
        shown = {row[2]: row[3] for row in means}
        if {"val/psnr", "val/ssim"} <= shown.keys():
            self.log_info(
                fl_ctx,
                f"global model after {means[0][1]} round(s): mean validation PSNR "
                f"{shown['val/psnr']:.2f} dB, SSIM {shown['val/ssim']:.4f}",
            )

    def _tell_epsilon(self, rows: Iterable[MetricRow], fl_ctx: FLContext) -> None:
        spent = {site: value for site, _, name, value in rows if name == EPSILON_TOTAL}
        if spent:
            sites = ", ".join(f"{site} {epsilon_text(spent[site])}" for site in sorted(spent))
            self.log_info(
                fl_ctx,
                f"privacy: epsilon that each site's ledger has spent: {sites}; at most "
                f"{with_verdict(max(spent.values()))}",
            )

    def _send(self, rows: Iterable[MetricRow]) -> None:
        """Draw the curves of all sites together, and of each site what its ledger has spent."""
        for site, round_number, name, value in rows:
            if site == ALL_SITES or name.startswith(EPSILON):
                tag = f"global/{name}" if site == ALL_SITES else f"{name}/{site}"
                self._sender.add(tag, value, AnalyticsDataType.SCALAR, global_step=round_number)

    def _write(self, fl_ctx: FLContext) -> None:
        path = run_folder(fl_ctx) / FILE_NAME
        try:
            write_metrics(path, self.rows)
        except OSError as error:
            self.system_panic(f"server: {not_written(path, error)}", fl_ctx)


def _claims(content: object) -> dict[str, Any]:
    """A site's numbers by name; what is no such table says nothing."""
    return content if isinstance(content, dict) else {}


def _with_sums(rows: Iterable[MetricRow]) -> list[MetricRow]:
    """Add up the rows of the same site's traffic in the same round; keep the other rows."""
    others: list[MetricRow] = []
    sums: dict[tuple[str, int, str], float] = {}
    for site, round_number, metric, value in rows:
        if metric.startswith(TRAFFIC):
            key = (site, round_number, metric)
            sums[key] = sums.get(key, 0.0) + value
        else:
            others.append((site, round_number, metric, value))
    return others + [(*key, value) for key, value in sums.items()]


def mean_rows(rows: Iterable[MetricRow]) -> list[MetricRow]:
    """Compute the unweighted mean over sites of every (round, metric), as site ``all``.

    Of what sites have spent of their privacy budgets it is the largest.
    Rows of a relay have none: every site measured another model. Numbers of a study have none
    either: its page weighs sites.
    """
    values: dict[tuple[int, str], list[float]] = {}
    for _, round_number, name, value in rows:
        if not (name.startswith(RELAY) or is_study_number(name)):
            values.setdefault((round_number, name), []).append(value)
    return [
        (ALL_SITES, round_number, name, max(found) if name.startswith(EPSILON) else _mean(found))
        for (round_number, name), found in sorted(values.items())
    ]


def _mean(values: Sequence[float]) -> float:
    """The mean; infinite where the sum is beyond any number, so that no other row is lost."""
    try:
        return fmean(values)
    except OverflowError:
        return math.inf
