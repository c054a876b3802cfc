from __future__ import annotations

import csv
import logging
from pathlib import Path
from typing import Any

import pytest
from nvflare.apis.dxo import DXO, DataKind
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import FLContextKey, ReturnCode
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.app_event_type import AppEventType
from nvflare_fakes import JOB, Engine, server_runner, train_answer, with_peer

from app_custom.widgets.global_metrics import FILE_NAME, GlobalMetrics, mean_rows

CURVE = "analytix_log_stats"


class Server:
    def __init__(self, root: Path, aborted: bool = False) -> None:
        self.engine = Engine(root)
        self.metrics = GlobalMetrics()
        self.file = root / JOB / FILE_NAME
        ctx = self.engine.new_context()
        ctx.set_prop(FLContextKey.RUNNER, server_runner(aborted=aborted), private=True, sticky=True)
        self.metrics.handle_event(EventType.START_RUN, ctx)

    def update(self, site: str, accepted: bool = True, **parts: Any) -> None:
        ctx = with_peer(self.engine.new_context(), site)
        ctx.set_prop(AppConstants.AGGREGATION_ACCEPTED, accepted, private=True, sticky=False)
        ctx.set_prop(AppConstants.TRAINING_RESULT, train_answer({}, **parts), private=True)
        self.metrics.handle_event(AppEventType.AFTER_CONTRIBUTION_ACCEPT, ctx)

    def start_round(self, number: int) -> None:
        self.engine.new_context().set_prop(
            AppConstants.CURRENT_ROUND, number, private=True, sticky=True
        )

    def evaluated(self, site: str, answer: Shareable) -> None:
        ctx = self.engine.new_context()
        ctx.set_prop(AppConstants.VALIDATION_RESULT, answer, private=True, sticky=False)
        ctx.set_prop(AppConstants.DATA_CLIENT, site, private=True, sticky=False)
        self.metrics.handle_event(AppEventType.VALIDATION_RESULT_RECEIVED, ctx)

    def fire(self, event_type: str) -> None:
        self.metrics.handle_event(event_type, self.engine.new_context())

    def curves(self) -> list[tuple[str, float, int]]:
        return [
            (data["DXO"]["data"]["track_key"], data["DXO"]["data"]["track_value"],
             data["DXO"]["data"]["global_step"])
            for data in self.engine.fired(CURVE)
        ]  # fmt: skip


def answer(metrics: dict[str, float]) -> Shareable:
    return DXO(DataKind.METRICS, data=metrics).to_shareable()


def written(path: Path) -> list[tuple[str, int, str, float]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return [
            (row["site"], int(row["round"]), row["metric"], float(row["value"]))
            for row in csv.DictReader(stream)
        ]


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path)


def test_a_round_writes_each_site_s_numbers_and_their_mean(server: Server) -> None:
    server.start_round(2)
    server.update("west", metrics={"val/psnr": 20.0}, train_metrics={"train/l1": 0.5})
    server.update("east", metrics={"val/psnr": 23.0}, train_metrics={"train/l1": 0.25})
    server.fire(AppEventType.ROUND_DONE)
    assert written(server.file) == [
        ("east", 2, "train/l1", 0.25),
        ("east", 2, "val/psnr", 23.0),
        ("west", 2, "train/l1", 0.5),
        ("west", 2, "val/psnr", 20.0),
        ("all", 2, "train/l1", 0.375),
        ("all", 2, "val/psnr", 21.5),
    ]


def test_large_sites_do_not_weigh_more_in_the_mean(server: Server) -> None:
    server.start_round(0)
    server.update("large", samples=1000, metrics={"val/psnr": 10.0})
    server.update("small", samples=1, metrics={"val/psnr": 20.0})
    server.fire(AppEventType.ROUND_DONE)
    assert server.metrics.mean("val/psnr", 0) == 15.0


def test_a_metric_that_one_site_lacks_is_averaged_over_the_others() -> None:
    rows = [
        ("a", 1, "val/lesion_mae", 0.5),
        ("b", 1, "val/lesion_mae", 0.25),
        ("a", 1, "val/psnr", 1.0),
        ("b", 1, "val/psnr", 2.0),
        ("c", 1, "val/psnr", 6.0),
        ("a", 2, "val/psnr", 7.0),
    ]
    assert mean_rows(rows) == [
        ("all", 1, "val/lesion_mae", 0.375),
        ("all", 1, "val/psnr", 3.0),
        ("all", 2, "val/psnr", 7.0),
    ]


