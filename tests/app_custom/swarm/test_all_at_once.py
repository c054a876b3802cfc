from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import FLContextKey
from nvflare_fakes import Engine

from app_custom.swarm.rounds import AllAtOnce


def start(**options: Any) -> list[str]:
    """Start a run of four sites; returns the reasons to end it."""
    engine = Engine(sites=("east", "north", "south", "west"))
    ctx = engine.new_context()
    ctx.set_prop(FLContextKey.ARGS, SimpleNamespace(**options), private=True, sticky=True)
    AllAtOnce().handle_event(EventType.START_RUN, ctx)
    return engine.panics()


@pytest.mark.parametrize(
    ("options", "at_once"),
    [
        ({"threads": 1, "gpu": None}, 1),
        ({"threads": 3, "gpu": None}, 3),
        ({"threads": 3, "gpu": "0"}, 3),
        ({"threads": 1, "gpu": "0,1"}, 2),
        ({"threads": 1, "gpu": "[0,1],[2,3]"}, 2),
    ],
)
def test_a_simulator_that_runs_fewer_sites_at_a_time_is_refused_with_the_way_out(
    options: dict[str, Any], at_once: int
) -> None:
    (reason,) = start(**options)
    assert f"needs all 4 sites at the same time, and this simulator runs {at_once}" in reason
    assert "'-t 4'" in reason


@pytest.mark.parametrize(
    "options",
    [
        {"threads": 4, "gpu": None},
        {"threads": 4, "gpu": "0"},
        {"threads": 1, "gpu": "0,1,2,3"},
        {"workspace": "a real server knows no threads"},
    ],
)
def test_a_run_of_all_sites_at_once_goes_on(options: dict[str, Any]) -> None:
    assert start(**options) == []
