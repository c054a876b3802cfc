"""The server's record of a run: metrics.csv and the global curves in TensorBoard."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from statistics import fmean
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

from app_custom.nvflare_context import peer_name, run_folder
from app_custom.shared_record import TRAIN_METRICS, shared_metrics
from partitions.atomic_file import replacing

FILE_NAME = "metrics.csv"
COLUMNS = ("site", "round", "metric", "value")
ALL_SITES = "all"

Row = tuple[str, int, str, float]


class GlobalMetrics(Widget):
    """Writes one row per site, round and metric, and their unweighted mean over sites (``all``).

    A validation row of round r belongs to the global model after r rounds: round 0 is the initial
    model, the last one the final model. A training row of round r belongs to the round that
    follows that model. The mean over sites is unweighted, so that large sites do not decide which
    model is best.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[Row] = []
        self._round_rows: list[Row] = []
        self._sender = AnalyticsSender()

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Collect answers as they are accepted; write when a round or the final check is over."""
        if event_type == EventType.START_RUN:
            self._sender.engine = fl_ctx.get_engine()
        elif event_type == AppEventType.AFTER_CONTRIBUTION_ACCEPT:
            self._note_update(fl_ctx)
        elif event_type == AppEventType.VALIDATION_RESULT_RECEIVED:
            self._note_final(fl_ctx)
        elif event_type == AppEventType.ROUND_DONE:
            self._close_round(fl_ctx)
        elif event_type == EventType.END_WORKFLOW:
            self._close_workflow(fl_ctx)

    def mean(self, metric: str, round_number: int) -> float | None:
        """Mean over sites of a metric after a number of rounds, or None if it is not known."""
        values = [row[3] for row in self.rows if row[:3] == (ALL_SITES, round_number, metric)]
        return values[-1] if values else None

    def restore(self, rows: Iterable[Row], fl_ctx: FLContext) -> None:
        """Take over the rows of a run that is being continued."""
        self.rows = [(str(s), int(r), str(m), float(v)) for s, r, m, v in rows]
        self._write(fl_ctx)
        self._send([row for row in self.rows if row[0] == ALL_SITES])

    def _note_update(self, fl_ctx: FLContext) -> None:
        if not fl_ctx.get_prop(AppConstants.AGGREGATION_ACCEPTED):
            return
        dxo = from_shareable(fl_ctx.get_prop(AppConstants.TRAINING_RESULT))
        round_number = int(fl_ctx.get_prop(AppConstants.CURRENT_ROUND))
        for name in (MetaKey.INITIAL_METRICS, TRAIN_METRICS):
            self._note(peer_name(fl_ctx), round_number, dxo.get_meta_prop(name) or {})

    def _note_final(self, fl_ctx: FLContext) -> None:
        result: Shareable = fl_ctx.get_prop(AppConstants.VALIDATION_RESULT)
        if result.get_return_code() != ReturnCode.OK:
            return
        rounds = int(fl_ctx.get_prop(AppConstants.CURRENT_ROUND)) + 1
        self._note(fl_ctx.get_prop(AppConstants.DATA_CLIENT), rounds, from_shareable(result).data)

    def _note(self, site: str, round_number: int, metrics: Mapping[str, Any]) -> None:
        listed = shared_metrics(metrics)
        self._round_rows += [(site, round_number, name, listed[name]) for name in sorted(listed)]

    def _close_workflow(self, fl_ctx: FLContext) -> None:
        """Keep the final evaluation; forget the answers of a round that was broken off."""
        if fl_ctx.get_prop(FLContextKey.RUNNER).abort_signal.triggered:
            self._round_rows = []
        if self._round_rows:
            self._close_round(fl_ctx)

    def _close_round(self, fl_ctx: FLContext) -> None:
        rows = sorted(self._round_rows)
        means = mean_rows(rows)
        self._round_rows = []
        self.rows += [*rows, *means]
        self._write(fl_ctx)
        self._send(means)
        shown = {row[2]: row[3] for row in means}
        if {"val/psnr", "val/ssim"} <= shown.keys():
            self.log_info(
                fl_ctx,
                f"global model after {means[0][1]} round(s): mean validation PSNR "
                f"{shown['val/psnr']:.2f} dB, SSIM {shown['val/ssim']:.4f}",
            )

    def _send(self, rows: Iterable[Row]) -> None:
        for _, round_number, name, value in rows:
            self._sender.add(
                f"global/{name}", value, AnalyticsDataType.SCALAR, global_step=round_number
            )

    def _write(self, fl_ctx: FLContext) -> None:
        with (
            replacing(run_folder(fl_ctx) / FILE_NAME) as temporary,
            temporary.open("w", newline="", encoding="utf-8") as stream,
        ):
            writer = csv.writer(stream)
            writer.writerow(COLUMNS)
            writer.writerows(self.rows)


def mean_rows(rows: Iterable[Row]) -> list[Row]:
    """Unweighted mean over sites of every (round, metric), under the site name ``all``."""
    values: dict[tuple[int, str], list[float]] = {}
    for _, round_number, name, value in rows:
        values.setdefault((round_number, name), []).append(value)
    return [
        (ALL_SITES, round_number, name, fmean(found))
        for (round_number, name), found in sorted(values.items())
    ]
