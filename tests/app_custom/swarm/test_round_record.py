from __future__ import annotations

from typing import Any

import pytest
from nvflare.apis.shareable import Shareable

from app_custom.swarm.round_report import RoundRecord, record_from

ROWS = (("east", "traffic/bytes_received", 128.0), ("north", "val/psnr", 21.5))
RECORD = RoundRecord(3, ("east", "north"), ROWS)


def test_a_record_arrives_as_it_was_sent() -> None:
    assert record_from(Shareable.from_bytes(RECORD.to_shareable().to_bytes())) == RECORD


def test_a_record_is_plain_numbers_and_names() -> None:
    """No array, and nothing that NVFlare would have to import a class for."""

    def kinds(value: Any) -> set[type]:
        if isinstance(value, list):
            return set().union(*(kinds(child) for child in value))
        return {type(value)}

    assert kinds(RECORD.to_shareable()["round_record"]) == {int, float, str}


@pytest.mark.parametrize(
    "content",
    [
        None,
        [3, ["east"]],
        [3, ["east"], [["east", "val/psnr"]]],
        [3, ["east"], [["east", "val/psnr", "high"]]],
        ["third", ["east"], []],
    ],
)
def test_what_is_no_record_is_refused(content: Any) -> None:
    with pytest.raises(ValueError, match="not a record"):
        record_from(Shareable({"round_record": content}))


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        ("val/oldest_patient", 91.0),
        ("generator.w", 0.1),
        ("val/psnr", float("nan")),
        ("val/psnr", 9999.0),
    ],
)
def test_a_metric_that_is_not_on_the_list_or_no_number_is_refused(
    metric: str, value: float
) -> None:
    record = RoundRecord(0, ("east",), (("east", metric, value),))
    with pytest.raises(ValueError, match=r"not on the list of what may leave"):
        record_from(record.to_shareable())
