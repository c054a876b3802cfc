"""A server that dies between rounds goes on as if nothing had happened, whatever the strategy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from in_process_federation import InProcessFederation, same
from test_participation import AGGREGATED

from app_custom.checkpoints.checkpoint import FinishedRounds, RoundFiles
from lightning_modules.strategies.catalogue import STRATEGY_JOBS

MakeFederation = Callable[..., InProcessFederation]


@pytest.mark.parametrize("job", AGGREGATED)
def test_a_continued_run_equals_an_uninterrupted_one_bit_for_bit(
    make_federation: MakeFederation, job: str, tmp_path: Path
) -> None:
    changes = {"strategy": STRATEGY_JOBS[job].values, "training": {"optimizer_state": "keep"}}
    whole = make_federation(**changes).run(rounds=4)
    first = make_federation(folder="broken", **changes)
    first.run(rounds=2)
    files = RoundFiles(tmp_path / "server")
    files.save(FinishedRounds(2, first.weights, None, 0.0, [], first.aggregator.memory))

    saved = files.load()
    assert saved is not None
    second = make_federation(folder="broken", **changes)
    second.weights, second.round_number = saved.weights, saved.rounds
    second.aggregator.memory = dict(saved.memory)
    assert same(second.run(rounds=2), whole)


@pytest.mark.parametrize("job", ["fedavgm", "fedadam", "scaffold", "feddyn"])
def test_without_its_memory_the_continued_run_would_differ(
    make_federation: MakeFederation, job: str
) -> None:
    changes = {"strategy": STRATEGY_JOBS[job].values}
    whole = make_federation(**changes).run(rounds=3)
    first = make_federation(folder="broken", **changes)
    first.run(rounds=2)
    assert first.aggregator.memory
    second = make_federation(folder="broken", **changes)
    second.weights, second.round_number = first.weights, first.round_number
    assert not same(second.run(), whole)
