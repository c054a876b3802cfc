"""The server of secure aggregation refuses what is no sum of this round."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from masked_federation import CODE
from masked_rounds import MakeFederation, changing
from nvflare.apis.dxo import MetaKey, from_shareable
from nvflare.apis.shareable import Shareable

from app_custom.privacy.secure_sum.aggregator import SecureAggregator
from app_custom.privacy.secure_sum.key_exchange import MASKED, OPEN
from app_custom.privacy.secure_sum.rounds import SecureRounds
from fedi2i.errors import ConfigError


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.pop(f"{MASKED}generator"), "it does not hold all networks under masks"),
        (
            lambda d: d.update({f"{MASKED}generator": d[f"{MASKED}generator"][1:]}),
            "is not 607 words of 32 bits",
        ),
        (
            lambda d: d.update({f"{MASKED}generator": d[f"{MASKED}generator"].astype(np.uint64)}),
            "is not 607 words of 32 bits",
        ),
    ],
)
def test_words_that_do_not_fit_the_model_are_refused_and_the_round_is_repeated(
    make: MakeFederation,
    caplog: pytest.LogCaptureFixture,
    change: Callable[[dict[str, Any]], Any],
    words: str,
) -> None:
    federation = make(meddle=changing("train", "west", change))
    federation.run()
    assert words in caplog.text
    assert federation.sent[-1] == (OPEN, ["east", "north", "south"])


def test_a_sum_with_a_mask_left_over_is_no_model(make: MakeFederation) -> None:
    def spoiled(data: dict[str, Any]) -> None:
        data[f"{MASKED}generator"] = data[f"{MASKED}generator"] + np.uint32(12345)

    federation = make(meddle=changing("train", "west", spoiled))
    federation.run()
    (panic,) = federation.engine.panics()
    assert panic.startswith("round 0: the sum counts 12349 sites where 4 answered")


def test_a_site_that_states_other_samples_than_it_weighs_with_is_noticed(
    make: MakeFederation,
) -> None:
    def meddle(task: str, site: str, answer: Shareable) -> Shareable:
        if (task, site) == ("train", "west"):
            dxo = from_shareable(answer)
            dxo.meta[MetaKey.NUM_STEPS_CURRENT_ROUND] = 21
            dxo.update_shareable(answer)
        return answer

    federation = make(meddle=meddle)
    federation.run()
    (panic,) = federation.engine.panics()
    assert panic.startswith("round 0: the weights in the sum are 282, and the sites stated 283")


@pytest.mark.parametrize("strategy", ["fedmedian", "krum", "trimmed_mean", "fedma", "scaffold"])
def test_a_strategy_that_must_see_single_updates_is_refused(strategy: str) -> None:
    with pytest.raises(ConfigError, match=f"'{strategy}' does not work on sums under masks"):
        SecureAggregator({"name": strategy}, 3, **CODE)


def test_rounds_of_two_sites_are_refused() -> None:
    with pytest.raises(ConfigError, match="a sum over fewer than 3 sites hides nobody"):
        SecureRounds(min_clients=2)


def test_an_aggregator_without_an_opened_sum_makes_no_model(make: MakeFederation) -> None:
    federation = make()
    with federation.engine.new_context() as ctx:
        assert federation.aggregator.aggregate(ctx) == Shareable()
    assert federation.engine.panics() == ["no sum of this round was opened"]
