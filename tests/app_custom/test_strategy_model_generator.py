from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from nvflare.apis.dxo import from_shareable
from nvflare.app_common.abstract.model import make_model_learnable
from nvflare_fakes import Engine, weights_of

from app_custom.aggregation.aggregator import Aggregator
from app_custom.checkpoints.accepted_rounds import accepted_round_of, note_accepted
from app_custom.server.strategy_model_generator import StrategyModelGenerator


@pytest.mark.parametrize("meta", [None, {}, {"kept": 1}])
def test_the_model_goes_out_with_the_round_of_each_site_that_the_server_took_last(
    meta: dict[str, Any] | None,
) -> None:
    aggregator = Aggregator({"name": "fedavg"}, min_sites=1)
    note_accepted(aggregator.memory, ["east", "west"], 3)
    note_accepted(aggregator.memory, ["east"], 4)
    engine = Engine(sites=("east", "north", "west"), components={"aggregator": aggregator})
    model = make_model_learnable(weights_of(1), meta or {})
    model["meta"] = meta  # a persistor may give none
    generator = StrategyModelGenerator("aggregator")
    sent = from_shareable(generator.learnable_to_shareable(model, engine.new_context()))
    said = {site: accepted_round_of(site, sent.meta) for site in ("east", "north", "west", "new")}
    assert said == {"east": 4, "north": -1, "west": 3, "new": -1}
    assert all(sent.get_meta_prop(name) == value for name, value in (meta or {}).items())
    np.testing.assert_array_equal(sent.data["generator.w"], weights_of(1)["generator.w"])


def test_a_model_from_elsewhere_says_nothing_about_rounds() -> None:
    assert accepted_round_of("east", {"kept": 1}) is None
