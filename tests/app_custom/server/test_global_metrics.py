from __future__ import annotations

import csv
import logging
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from full_disk import room_for
from nvflare.apis.dxo import DXO, DataKind
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import FLContextKey, ReturnCode
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.app_event_type import AppEventType
from nvflare.fuel.sec.audit import AuditService
from nvflare_fakes import JOB, Engine, answering, server_runner, train_answer, with_peer

from app_custom.server.global_metrics import FILE_NAME, GlobalMetrics, mean_rows

CURVE = "analytix_log_stats"


class Server:
    def __init__(self, root: Path, aborted: bool = False) -> None:
        self.engine = Engine(root)
        self.aggregator = SimpleNamespace(diagnostics=[])
        self.engine.components["aggregator"] = self.aggregator
        self.metrics = GlobalMetrics()
        self.file = root / JOB / FILE_NAME
        ctx = self.engine.new_context()
        ctx.set_prop(FLContextKey.RUNNER, server_runner(aborted=aborted), private=True, sticky=True)
        self.metrics.handle_event(EventType.START_RUN, ctx)

    def update(self, site: str, accepted: bool = True, weights: Any = None, **parts: Any) -> None:
        ctx = with_peer(self.engine.new_context(), site)
        ctx.set_prop(AppConstants.AGGREGATION_ACCEPTED, accepted, private=True, sticky=False)
        ctx.set_prop(
            AppConstants.TRAINING_RESULT, train_answer(weights or {}, **parts), private=True
        )
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

    def sent_for_validation(self, site: str) -> None:
        ctx = with_peer(self.engine.new_context(), site)
        sent = DXO(DataKind.WEIGHTS, data={}).to_shareable()
        ctx.set_prop(AppConstants.MODEL_TO_VALIDATE, sent, private=True, sticky=False)
        self.metrics.handle_event(AppEventType.SEND_MODEL_FOR_VALIDATION, ctx)

    def fire(self, event_type: str) -> None:
        self.metrics.handle_event(event_type, self.engine.new_context())

    def curves(self) -> list[tuple[str, float, int]]:
        return [
            (data["DXO"]["data"]["track_key"], data["DXO"]["data"]["track_value"],
             data["DXO"]["data"]["global_step"])
            for data in self.engine.fired(CURVE)
            if not {"traffic", "data"} & set(data["DXO"]["data"]["track_key"].split("/"))
        ]  # fmt: skip


def answer(metrics: dict[str, float]) -> Shareable:
    return DXO(DataKind.METRICS, data=metrics).to_shareable()


def written(path: Path) -> list[tuple[str, int, str, float]]:
    """All rows but those that count bytes and samples."""
    counted = ("traffic/", "data/")
    return [row for row in all_written(path) if not row[2].startswith(counted)]


def all_written(path: Path) -> list[tuple[str, int, str, float]]:
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


