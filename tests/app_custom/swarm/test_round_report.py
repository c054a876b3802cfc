from __future__ import annotations

from typing import Any

import pytest
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.app_common.abstract.model import make_model_learnable
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.app_event_type import AppEventType
from nvflare_fakes import Engine, train_answer, weights_of, with_peer

from app_custom.swarm.round_report import TOPIC, RoundRecord, RoundReport, record_from

SITES = ("east", "north", "south")
ROUND = 2
SIZE = float(sum(value.nbytes for value in weights_of(0).values()))


class SiteEngine(Engine):
    """A site's engine, whose server takes what it is sent, or not."""

    def __init__(self) -> None:
        super().__init__(name="north", sites=SITES)
        self.sent: list[tuple[list[str], str, Shareable]] = []
        self.receipt: Shareable | None = make_reply(ReturnCode.OK)

    def send_aux_request(self, targets: list[str], topic: str, request: Shareable, **_: Any) -> Any:
        self.sent.append((targets, topic, request))
        return {"server": self.receipt} if self.receipt else {}


class Site:
    """Site north, which aggregates the round."""

    def __init__(self, round_number: int = ROUND) -> None:
        self.engine = SiteEngine()
        self.widget = RoundReport(starting_site="north")
        ctx = self.engine.new_context()
        model = make_model_learnable(weights_of(0), {})
        ctx.set_prop(AppConstants.GLOBAL_MODEL, model, private=True, sticky=True)
        ctx.set_prop(AppConstants.CURRENT_ROUND, round_number, private=True, sticky=True)
        self.fire(AppEventType.ROUND_STARTED)

    def fire(self, event_type: str, fl_ctx: FLContext | None = None) -> None:
        self.widget.handle_event(event_type, fl_ctx or self.engine.new_context())

    def take(self, site: str, accepted: bool = True, **parts: Any) -> None:
        ctx = with_peer(self.engine.new_context(), site)
        ctx.set_prop(AppConstants.AGGREGATION_ACCEPTED, accepted, private=True, sticky=False)
        answer = train_answer(weights_of(1), round_number=ROUND, **parts)
        ctx.set_prop(AppConstants.TRAINING_RESULT, answer, private=True, sticky=False)
        self.fire(AppEventType.AFTER_CONTRIBUTION_ACCEPT, ctx)

    def report(self) -> RoundRecord:
        """What is sent before the aggregation."""
        self.fire(AppEventType.BEFORE_AGGREGATION)
        targets, topic, message = self.engine.sent[-1]
        assert (targets, topic) == (["server"], TOPIC)
        return record_from(message)


def test_the_server_is_told_every_site_s_metrics_and_the_bytes_that_travelled() -> None:
    site = Site()
    site.take("south", metrics={"val/psnr": 20.0}, train_metrics={"train/l1": 0.5})
    site.take("north", metrics={"val/psnr": 22.0})
    site.take("east")
    record = site.report()
    assert (record.round_number, record.accepted) == (ROUND, ("east", "north", "south"))
    assert record.rows == (
        ("east", "data/samples", 4.0),
        ("east", "traffic/bytes_received", SIZE),
        ("east", "traffic/bytes_sent", SIZE),
        ("north", "data/samples", 4.0),
        ("north", "traffic/bytes_received", 0.0),
        ("north", "traffic/bytes_sent", 0.0),
        ("north", "val/psnr", 22.0),
        ("south", "data/samples", 4.0),
        ("south", "traffic/bytes_received", SIZE),
        ("south", "traffic/bytes_sent", SIZE),
        ("south", "train/l1", 0.5),
        ("south", "val/psnr", 20.0),
    )


def test_no_weight_and_no_unlisted_metric_is_in_what_the_server_is_told() -> None:
    site = Site()
    site.take("south", metrics={"val/psnr": 20.0, "val/oldest_patient": 91.0})
    site.report()
    message = repr(site.engine.sent[0][2])
    assert "91" not in message
    assert "array" not in message
    assert "generator" not in message


def test_in_the_first_round_the_initial_model_went_to_all_but_the_site_that_sent_it() -> None:
    sent = {site: v for site, metric, v in Site(0).report().rows if metric == "traffic/bytes_sent"}
    assert sent == {"east": 2 * SIZE, "north": 0.0, "south": 2 * SIZE}


def test_a_refused_update_is_not_among_the_accepted_ones() -> None:
    site = Site()
    site.take("south", metrics={"val/psnr": 20.0})
    site.take("east", accepted=False, metrics={"val/psnr": 50.0})
    record = site.report()
    assert record.accepted == ("south",)
    assert ("east", "val/psnr", 50.0) not in record.rows


def test_a_new_round_forgets_the_last_one() -> None:
    site = Site()
    site.take("south", metrics={"val/psnr": 20.0})
    site.fire(AppEventType.ROUND_STARTED)
    site.take("east")
    assert site.report().accepted == ("east",)


@pytest.mark.parametrize("receipt", [None, make_reply(ReturnCode.BAD_REQUEST_DATA)])
def test_a_server_that_does_not_take_the_record_is_noted_and_training_goes_on(
    receipt: Shareable | None, caplog: pytest.LogCaptureFixture
) -> None:
    site = Site()
    site.engine.receipt = receipt
    site.report()
    assert "the server has not taken the record of round 2" in caplog.text
    assert site.engine.panics() == []