def test_a_refused_update_leaves_no_number_behind(server: Server) -> None:
    server.start_round(0)
    server.update("east", metrics={"val/psnr": 20.0})
    server.update("west", accepted=False, metrics={"val/psnr": 90.0})
    server.fire(AppEventType.ROUND_DONE)
    assert {row[0] for row in written(server.file)} == {"east", "all"}
    assert server.metrics.mean("val/psnr", 0) == 20.0


def test_a_metric_that_is_not_listed_is_not_written(server: Server) -> None:
    server.start_round(0)
    server.update("east", metrics={"val/psnr": 20.0, "val/oldest_patient": 91.0})
    server.fire(AppEventType.ROUND_DONE)
    assert "oldest" not in server.file.read_text(encoding="utf-8")


def test_the_final_model_s_numbers_belong_to_the_round_after_the_last(server: Server) -> None:
    server.start_round(3)
    server.update("east", metrics={"val/psnr": 20.0})
    server.fire(AppEventType.ROUND_DONE)
    server.fire(EventType.END_WORKFLOW)
    server.evaluated("east", answer({"val/psnr": 24.0}))
    server.evaluated("west", answer({"val/psnr": 26.0}))
    server.fire(EventType.END_WORKFLOW)
    assert ("all", 4, "val/psnr", 25.0) in written(server.file)
    assert server.metrics.mean("val/psnr", 3) == 20.0
    assert server.metrics.mean("val/psnr", 4) == 25.0


def test_a_site_that_cannot_evaluate_the_final_model_is_left_out_of_its_mean(
    server: Server,
) -> None:
    server.start_round(0)
    server.evaluated("east", answer({"val/psnr": 24.0}))
    server.evaluated("west", make_reply(ReturnCode.EXECUTION_EXCEPTION))
    server.fire(EventType.END_WORKFLOW)
    assert server.metrics.mean("val/psnr", 1) == 24.0


def test_a_round_that_was_broken_off_leaves_no_rows(tmp_path: Path) -> None:
    server = Server(tmp_path, aborted=True)
    server.start_round(0)
    server.update("east", metrics={"val/psnr": 20.0})
    server.fire(EventType.END_WORKFLOW)
    assert server.metrics.rows == []


def test_an_unknown_mean_is_none(server: Server) -> None:
    assert server.metrics.mean("val/psnr", 0) is None


def test_means_go_to_tensorboard_with_their_round(server: Server) -> None:
    server.start_round(2)
    server.update("east", metrics={"val/psnr": 20.0})
    server.update("west", metrics={"val/psnr": 21.0})
    server.fire(AppEventType.ROUND_DONE)
    assert server.curves() == [("global/val/psnr", 20.5, 2)]


def test_a_round_without_ssim_is_recorded_like_any_other(server: Server) -> None:
    server.start_round(0)
    server.update("east", metrics={"val/psnr": 20.0})
    server.fire(AppEventType.ROUND_DONE)
    assert len(written(server.file)) == 2


def test_the_log_names_the_round_and_the_mean(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    server.start_round(1)
    server.update("east", metrics={"val/psnr": 20.126, "val/ssim": 0.5})
    server.fire(AppEventType.ROUND_DONE)
    expected = "global model after 1 round(s): mean validation PSNR 20.13 dB, SSIM 0.5000"
    assert expected in caplog.text


def test_restored_rows_are_written_before_the_new_ones_and_their_means_sent_again(
    server: Server,
) -> None:
    old = [("east", 0, "val/psnr", 20.0), ("all", 0, "val/psnr", 20.0)]
    server.metrics.restore([list(row) for row in old], server.engine.new_context())
    assert written(server.file) == old
    assert server.curves() == [("global/val/psnr", 20.0, 0)]
    server.start_round(1)
    server.update("east", metrics={"val/psnr": 22.0})
    server.fire(AppEventType.ROUND_DONE)
    assert written(server.file) == [
        *old,
        ("east", 1, "val/psnr", 22.0),
        ("all", 1, "val/psnr", 22.0),
    ]