def test_what_sites_have_spent_is_told_with_its_verdict_and_the_worst_counts_for_all(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    server.start_round(1)
    for site, total in (("west", 2.5), ("east", 40_741.2)):
        server.update(site, metrics={"privacy/epsilon_total": total})
    server.fire(AppEventType.ROUND_DONE)
    assert (
        "privacy: epsilon that each site's ledger has spent: east 40,741, west 2.5; at most "
        "epsilon 40,741: it shows the mechanism and protects nobody"
    ) in caplog.text
    assert written(server.file)[-1] == ("all", 1, "privacy/epsilon_total", 40_741.2)
    assert set(server.curves()) == {
        ("privacy/epsilon_total/east", 40_741.2, 1),
        ("privacy/epsilon_total/west", 2.5, 1),
        ("global/privacy/epsilon_total", 40_741.2, 1),
    }


def test_the_bytes_of_arrays_to_and_from_every_site_are_counted(server: Server) -> None:
    server.start_round(2)
    model = {"generator.w": np.zeros((3, 5), np.float32), "generator.n": np.zeros(2, np.int64)}
    ctx = with_peer(server.engine.new_context(), "east")
    sent = DXO(DataKind.WEIGHTS, data=model).to_shareable()
    ctx.set_prop(AppConstants.TRAIN_SHAREABLE, sent, private=True, sticky=False)
    server.metrics.handle_event(AppEventType.BEFORE_TRAIN_TASK, ctx)
    answered = {**model, "strategy/control/generator.w": np.zeros((3, 5), np.float32)}
    server.update("east", weights=answered)
    server.fire(AppEventType.ROUND_DONE)
    rows = all_written(server.file)
    assert ("east", 2, "traffic/bytes_sent", 60.0 + 16.0) in rows
    assert ("east", 2, "traffic/bytes_received", 60.0 + 16.0 + 60.0) in rows


def test_what_the_aggregator_has_to_say_is_recorded_with_its_round(server: Server) -> None:
    server.start_round(1)
    server.aggregator.diagnostics = [
        ("server", "strategy/server_ratio_generator", 0.5),
        ("east", "fedma/moved/generator/down", 0.25),
        ("west", "fedma/moved/generator/down", 0.75),
    ]
    server.fire(AppEventType.AFTER_AGGREGATION)
    server.fire(AppEventType.ROUND_DONE)
    rows = written(server.file)
    assert ("server", 1, "strategy/server_ratio_generator", 0.5) in rows
    assert ("east", 1, "fedma/moved/generator/down", 0.25) in rows
    assert ("all", 1, "fedma/moved/generator/down", 0.5) in rows


def test_a_full_disk_ends_the_job_with_the_folder_and_what_to_do(server: Server) -> None:
    server.start_round(0)
    server.update("north", metrics={"val/psnr": 20.0})
    with room_for(10):
        server.fire(AppEventType.ROUND_DONE)
    (said,) = server.engine.panics()
    assert said == (
        f"server: {server.file.parent}: no space left on device for metrics.csv; make room and "
        "start the job again, finished rounds are kept"
    )
    assert not server.file.exists()


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


def test_in_a_relay_what_a_site_received_has_a_name_of_its_own_and_no_mean(server: Server) -> None:
    server.metrics = GlobalMetrics(relay=True)
    server.fire(EventType.START_RUN)
    server.start_round(1)
    server.update("north", metrics={"val/psnr": 20.0}, train_metrics={"train/l1": 0.5})
    server.update("east", metrics={"val/psnr": 22.0}, train_metrics={"train/l1": 0.25})
    server.fire(AppEventType.ROUND_DONE)
    server.evaluated("east", answer({"val/psnr": 23.0}))
    server.fire(EventType.END_WORKFLOW)
    assert written(server.file) == [
        ("east", 1, "relay/psnr", 22.0),
        ("east", 1, "train/l1", 0.25),
        ("north", 1, "relay/psnr", 20.0),
        ("north", 1, "train/l1", 0.5),
        ("all", 1, "train/l1", 0.375),
        ("east", 2, "val/psnr", 23.0),
        ("all", 2, "val/psnr", 23.0),
    ]


def test_rows_collected_elsewhere_are_written_with_the_round_and_have_a_mean(
    server: Server,
) -> None:
    server.start_round(0)
    server.metrics.add_rows([("west", 0, "val/psnr", 20.0), ("east", 0, "val/psnr", 22.0)])
    server.fire(AppEventType.ROUND_DONE)
    assert written(server.file) == [
        ("east", 0, "val/psnr", 22.0),
        ("west", 0, "val/psnr", 20.0),
        ("all", 0, "val/psnr", 21.0),
    ]


def test_bytes_that_go_the_same_way_in_one_round_are_one_row(server: Server) -> None:
    server.start_round(0)
    sent = "traffic/bytes_sent"
    server.metrics.add_rows(
        [("east", 0, sent, 3.0), ("west", 0, sent, 4.0), ("east", 0, sent, 5.0)]
    )
    server.fire(AppEventType.ROUND_DONE)
    assert all_written(server.file) == [
        ("east", 0, sent, 8.0),
        ("west", 0, sent, 4.0),
        ("all", 0, sent, 6.0),
    ]


def test_bytes_between_the_last_round_and_the_evaluation_are_written_with_the_latter(
    server: Server,
) -> None:
    server.start_round(0)
    server.metrics.add_rows([("east", 1, "traffic/bytes_received", 3.0)])
    server.fire(EventType.END_WORKFLOW)
    assert server.metrics.rows == []
    server.evaluated("east", answer({"val/psnr": 23.0}))
    server.fire(EventType.END_WORKFLOW)
    assert ("east", 1, "traffic/bytes_received", 3.0) in all_written(server.file)


def test_numbers_stand_under_the_name_that_the_server_knows(server: Server) -> None:
    server.start_round(0)
    answer = train_answer({}, metrics={"val/psnr": 99.0})
    ctx = answering(server.engine.new_context(), answer, "north", "east")
    ctx.set_prop(AppConstants.AGGREGATION_ACCEPTED, True, private=True, sticky=False)
    ctx.set_prop(AppConstants.TRAINING_RESULT, answer, private=True)
    server.metrics.handle_event(AppEventType.AFTER_CONTRIBUTION_ACCEPT, ctx)
    assert server.metrics.by_site("val/psnr", 0) == {"north": 99.0}


def test_the_samples_that_each_site_states_are_written(server: Server) -> None:
    server.start_round(0)
    server.update("east", samples=565, metrics={"val/psnr": 20.0})
    server.update("west", samples=79, metrics={"val/psnr": 21.0})
    server.fire(AppEventType.ROUND_DONE)
    rows = [row for row in all_written(server.file) if row[2] == "data/samples"]
    assert rows[:2] == [("east", 0, "data/samples", 565.0), ("west", 0, "data/samples", 79.0)]


@pytest.mark.parametrize("value", [9999.0, 1.7e308, -1.0, float("nan"), 10**400, "high"])
def test_a_value_that_cannot_be_is_left_out_and_its_site_is_named(
    server: Server, value: Any, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    AuditService.initialize(str(tmp_path / "audit.log"))
    server.start_round(1)
    server.update("east", metrics={"val/psnr": 20.0})
    server.update("south", metrics={"val/psnr": 21.0})
    server.update("north", metrics={"val/psnr": value}, train_metrics={"train/l1": 0.5})
    server.fire(AppEventType.ROUND_DONE)
    AuditService.close()
    AuditService.the_auditor = None
    rows = written(server.file)
    assert ("north", 1, "train/l1", 0.5) in rows
    assert ("all", 1, "val/psnr", 20.5) in rows
    assert "metric of site 'north' refused: val/psnr = " in caplog.text
    assert "[U:north][A:metric.refused]val/psnr" in (tmp_path / "audit.log").read_text()


def test_a_number_that_a_site_says_twice_counts_once(server: Server) -> None:
    server.start_round(1)
    server.update("east", metrics={"val/psnr": 20.0}, train_metrics={"val/psnr": 90.0})
    server.update("west", metrics={"val/psnr": 22.0})
    server.fire(AppEventType.ROUND_DONE)
    assert server.metrics.by_site("val/psnr", 1) == {"east": 20.0, "west": 22.0}
    assert server.metrics.mean("val/psnr", 1) == 21.0


def test_metrics_that_are_no_table_say_nothing(server: Server) -> None:
    server.start_round(1)
    server.update("east", metrics=["val/psnr", 20.0], train_metrics={7: 1.0, "train/l1": 0.5})
    server.update("west", metrics={"val/psnr": 22.0})
    server.fire(AppEventType.ROUND_DONE)
    assert server.metrics.by_site("val/psnr", 1) == {"west": 22.0}
    assert server.metrics.by_site("train/l1", 1) == {"east": 0.5}


def test_a_mean_beyond_any_number_loses_no_other_row() -> None:
    rows = [("a", 1, "fedma/x", 1.7e308), ("b", 1, "fedma/x", 1.7e308), ("a", 1, "val/psnr", 20.0)]
    assert mean_rows(rows) == [("all", 1, "fedma/x", math.inf), ("all", 1, "val/psnr", 20.0)]


def test_models_are_chosen_by_the_median_over_sites(server: Server) -> None:
    server.start_round(1)
    for site, value in {"east": 20.0, "north": 20.5, "west": 119.0}.items():
        server.update(site, metrics={"val/psnr": value})
    assert server.metrics.median("val/psnr", 1) == 20.5
    assert server.metrics.median("val/psnr", 2) is None


def test_a_final_evaluation_that_no_site_answered_ends_the_job_with_an_error(
    server: Server,
) -> None:
    server.start_round(3)
    server.sent_for_validation("east")
    server.evaluated("east", make_reply(ReturnCode.EXECUTION_EXCEPTION))
    server.fire(EventType.END_WORKFLOW)
    assert server.engine.panics() == ["no site has validated the final model"]


def test_a_final_evaluation_that_one_site_answered_ends_without_an_error(server: Server) -> None:
    server.start_round(3)
    for site in ("east", "west"):
        server.sent_for_validation(site)
    server.evaluated("east", answer({"val/psnr": 24.0}))
    server.fire(EventType.END_WORKFLOW)
    server.fire(EventType.ABOUT_TO_END_RUN)
    assert server.engine.panics() == []


def test_a_final_evaluation_may_hold_no_metric(server: Server) -> None:
    """So answer sites without validation patients, and sites that keep metrics to themselves."""
    server.start_round(3)
    server.sent_for_validation("east")
    server.evaluated("east", answer({}))
    server.fire(EventType.END_WORKFLOW)
    server.fire(EventType.ABOUT_TO_END_RUN)
    assert server.engine.panics() == []


def test_an_aborted_final_evaluation_is_no_completed_run(tmp_path: Path) -> None:
    server = Server(tmp_path, aborted=True)
    server.start_round(3)
    server.sent_for_validation("east")
    server.fire(EventType.END_WORKFLOW)
    server.fire(EventType.ABOUT_TO_END_RUN)
    assert server.engine.panics() == ["the run was aborted before its end"]


def test_a_run_that_has_failed_is_not_failed_once_more(tmp_path: Path) -> None:
    server = Server(tmp_path, aborted=True)
    ctx = server.engine.new_context()
    ctx.set_prop(FLContextKey.FATAL_SYSTEM_ERROR, True, private=True, sticky=True)
    server.fire(EventType.ABOUT_TO_END_RUN)
    assert server.engine.panics() == []
